"""From a routing slip to a backend's request, and from a backend's answer to the attempt's outcome. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec

from actors.executor.backends import port
from actors.executor.degrade import degraded
from messages import JobSubmit, Problem, Result, Usage, Work, adjusted

PARTIAL_CHARACTERS = 4_000
PIECE_CHARACTERS = 32_768
_FENCED: Final = re.compile(r"\s*```[\w+-]*[ \t]*\n(.*?)\s*```\s*", re.DOTALL)


def model_of(work: Work) -> str:
    """The model that really runs: the variant that the quality level names, else the granted one."""
    return work.parameters.model or work.model


def call_of(work: Work, body: bytes, *, context_tokens: int | None = None) -> port.Call:
    """The request of one attempt, degraded as it was decided. Raises msgspec.MsgspecError when the body is no submission.

    `context_tokens` is the model's limit for prompt and answer together; None: unknown.
    """
    submit = msgspec.json.decode(body, type=JobSubmit)
    needs = work.slip.needs
    call = port.Call(
        model=model_of(work),
        messages=submit.conversation,
        max_output_tokens=work.max_output_tokens,
        temperature=submit.temperature,
        stop=submit.stop,
        seed=submit.seed,
        response_format=submit.response_format,
        tools=submit.tools,
        context_tokens=needs.input_tokens + work.max_output_tokens,
    )
    return degraded(call, work.parameters.degrade, style=submit.style, context_tokens=context_tokens)


def pieces(text: str) -> list[str]:
    """A piece of an answer in parts that fit into a message, however it is written."""
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]


def weight(answer: port.Answer) -> int:
    """Characters of an answer, tool calls included."""
    return len(answer.text) + sum(len(str(call)) for call in answer.tool_calls)


def usage_of(usage: port.Usage | None) -> Usage:
    """The backend's usage as a message carries it."""
    if usage is None:
        return Usage()
    return Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens, reasoning_tokens=usage.reasoning_tokens, estimated=usage.estimated,
    )  # fmt: skip


def cost(work: Work, usage: Usage, text: str, seconds: float) -> int:
    """What an attempt of `seconds` costs in micro-dollars; tokens the backend did not report are estimated from the text.

    At an unknown price it is all that was admitted for it.
    """
    price, needs = work.price, work.slip.needs
    if price.unknown:
        return work.worst_case_microdollars
    read = usage.input_tokens if usage.input_tokens is not None else needs.input_tokens
    written = usage.output_tokens if usage.output_tokens is not None else len(text) // 4 + 1
    return price.cost(
        read, written, None if needs.asset == "text" else adjusted(needs.media, work.parameters), seconds=seconds,
        cached_tokens=usage.cached_tokens or 0, cache_write_tokens=usage.cache_write_tokens or 0,
    )  # fmt: skip


def wants_json(work: Work) -> bool:
    """Whether the answer is read as JSON."""
    return work.slip.needs.json_output or bool(work.required_fields)


def unfenced(text: str) -> str:
    """What stands between the ``` fences when they enclose all of `text`, as models write JSON that is asked for in words."""
    found = _FENCED.fullmatch(text)
    return found[1] if found else text


def fault(answer: port.Answer, work: Work) -> Problem | None:
    """What is wrong with an answer as an answer: empty, not the JSON that was asked for, or without a required field."""
    if not answer.text.strip() and not answer.tool_calls:
        return Problem(
            reason="empty", message=f"{work.backend} answered nothing (finish reason {answer.finish_reason!r})"
        )
    if answer.tool_calls or not wants_json(work):
        return None  # A tool's answer is awaited first: this is not the job's answer yet.
    value: Any = None
    try:
        value = msgspec.json.decode(unfenced(answer.text))
    except msgspec.DecodeError as error:
        if work.slip.needs.json_output:
            return Problem(
                reason="invalid_structure", message=f"{work.backend} answered no JSON although the job asks for it: {error}",
                body=answer.text[:2000],
            )  # fmt: skip
    return _lack(value, answer.text, work)


def _lack(value: object, text: str, work: Work) -> Problem | None:
    """The first required field that is absent, null or empty: requirement D2, as the seed 001 tests `state_contract`."""
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    for name in work.required_fields:
        found: Any = None if fields is None else fields.get(name)
        if found is None or found in ("", [], {}):
            what = "no JSON object" if fields is None else "JSON"
            return Problem(
                reason="missing_field", field=name, body=text[:2000],
                message=f"{work.backend} answered {what} without {name!r}, which is required of this job's answer",
            )  # fmt: skip
    return None


def problem_of(error: port.BackendError, backend: str) -> Problem:
    """A backend's error as the job's history keeps it: class, status and body whole."""
    return Problem(
        reason=error.kind, message=f"{backend}: {error.message}", status=error.status, body=error.body[:2000],
        retry_after_seconds=error.retry_after_seconds,
    )  # fmt: skip


def outcome_of(error: port.BackendError) -> str:
    """The attempt's outcome for a backend's error; a stream that broke off is a lost connection."""
    return "connection_error" if error.kind == "cut_stream" else error.kind


def result_of(answer: port.Answer, *, as_json: bool = False) -> Result:
    """The answer as events carry it; with `as_json` the JSON alone, without the fences around it."""
    calls = tuple(msgspec.Raw(msgspec.json.encode(call)) for call in answer.tool_calls)
    text = unfenced(answer.text) if as_json else answer.text
    return Result(text=text, finish_reason=answer.finish_reason, tool_calls=calls)
