"""Real providers, with the keys that the environment has: `make live`. Costs money, little and bounded; see `cloud`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from actors.executor.backends import kinds, open_backend
from actors.executor.backends.port import BackendError
from actors.executor.places import hosted_url
from messages import Done
from tests.e2e.system import System, running
from tests.live import cloud

pytestmark = pytest.mark.live
WRONG_KEY = "wrong"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("live")) as made:
        yield made


@pytest.fixture(scope="module")
def purse() -> Iterator[cloud.Purse]:
    made = cloud.Purse(os.environ)
    yield made
    print(f"\nlive tests: {made.spent / 10_000:.4f} of {made.limit / 10_000:g} cents spent")


@contextmanager
def with_key(kind: str) -> Generator[None]:
    if lacking := cloud.missing(kind, os.environ):
        pytest.skip(lacking)
    try:
        yield
    except cloud.NoRoom as error:
        pytest.skip(str(error))


def ended(system: System, work: Callable[..., Awaitable[Done]], kind: str, purse: cloud.Purse) -> Done:
    async def main() -> Done:
        return await work(system, kind, purse, os.environ)

    with with_key(kind):
        return system.do(main())


@pytest.mark.parametrize("kind", [*cloud.HOSTED, "runpod"])
def test_a_text(kind: str, system: System, purse: cloud.Purse) -> None:
    done = ended(system, cloud.text, kind, purse)
    assert len(done.attempts) == 1


def test_embeddings(system: System, purse: cloud.Purse) -> None:
    done = ended(system, cloud.embedding, "openai", purse)
    assert len(done.attempts) == 1


@pytest.mark.parametrize("kind", cloud.HOSTED)
def test_a_wrong_key_is_the_accounts_fault(kind: str, system: System) -> None:
    async def main() -> BackendError:
        url = hosted_url(kinds.kind(kind), os.environ)
        backend = open_backend(kind, url, api_key=WRONG_KEY, now=lambda: 0.0)
        try:
            with pytest.raises(BackendError) as caught:
                await backend.discover()
        finally:
            await backend.close()
        return caught.value

    with with_key(kind):
        error = system.do(main())
    assert error.kind == "account", error.message
    assert error.retry == "account"
