"""Calls to a Wan2GP without a server: one run of `python wgp.py --process` for each call, which loads the model every time.

For those who can't start its MCP server (see `wan2gp`), which keeps the model in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from actors.executor.backends.artifacts import artifact_of, collected, handed
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import job_failure
from actors.executor.backends.files import LIMIT_BYTES, File
from actors.executor.backends.kinds import Kind
from actors.executor.backends.port import (
    CANCEL_SECONDS,
    Answer,
    Artifact,
    BackendError,
    Call,
    Item,
    Offer,
    Step,
    Usage,
    Vitals,
    begun,
)
from actors.executor.backends.sniff import ENDINGS
from actors.executor.recipes.choosing import capabilities_of, chosen, filled, known, seed_for
from actors.executor.recipes.fitting import Fitted, matches
from actors.executor.recipes.loading import Collected

_STATUS: Final = re.compile(r"\[(\d+)/(\d+)\]\s*(?:Prompt \d+/\d+ - )?([^|\r\n]*)")
_SECRET: Final = re.compile(r"(?i)key|token|secret|passw|credential|webhook")
_ELSEWHERE: Final = re.compile(r"://|^[\\/]|^[A-Za-z]:|(?:^|[\\/])\.\.(?:[\\/]|$)")
_LINE_BYTES: Final = 64 * 1024
_KEPT: Final = 20
_RAISED: Final = re.compile(r"\b\w*(?:Error|Exception)\b")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    models: tuple[str, ...] = ()
    """Wan2GP's names of the models whose files are there; what is missing it would download, which takes up to hours."""
    python: str = "python"
    """The interpreter of Wan2GP's own environment; a path, or a name to look for."""
    arguments: tuple[str, ...] = ()
    """More arguments of `wgp.py`: `--profile`, `4`."""
    recipes: tuple[str, ...] = ()
    """Folders with recipes of one's own."""


class Wan2gpBatch:
    """A folder with Wan2GP. Runs one call at a time: it takes the whole GPU."""

    tells_begun = True

    def __init__(self, root: Path, options: Options, with_recipes: Collected) -> None:
        self._root, self._options = root, options
        self._recipes, self._faults = with_recipes.recipes, with_recipes.faults
        self._turn = asyncio.Lock()

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield how far it is, then the files, then the answer."""
        seed = seed_for(call)
        fitting = [recipe for recipe in self._recipes if matches(call.model, recipe.models)]
        recipe = chosen(fitting, call, "Wan2GP")
        with tempfile.TemporaryDirectory(prefix="turnout-wan2gp-", ignore_cleanup_errors=True) as folder:
            place = Path(folder)
            given = {one.name: str(_kept(place, one.name, one.media_type, one.data)) for one in call.inputs}
            # Which ones are there it does not tell; those that lie elsewhere it would fetch.
            loras = tuple(name for name in call.media.loras if not _ELSEWHERE.search(name))
            fitted = Fitted(recipe=recipe, models=(call.model,), loras=loras)
            body = filled(fitted, call, seed=seed, files=given)
            (place / "job.json").write_bytes(msgspec.json.encode(body))
            (place / "out").mkdir()
            if self._turn.locked():
                yield Step(stage="queued")
            async with self._turn:
                yield Step(stage="loading")
                async with contextlib.aclosing(self._process(place)) as steps:
                    async for step in steps:
                        yield step
            with handed(_made(place / "out")) as made:
                for artifact in made:
                    yield artifact
        yield Answer(text="", finish_reason="stop", model=call.model, usage=Usage(), seed=seed)

    async def health(self) -> Vitals:
        """How it is: its program and its Python are there. Only a call shows more."""
        if not (self._root / "wgp.py").is_file():
            raise BackendError("connection_error", f"there is no wgp.py in {self._root}")
        if shutil.which(self._options.python, path=os.environ.get("PATH")) is None:
            raise BackendError("connection_error", f"options.python: {self._options.python!r} can't be run")
        return Vitals(slots=1, notes=self._faults)

    async def discover(self) -> tuple[Offer, ...]:
        """The models that the settings name, each with what its recipes make."""
        offers: list[Offer] = []
        for model in dict.fromkeys(self._options.models):
            made = {one for recipe in self._recipes if matches(model, recipe.models) for one in capabilities_of(recipe)}
            if made:
                offers.append(Offer(model=model, capabilities=tuple(sorted(made))))
        return tuple(offers)

    async def close(self) -> None:
        """Nothing is open between calls."""

    async def _process(self, place: Path) -> AsyncGenerator[Step, None]:
        """Run the job in `place`. Raises BackendError when it did not go well."""
        command = (
            self._options.python, "wgp.py", "--process", str(place / "job.json"), "--output-dir", str(place / "out"),
            *self._options.arguments,
        )  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=self._root, env=_environment(os.environ), stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BackendError("connection_error", f"Wan2GP can't be run: {error.strerror or error}") from error
        begun()
        said: list[str] = []
        try:
            share = 0.0
            async with contextlib.aclosing(_lines(process)) as lines:
                async for line in lines:
                    step = step_in(line, share)
                    if step is None:
                        said = [*said[-_KEPT:], line]
                        continue
                    share = step.share or share
                    yield step
            code = await process.wait()
        finally:
            if process.returncode is None:
                await asyncio.shield(_end(process))
        if (problem := problem_in(code, said)) is not None:
            raise problem


def step_in(line: str, before: float) -> Step | None:
    """How far it is by a line of its output, or None when the line is something else."""
    found = _STATUS.match(line.strip())
    if found is None or not int(found[2]):
        return None
    share = min(1.0, max(before, int(found[1]) / int(found[2])))
    phase = found[3].strip()
    words = f"step {found[1]} of {found[2]}" + (f", {phase}" if phase else "")
    return Step(stage="loading" if "oading" in phase else "working", share=share, text=words)


def problem_in(code: int, said: list[str]) -> BackendError | None:
    """What went wrong by its exit code and its last lines; None: nothing. What it skips it does not call a failure."""
    text = "\n".join(said)
    skipped = next((line for line in said if "[SKIP]" in line), "")
    if code == 0 and not skipped:
        return None
    why = [skipped] if skipped else [line for line in said if _RAISED.search(line)] or said[-1:] or ["it said nothing"]
    where = f"Wan2GP ended with exit code {code}"
    return job_failure("\n".join(why), where, refused=bool(skipped), body=text[-2_000:])


async def _lines(process: asyncio.subprocess.Process) -> AsyncGenerator[str, None]:
    """Its output line by line; a status line ends with a carriage return."""
    assert process.stdout is not None
    rest = b""
    while data := await process.stdout.read(_LINE_BYTES):
        *lines, rest = re.split(rb"[\r\n]+", (rest + data)[-_LINE_BYTES:])
        for line in lines:
            if line.strip():
                yield line.decode("utf-8", "replace")
    if rest.strip():
        yield rest.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, and end it with all that it started if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):  # The second is also for what the program itself left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS / 2):
                await process.wait()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours without what looks like a secret: it is another's program."""
    return {name: value for name, value in ours.items() if not _SECRET.search(name)}


