"""From flags, standard input or a JSON Lines file to submissions; what is wrong is named before anything is sent. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from actors.console.screen import Wrong, one_line
from messages import JobSubmit

MOST_FAULTS = 10
MAX_ID = 128
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_PATH = re.compile(r" - at `\$\.?([^`]*)`")


def job_of(fields: Mapping[str, Any]) -> JobSubmit:
    """A submission from its fields. Raises ValueError that names the field, the value and what would be right."""
    try:
        job = msgspec.convert(dict(fields), JobSubmit, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(in_words(str(error), fields)) from None
    instead = job.messages or job.graph or job.texts or job.recipe
    if not job.prompt.strip() and not instead:
        raise ValueError("prompt: it is missing; write what should be generated, in prompt or in messages")
    if job.prompt and job.messages:
        raise ValueError("prompt: give either prompt or messages, not both")
    if len(job.id) > MAX_ID:
        raise ValueError(f"id: it has {len(job.id)} characters; use at most {MAX_ID}")
    return job


def in_words(fault: str, fields: Mapping[str, Any]) -> str:
    """A decoder's complaint with the field first, its value, and the nearest name for an unknown one."""
    unknown = _UNKNOWN.search(fault)
    if unknown:
        known = JobSubmit.__struct_fields__
        close = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{unknown[1]}: it is not a field of a job; {hint}"
    path = _PATH.search(fault)
    if not path:
        return fault
    field, why = path[1], _PATH.sub("", fault)
    value = fields.get(field)
    return f"{field}: {why}" + (f" (it is {one_line(repr(value), 60)})" if value is not None else "")


def jobs_of_lines(lines: Iterable[str], defaults: Mapping[str, Any], source: str) -> list[JobSubmit]:
    """The jobs of a JSON Lines file; `defaults` fill what a line leaves open. Empty lines are left out.

    Raises Wrong that names every bad line (the first ten) by number and field.
    """
    jobs: list[JobSubmit] = []
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for number, fields in _objects(lines, faults):
        try:
            job = job_of({**defaults, **fields})
        except ValueError as error:
            faults.append(f"line {number}: {error}")
            continue
        key = (job.tenant, job.id)
        if job.id and key in seen:
            faults.append(f"line {number}: id: {job.id!r} is used in line {seen[key]} already; ids must differ")
            continue
        seen[key] = number
        jobs.append(job)
    if faults:
        more = f"\n  … and {len(faults) - MOST_FAULTS:,} more" if len(faults) > MOST_FAULTS else ""
        listed = "\n  ".join(faults[:MOST_FAULTS])
        text = f"{source}: {len(faults)} bad line{'s' if len(faults) > 1 else ''}, nothing was sent\n  {listed}{more}"
        raise Wrong(text, 'one JSON object per line, such as {"prompt": "hello", "max_output_tokens": 50}')
    if not jobs:
        raise Wrong(f"{source}: there is no job in it", 'one JSON object per line, such as {"prompt": "hello"}')
    return jobs


def _objects(lines: Iterable[str], faults: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects with their line numbers; what is none is noted as a fault."""
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("\ufeff")
        if not text:
            continue
        try:
            value: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            faults.append(f"line {number}: it is no JSON: {error}: {one_line(text, 60)}")
            continue
        if not isinstance(value, dict):
            faults.append(f"line {number}: it is no JSON object: {one_line(text, 60)}")
            continue
        yield number, value


def microdollars(text: str | float, flag: str = "--max-cost") -> int:
    """Dollars as people write them (`0.05`, `$0.05`) in micro-dollars. Raises Wrong that names the flag."""
    try:
        value = float(str(text).strip().removeprefix("$"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise Wrong(f"{flag} is {text!r}: give dollars, 0 or more, for example 0.05")
    return round(value * 1e6)


def graph_of(name: str) -> dict[str, Any]:
    """A ComfyUI graph in API form, from a file. Raises Wrong."""
    try:
        value: Any = msgspec.json.decode(Path(name).read_bytes())
    except OSError as error:
        raise Wrong(f"{name}: {error.strerror or error}", "--graph FILE names a ComfyUI graph in API form") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Wrong(f"{name}: it is no JSON: {error}", "--graph FILE names a ComfyUI graph in API form") from None
    if not isinstance(value, dict) or not value:
        raise Wrong(f"{name}: it is no graph: {one_line(str(cast('object', value)), 60)}", _EXPORT)
    graph = cast("dict[str, Any]", value)
    if isinstance(graph.get("nodes"), list):
        raise Wrong(f"{name}: it is a graph in the form of ComfyUI's editor", _EXPORT)
    return graph


def texts_of(name: str) -> list[str]:
    """The texts of a file: a JSON list of strings, else its lines that are not empty. Raises Wrong."""
    try:
        raw = Path(name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Wrong(f"{name}: {error.strerror or error}", "--texts FILE names a file with texts") from None
    except UnicodeDecodeError as error:
        raise Wrong(f"{name}: it is not UTF-8 text: {error}") from None
    texts = [line for line in raw.splitlines() if line.strip()]
    if raw.lstrip().startswith("["):
        try:
            texts = msgspec.json.decode(raw, type=list[str])
        except msgspec.DecodeError as error:
            raise Wrong(f"{name}: it begins as a JSON list, and is no list of texts: {error}") from None
    if not texts:
        raise Wrong(f"{name}: there is no text in it", "one text a line, or a JSON list of strings")
    return texts


_EXPORT = "export it from ComfyUI with `Export (API)`"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def span(text: str) -> float:
    """A span of time in seconds: `90`, `90s`, `2m`, `1h`. Raises Wrong."""
    found = _SPAN.match(text.strip())
    value = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if value <= 0:
        raise Wrong(f"--deadline is {text!r}: give seconds above 0, or 90s, 2m, 1h")
    return value
