"""Whatever bytes a server answers with, an adapter yields items or raises BackendError, and nothing else.

What is answered is what the protocol's fake says to the same question, altered: so it goes deep, and wrong where it hurts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from actors.executor.backends import kinds, port
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import Artifact, BackendError, Call
from actors.executor.backends.wire import Wire
from tests.actors.executor.backends import test_comfyui as comfyui
from tests.actors.executor.backends import test_gemini as gemini
from tests.actors.executor.backends import test_openai_conformance as openai
from tests.actors.executor.backends import test_runpod as runpod
from tests.actors.executor.backends.conformance import KEY, Rig
from tests.actors.executor.backends.recording import Altered, Recorder, Recording, Said, foreign_of
from tests.actors.executor.backends.test_anthropic import AnthropicRig
from tests.actors.executor.backends.test_gemini_video import VideoRig
from tests.actors.executor.backends.test_llama_cpp import LlamaRig
from tests.actors.executor.backends.test_llama_cpp_python import PythonRig
from tests.actors.executor.backends.test_lm_studio import LmStudioRig
from tests.actors.executor.backends.test_ollama import OllamaRig
from tests.actors.executor.backends.test_vllm import VllmRig
from tests.actors.executor.backends.test_wan2gp import VideoRig as Wan2gpRig
from tests.fakes.lm_studio import EMBEDDING as STUDIO_EMBEDDING
from tests.fakes.openai import EMBEDDING

SECONDS = 0.4
"""So long one adapter is asked: those that look again and again at what is not ready would do so for ever."""
QUICK: Mapping[str, Mapping[str, Any]] = {"comfyui": {"reconnect_seconds": 0.1}}
REFUSED = ("error_inside", "bad_request", "rate_limited")
"""Faults whose words are altered, too."""
OTHERS = ("discover", "health", "recognise", "count", "load", "unload")


def embedding(model: str) -> Call:
    return Call(model=model, asset="embedding", messages=(), max_output_tokens=1, texts=("a", "bc"))


RIGS: Mapping[str, tuple[tuple[type[Rig], Call], ...]] = {
    "ollama": ((OllamaRig, OllamaRig.call),),
    "lm_studio": ((LmStudioRig, LmStudioRig.call), (LmStudioRig, embedding(STUDIO_EMBEDDING))),
    "comfyui": ((comfyui.ComfyRig, comfyui.CALL),),
    "wan2gp": ((Wan2gpRig, Wan2gpRig.call),),
    "llama_cpp": ((LlamaRig, LlamaRig.call),),
    "vllm": ((VllmRig, VllmRig.call),),
    "llama_cpp_python": ((PythonRig, PythonRig.call),),
    "anthropic": ((AnthropicRig, AnthropicRig.call),),
    "gemini": tuple((rig, rig.call) for rig in (gemini.TextRig, gemini.ImageRig, VideoRig)),
    "runpod": tuple((rig, rig.call) for rig in (runpod.TextRig, runpod.ImageRig)),
    "openai": (
        *((rig, rig.call) for rig in (openai.ChatRig, openai.ResponsesRig, openai.PictureRig)),
        (openai.ChatRig, embedding(EMBEDDING)),
    ),
}
"""Ways to ask every kind that is a server; `wan2gp_batch` is a program of this machine."""


class Way(msgspec.Struct, frozen=True):
    """One thing that an adapter is asked, and what its fake says to it."""

    what: str
    rig: type[Rig]
    call: Call
    kept: Recording
    came: tuple[str, ...]
    """What came of it: kinds of items, or what was asked; nothing: it was refused."""


async def asked(rig: type[Rig], url: str, call: Call, what: str) -> list[str]:
    """Open an adapter and ask it once; the names of what comes. Raises BackendError."""
    kind = kinds.kind(rig.kind)
    options = {**rig.options, **QUICK.get(rig.kind, {})}
    connection = Connection(url=kind.address(url), api_key=KEY, now=lambda: 0.0, options=options)
    adapter = kinds.open_kind(kind, connection)
    try:
        if what == "run":
            return await run(adapter, call)
        if what == "discover":
            assert isinstance(await adapter.discover(), tuple)
        elif what == "recognise" and kind.recognise is not None:
            wire = Wire(connection, auth=kind.auth)
            try:
                await kind.recognise(wire)
            finally:
                await wire.close()
        elif what == "count" and isinstance(adapter, port.Counts):
            counted = await adapter.count(call)
            assert counted is None or counted >= 0
        elif what in ("load", "unload") and isinstance(adapter, port.Switch):
            await (adapter.load(call.model) if what == "load" else adapter.unload(call.model))
        else:
            assert isinstance(await adapter.health(), port.Vitals)
        return [what]
    finally:
        await adapter.close()


async def run(adapter: port.Backend, call: Call) -> list[str]:
    """Run a call to its end: items, and then one answer."""
    came: list[str] = []
    async with contextlib.aclosing(adapter.run(call)) as items:
        async for item in items:
            assert "Answer" not in came, "an answer comes last"
            came.append(type(item).__name__)
            if isinstance(item, Artifact):
                item.file.close()
    assert came[-1:] == ["Answer"], "an answer, or an error"
    return came


async def kept(rig: type[Rig], call: Call, what: str, fault: str | None = None) -> Way:
    """What the fake says to this."""
    async with rig.fake() as fake:
        fake.fault = fault
        origin = fake.url.removesuffix(fake.path)
        async with Recorder(origin) as recorder:
            try:
                came = await asked(rig, recorder.url + fake.path, call, what)
            except BackendError:
                assert fault or what in ("load", "unload"), "some servers keep what they were started for"
                came = []
            return Way(what, rig, call, recorder.kept, tuple(came))


@functools.cache
def ways(kind: str) -> tuple[Way, ...]:
    """Everything that adapters of a kind are asked."""

    async def main() -> tuple[Way, ...]:
        runs = [await kept(rig, call, "run") for rig, call in RIGS[kind]]
        rig, call = RIGS[kind][0]
        faults = [await kept(rig, call, "run", fault) for fault in REFUSED if fault in rig.faults]
        return (*runs * 3, *faults, *[await kept(rig, call, what) for what in OTHERS])

    return asyncio.run(main())


@functools.cache
def foreign() -> tuple[Said, ...]:
    """What the usual calls of all kinds are answered with."""
    return foreign_of({f"{kind} {number}": way.kept for kind in RIGS for number, way in enumerate(ways(kind))})


def examined(kind: str, examples: int) -> Callable[[], None]:
    """The property of one kind's adapter, over so many examples."""
    others = foreign()

    def main() -> None:
        with asyncio.Runner() as runner:
            server = runner.run(Altered().__aenter__())

            @settings(max_examples=examples, database=None)
            @given(st.sampled_from(ways(kind)), st.integers(0, 2**32))
            def holds(way: Way, seed: int) -> None:
                async def ask() -> None:
                    with contextlib.suppress(BackendError, TimeoutError):  # A timeout is ours: it still waits.
                        async with asyncio.timeout(SECONDS):
                            await asked(way.rig, server.url + way.rig.fake.path, way.call, way.what)

                server.say(way.kept, seed, others)
                try:
                    runner.run(ask())
                finally:
                    note(repr(server.said))

            try:
                holds()
            finally:
                runner.run(server.__aexit__())

    return main


@pytest.mark.parametrize("kind", RIGS)
def test_an_adapter_raises_nothing_but_its_own_error(kind: str) -> None:
    examined(kind, 60)()


@pytest.mark.soak
@pytest.mark.parametrize("kind", RIGS)
def test_an_adapter_raises_nothing_but_its_own_error_for_long(kind: str) -> None:
    examined(kind, 10_000)()


@pytest.mark.parametrize("kind", RIGS)
def test_what_is_altered_goes_well_as_it_was_said(kind: str) -> None:
    told = ways(kind)

    async def main() -> None:
        async with Altered() as server:
            for way in told:
                if way.came:
                    server.say(way.kept, 0, share=0.0)
                    came = await asked(way.rig, server.url + way.rig.fake.path, way.call, way.what)
                    assert set(came) == set(way.came)

    asyncio.run(main())
