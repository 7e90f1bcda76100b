"""`turnout get`: what a job made, its text on the standard output and its files in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.answer_notes import notes
from actors.console.app import play
from actors.console.files import download, showing
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.screen import OK, STDIN, Complaint, Wrong, clean, count, day_and_clock, err, one_line, out
from actors.console.tables import show
from bus import codec
from bus.bus import Bus
from messages import Analyzed, Artifact, Done, ObjectRef, Result


def get(
    job: Annotated[str, Parameter(help="Id of the job.")],
    *,
    to: Annotated[
        str | None, Parameter(name=["--to", "-o"], help="File to write, directory to write into, or `-`.")
    ] = None,
    every: Annotated[bool, Parameter(name="--all", help="All files, if there are several.", negative="")] = False,
    listing: Annotated[bool, Parameter(name="--list", help="Only show what there is.", negative="")] = False,
    force: Annotated[bool, Parameter(help="Replace files that are there.", negative="")] = False,
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], help="Do not name what was written.", negative="")
    ] = False,
    tenant: Annotated[str, Parameter(help="Whose job it is.")] = "default",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Fetch the answer of a job that has succeeded: the text as it is, files under the names they have.

    For machines it tells what there is: the text, and of each file what it is; files are written where --to says so.
    Exit codes: 0 it is there, 1 it is not (yet, any more, or not at all), 2 wrong usage, 3 no bus.
    """
    if output.machine and to == STDIN:
        raise Wrong("--to - and --output json both want the standard output", "--to FILE")
    return play(_get(job, tenant, to, where, output, every=every, listing=listing, force=force, quiet=quiet))


async def _get(
    job: str, tenant: str, to: str | None, where: Where, output: Output, *, every: bool, listing: bool, force: bool,
    quiet: bool,
) -> int:  # fmt: skip
    async with reach(where) as bus:
        await check_there(bus)
        done = await _ended(bus, tenant, job)
        result = done.result
        if result is None:
            problem = done.problem.message if done.problem else done.ending
            raise Complaint(f"{job} made nothing, it {done.ending}: {problem}", hint=f"turnout why {job}")
        if output.machine:
            if to is not None and result.artifacts and not listing:
                await _files(bus, result.artifacts, to, every=every, force=force, quiet=True)
            elif to is not None and not listing:
                await _text(bus, result, to, force=force, quiet=True)
            whole = await bus.get_object(result.ref.key) if result.ref is not None else None
            text = whole.decode("utf-8", "replace") if whole is not None else text_of(result)
            output.one(
                {"job": job, "tenant": tenant, "text": text, "result": msgspec.structs.replace(result, text=None)}
            )
            return OK
        if listing:
            _list(result, wide=output.wide)
            return OK
        if not quiet:
            _tell(result)
        if result.artifacts:
            await _files(bus, result.artifacts, to, every=every, force=force, quiet=quiet)
            text = result.text or ""
            if text.strip() and to is None:
                _print(text)
            return OK
        await _text(bus, result, to, force=force, quiet=quiet)
    return OK


async def _ended(bus: Bus, tenant: str, job: str) -> Done:
    record = await bus.last("EV", Done.channel.key_of(tenant=tenant, job=job))
    if record is not None:
        return codec.decode(Done, record.data, record.headers)
    if await bus.last("EV", Analyzed.channel.key_of(tenant=tenant, job=job)) is None:
        raise Complaint(f"there is no job {job!r} of tenant {tenant!r}", hint="`turnout jobs` lists the latest ones")
    raise Complaint(f"{job} has not ended yet", hint=f"turnout watch --job {job}")


def _list(result: Result, *, wide: bool = False) -> None:
    """What there is, a line each."""
    rows: list[tuple[str, str, str, str, str]] = []
    for one in result.artifacts:
        length = f"{one.seconds:g} s" if one.seconds else ""
        pixels = f"{one.width} x {one.height}" if one.width and one.height else ""
        size = ", ".join(part for part in (pixels, length) if part)
        kept = day_and_clock(one.expires_at)
        rows.append((clean(one.name), clean(one.ref.media_type), f"{one.ref.size_bytes:,}", size, kept))
    if result.ref:
        rows.append(("(answer)", result.ref.media_type, f"{result.ref.size_bytes:,}", "", ""))
    elif result.embeddings:
        lengths = f"{len(result.embeddings)} x {len(result.embeddings[0])}"
        rows.append(("(answer)", "application/json", "", lengths, ""))
    elif result.text or result.tool_calls:
        rows.append(("(answer)", "text/plain", f"{len((result.text or '').encode()):,}", "", ""))
    names = ("name", "type", "bytes", "size", "kept until")
    cells = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    show(cells, right=("bytes",), fold={"name": 20, "type": 12}, wide=wide)
    _tell(result)


