"""One kind of call of one protocol: how it is asked for, how it is held in its middle, and what comes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from actors.settings import BackendSettings
from messages import Chunk, JobSubmit, Model, Price, Progress, Usage
from tests.actors.executor.backends.test_wan2gp_batch import PROGRAM
from tests.e2e.system import KEY_VARIABLE, System
from tests.fakes.base import FakeServer
from tests.fakes.comfyui import FakeComfyui
from tests.fakes.ollama import FakeOllama
from tests.fakes.runpod import FakeRunpod
from tests.fakes.wan2gp import FakeWan2gp


class Folder:
    """A folder with a program that stands for Wan2GP's, in the place of a server."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="turnout-e2e-")
        self.path = Path(self._kept.name)
        self.url = self.path.as_uri()
        (self.path / "wgp.py").write_text(PROGRAM)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kept.cleanup()

    def hold(self) -> None:
        """Its next run does not end."""
        (self.path / "fate").write_text("hang")

    def runs(self) -> bool:
        """Whether a run is held."""
        return bool(self._pid())

    def kill(self) -> None:
        """End the run that is held, from outside."""
        os.kill(int(self._pid()), signal.SIGKILL)

    def calls(self) -> int:
        """How often it ran, at least."""
        return int((self.path / "seen.json").exists())

    def _pid(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.path / "running").read_text()
        return ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of call of one protocol."""

    name: str
    kind: str
    fake: Callable[[], Any]
    hold: Callable[[Any], None]
    """Makes the next call stop in its middle."""
    middle: Literal["chunk", "working", "hanging"]
    """What shows that a call is in its middle: text came, it says that it works, or the fake has begun to hang."""
    job: Mapping[str, Any]
    """The job, beside its id."""
    doing: str = ""
    """What it says that it does in its middle."""
    prepare: Callable[[Any], None] = lambda _: None
    options: Mapping[str, Any] = {}
    price: Price | None = None
    """Of a backend that is paid; absent: it is ours, and lists its models."""
    capabilities: tuple[str, ...] = ("text",)
    text: str = ""
    made: tuple[str, bytes] | None = None
    """Media type and bytes of the file; absent: none is made."""
    embeddings: tuple[tuple[float, ...], ...] = ()
    usage: Usage = Usage()
    cost: int = 0

    def submission(self, job: str) -> JobSubmit:
        """The job under this id."""
        return msgspec.convert({"prompt": "hi", "max_output_tokens": 64, **self.job, "id": job}, JobSubmit)

    def settings(self, name: str, url: str, priority: int) -> BackendSettings:
        """A backend of this case as settings would name it."""
        models = ()
        if self.price is not None:
            models = (Model(name=self.job["model"], capabilities=self.capabilities, price=self.price),)
        return BackendSettings(
            name=name, protocol=self.kind, url=url, priority=priority, local=self.price is None,
            provider="" if self.price is None else self.kind, api_key_env="" if self.price is None else KEY_VARIABLE,
            options=dict(self.options), models=models,
        )  # fmt: skip

    def is_in_the_middle(self, fake: Any, system: System, job: str) -> bool:
        """Whether the call that was held has begun its answer, as far as its protocol lets it be seen."""
        if isinstance(fake, Folder):
            return fake.runs()
        if self.middle == "chunk":
            return bool(system.told(Chunk, job))
        if self.middle == "working":
            return any(one.stage == "working" and self.doing in one.text for one in system.told(Progress, job))
        return fake.hanging > 0


def hang(fake: FakeServer) -> None:
    """The answer begins, and nothing comes any more."""
    fake.fault = "hang"


def no_end(fake: FakeRunpod) -> None:
    """Jobs are worked on for ever."""
    fake.ends = "IN_PROGRESS"


def slow_sampler(fake: FakeComfyui) -> None:
    fake.middle.clear()


class EndlessWan2gp(FakeWan2gp):
    """Its jobs do not end while it is held."""

    held = False

    def _end(self, job: dict[str, Any]) -> None:
        if not self.held:
            super()._end(job)


def hold_wan2gp(fake: EndlessWan2gp) -> None:
    fake.held = True


def embedding_model(fake: FakeOllama) -> None:
    fake.tags = {"models": [{"name": "nomic-embed-text", "model": "nomic-embed-text", "digest": "d2"}]}
    fake.shown = {"nomic-embed-text": {"capabilities": ["embedding"]}}