def _kept(place: Path, name: str, media_type: str, data: bytes) -> Path:
    path = place / (re.sub(r"\W", "_", name) + ENDINGS.get(media_type, ""))
    path.write_bytes(data)
    return path


def _made(folder: Path) -> list[Artifact]:
    """The files in its folder. Raises BackendError when there is none, or one can't be read: it may skip a task and still end
    well.
    """
    with collected() as made:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink() or path.suffix in (".json", ".txt"):
                continue
            if path.stat().st_size > LIMIT_BYTES:
                raise BackendError("invalid_structure", f"Wan2GP made a file of more than {LIMIT_BYTES} bytes")
            made.append(artifact_of(read_file(path), path.name))
    if not made:
        raise BackendError("empty", "Wan2GP ended well and made no file")
    return made


def read_file(path: Path) -> File:
    """What lies at `path`. Raises BackendError when it can't be read."""
    file = File()
    try:
        with path.open("rb") as source:
            while piece := source.read(1 << 20):
                file.write(piece)
    except (OSError, ValueError) as error:
        file.close()
        raise BackendError("server_error", f"a file that Wan2GP made can't be read: {error}") from error
    return file


def _address(url: str) -> str:
    """The folder as a `file:` URL, however it was written. Raises ValueError naming the field and the value."""
    path = unquote(urlsplit(url).path) if url.startswith("file:") else url
    if not path.startswith("/"):
        raise ValueError(f"url: {url!r} must name Wan2GP's folder, as in file:///opt/Wan2GP")
    return Path(path).as_uri()


def _open(connection: Connection, options: Options) -> Wan2gpBatch:
    root = Path(unquote(urlsplit(connection.url).path))
    return Wan2gpBatch(root, options, known("wan2gp", options.recipes))


KIND: Final = Kind(
    name="wan2gp_batch",
    title="Wan2GP, one program for each job",
    open=_open,
    address=_address,
    options=Options,
    slots=1,
)
