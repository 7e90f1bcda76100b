import asyncio
from typing import Any

import pytest

from actors.executor.backends import patience
from actors.executor.backends.patience import TRIES, patiently
from actors.executor.backends.port import BackendError


async def waits_of(errors: list[BackendError], monkeypatch: pytest.MonkeyPatch, **more: Any) -> list[float]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def ask() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    monkeypatch.setattr(patience.asyncio, "sleep", sleep)
    assert await patiently(ask, 2.0, **more) == "done"
    return waits


def busy(status: int = 503, **more: Any) -> BackendError:
    return BackendError("overloaded", "busy", status=status, **more)


def test_what_may_pass_is_asked_for_again_when_the_backend_says(monkeypatch) -> None:
    errors = [busy(), busy(retry_after_seconds=7), busy(retry_after_seconds=900), busy(retry_after_seconds=0)]
    assert asyncio.run(waits_of(errors, monkeypatch)) == [2.0, 7.0, 30.0, 2.0], "never faster than it usually asks"


@pytest.mark.parametrize(
    ("error", "more", "asked"),
    [
        (busy(), {}, TRIES),
        (BackendError("cut_stream", "cut", status=200), {}, TRIES),
        (BackendError("cut_stream", "cut", status=200), {"once": True}, 1),
        (BackendError("connection_error", "gone"), {"once": True}, 1),
        (busy(), {"once": True}, TRIES),
        (BackendError("connection_error", "gone"), {}, TRIES),
        (BackendError("connection_error", "gone"), {"volatile": True}, 1),
        (busy(), {"volatile": True}, TRIES),
        (BackendError("account", "no", status=401), {}, 1),
        (BackendError("invalid_structure", "odd", status=200), {}, 1),
        (BackendError("server_error", "the job is gone", status=404), {}, 1),
        (BackendError("server_error", "no", status=500, should_retry=False), {}, 1),
    ],
)
def test_what_does_not_pass_is_told(error: BackendError, more: dict[str, Any], asked: int, monkeypatch) -> None:
    errors = [error] * 20
    with pytest.raises(BackendError) as caught:
        asyncio.run(waits_of(errors, monkeypatch, **more))
    assert (caught.value, 20 - len(errors)) == (error, asked)
