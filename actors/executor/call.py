"""From a routing slip to a backend's request, and from a backend's answer to the attempt's outcome. Pure."""

from __future__ import annotations

import msgspec

from actors.executor.backends import port
from messages import JobSubmit, Price, Problem, Result, Usage, Work

PARTIAL_CHARACTERS = 4_000
PIECE_CHARACTERS = 32_768


def call_of(work: Work, body: bytes) -> port.Call:
    """The request of one attempt. Raises msgspec.MsgspecError when the body is no submission."""
    submit = msgspec.json.decode(body, type=JobSubmit)
    needs = work.slip.needs
    return port.Call(
        model=work.model,
        messages=submit.conversation,
        max_output_tokens=work.max_output_tokens,
        temperature=submit.temperature,
        stop=submit.stop,
        seed=submit.seed,
        response_format=submit.response_format,
        tools=submit.tools,
        context_tokens=needs.input_tokens + work.max_output_tokens,
    )


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
        reasoning_tokens=usage.reasoning_tokens, estimated=usage.estimated,
    )  # fmt: skip


def cost(usage: Usage, price: Price, *, input_estimate: int, text: str) -> int:
    """What an answer costs in micro-dollars; tokens the backend did not report are estimated from the text."""
    read = usage.input_tokens if usage.input_tokens is not None else input_estimate
    written = usage.output_tokens if usage.output_tokens is not None else len(text) // 4 + 1
    return price.cost(read, written)


def fault(answer: port.Answer, work: Work) -> Problem | None:
    """What is wrong with an answer as an answer: empty, or not the JSON that was asked for."""
    if not answer.text.strip() and not answer.tool_calls:
        return Problem(
            reason="empty", message=f"{work.backend} answered nothing (finish reason {answer.finish_reason!r})"
        )
    if work.slip.needs.json_output and not answer.tool_calls:
        try:
            msgspec.json.decode(answer.text)
        except msgspec.DecodeError as error:
            return Problem(
                reason="invalid_structure", message=f"{work.backend} answered no JSON although the job asks for it: {error}",
                body=answer.text[:2000],
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


def result_of(answer: port.Answer) -> Result:
    """The answer as events carry it."""
    calls = tuple(msgspec.Raw(msgspec.json.encode(call)) for call in answer.tool_calls)
    return Result(text=answer.text, finish_reason=answer.finish_reason, tool_calls=calls)
