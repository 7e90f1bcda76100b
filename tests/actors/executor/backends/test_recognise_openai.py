"""Servers that all speak OpenAI's protocol are told apart, asked in the order of the kinds."""

from typing import Any

import pytest

from actors.executor.backends.connection import Connection
from actors.executor.backends.kinds import kind, names
from actors.executor.backends.port import BackendError
from actors.executor.backends.wire import Wire
from tests.fakes.llama_cpp import FakeLlamaCpp
from tests.fakes.llama_cpp_python import FakeLlamaCppPython
from tests.fakes.lm_studio import FakeLmStudio
from tests.fakes.openai import FakeOpenAI
from tests.fakes.vllm import FakeVllm

FAMILY = ("lm_studio", "llama_cpp", "vllm", "llama_cpp_python", "openai")


def test_the_general_one_is_asked_last() -> None:
    assert tuple(name for name in names() if name in FAMILY) == FAMILY


@pytest.mark.parametrize(
    ("fake", "name"),
    [
        (FakeLmStudio, "lm_studio"),
        (FakeLlamaCpp, "llama_cpp"),
        (FakeVllm, "vllm"),
        (FakeLlamaCppPython, "llama_cpp_python"),
        (FakeOpenAI, "openai"),
    ],
)
def test_each_is_recognised_for_what_it_is(run, fake: Any, name: str) -> None:
    async def main() -> None:
        async with fake() as server:
            found = [each for each in FAMILY if await speaks(each, server.url) is not None]
            assert found[0] == name
            assert set(found) <= {name, "openai"}

    run(main())


async def speaks(name: str, url: str) -> str | None:
    this = kind(name)
    assert this.recognise is not None
    wire = Wire(Connection(url=this.address(url), api_key="some-key", now=lambda: 0.0), auth=this.auth)
    try:
        return await this.recognise(wire)
    except BackendError:
        return None
    finally:
        await wire.close()