def _tell(result: Result) -> None:
    """What is to be known of the answer besides, where it does not mix with it."""
    for note in notes(result):
        err.print(Text(one_line(note, 300), "yellow"), soft_wrap=True)


async def _files(
    bus: Bus, artifacts: tuple[Artifact, ...], output: str | None, *, every: bool, force: bool, quiet: bool
) -> None:
    """Write files; nothing is written when one of them may not be."""
    if len(artifacts) > 1 and not every:
        names = ", ".join(clean(one.name) for one in artifacts[:8])
        raise Wrong(f"the job made {len(artifacts)} files: {names}", "--all writes them all, --list shows them")
    if output == STDIN:
        if len(artifacts) > 1:
            raise Wrong("only one file can be written to the standard output", "-o DIRECTORY --all")
        with showing(quiet=True) as shown:
            for one in artifacts:
                await download(bus, one.ref, None, expires_at=one.expires_at, shown=shown)
        return
    targets = _apart([_target(one.name, output, several=len(artifacts) > 1) for one in artifacts])
    for target in targets:
        _check_free(target, force=force)
    with showing(quiet=quiet) as shown:
        for one, target in zip(artifacts, targets, strict=True):
            await download(bus, one.ref, target, expires_at=one.expires_at, shown=shown)
    if not quiet:
        for target, one in zip(targets, artifacts, strict=True):
            err.print(Text(f"{clean(str(target))}  {clean(one.ref.media_type)}, {count(one.ref.size_bytes, 'byte')}"))


def _target(name: str, output: str | None, *, several: bool) -> Path:
    """Where a file goes. Raises Wrong."""
    # The name comes from elsewhere: it must not lead out of the directory, whatever it holds.
    printable = "".join(mark for mark in name if mark.isprintable())
    plain = Path(printable.replace("\\", "/")).name.lstrip(".") or "file"
    if output is None:
        return Path(plain)
    given = Path(output)
    if given.is_dir() or output.endswith("/"):
        if not given.is_dir():
            raise Wrong(f"{output}: there is no such directory", f"mkdir -p {output}")
        return given / plain
    if several:
        raise Wrong(f"{output} is no directory, and there are several files", f"mkdir -p {output}")
    if not given.parent.is_dir():
        raise Wrong(f"{given.parent}: there is no such directory", f"mkdir -p {given.parent}")
    return given


def _apart(targets: list[Path]) -> list[Path]:
    """The same files, with a number where two would be one, on disks too that do not tell `A` from `a`."""
    taken: set[str] = set()
    found: list[Path] = []
    for target in targets:
        free, number = target, 1
        while str(free).casefold() in taken:
            number += 1
            free = target.with_name(f"{target.stem}-{number}{target.suffix}")
        taken.add(str(free).casefold())
        found.append(free)
    return found


def _check_free(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise Wrong(f"{target} is a directory")
    if not force and (target.exists() or target.is_symlink()):
        raise Complaint(f"{target} is there already", hint="--force replaces it, -o FILE writes another")


async def _text(bus: Bus, result: Result, output: str | None, *, force: bool, quiet: bool) -> None:
    """The text of an answer, its embeddings as JSON, or its tool calls, a line each."""
    target = Path(output) if output not in (None, STDIN) else None
    ref: ObjectRef | None = result.ref
    if target is not None:
        target = _target(
            "answer.txt" if not ref or ref.media_type.startswith("text/") else "answer.json", output, several=False
        )
        _check_free(target, force=force)
    if ref is not None:
        with showing(quiet=quiet or target is None) as shown:
            await download(bus, ref, target, expires_at=None, shown=shown)
        if target is None:
            _print("")
        return
    text = text_of(result)
    if target is None:
        _print(text)
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Complaint(f"{target}: {error.strerror or error}") from None
    if not quiet:
        err.print(Text(f"{clean(str(target))}  {count(len(text.encode()), 'byte')}"))


def text_of(result: Result) -> str:
    """What an event carries of an answer, as text."""
    if result.embeddings:
        return msgspec.json.encode(result.embeddings).decode()
    if result.text or not result.tool_calls:
        return result.text or ""
    return "\n".join(bytes(call).decode() for call in result.tool_calls)


def _print(text: str) -> None:
    out.file.write((clean(text) if out.is_terminal else text) + "\n")
    out.file.flush()
