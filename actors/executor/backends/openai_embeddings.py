"""OpenAI's `/embeddings`: texts in, one list of numbers for each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from actors.executor.backends.errors import as_object, complaint_in, failure
from actors.executor.backends.port import BackendError, Call, Usage
from actors.executor.backends.usage import added, usage_in

BATCH: Final = 256
"""Texts per request: OpenAI takes 2,048, others fewer."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one answer: a batch of the longest embeddings, written as text, takes a third of it."""

Vector = tuple[float, ...]


class _Row(msgspec.Struct):
    embedding: Vector
    index: int | None = None


class _Rows(msgspec.Struct):
    data: list[_Row]


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in parts that one request may carry."""
    for at in range(0, len(texts), BATCH):
        yield texts[at : at + BATCH]


def request_body(call: Call, texts: Sequence[str]) -> dict[str, Any]:
    """The JSON body for some of the call's texts."""
    body: dict[str, Any] = {"model": call.model, "input": texts, "encoding_format": "float"}
    if call.dimensions:
        body["dimensions"] = call.dimensions
    return body


def vectors_of(answer: object, wanted: int, secrets: tuple[str, ...] = ()) -> tuple[Vector, ...]:
    """The embeddings of one answer, in the order of the texts. Raises BackendError when they are not as many as `wanted`."""
    fields = as_object(answer)
    complaint = complaint_in(fields) if fields is not None else None
    if complaint is not None:
        body = msgspec.json.encode(answer).decode()
        raise failure(200, body, {}, now=0.0, secrets=secrets, complaint=complaint)
    try:
        rows = msgspec.convert(answer, _Rows).data
    except msgspec.ValidationError as error:
        raise BackendError("invalid_structure", f"the answer holds no embeddings: {error}", status=200) from None
    placed = {position if row.index is None else row.index: row.embedding for position, row in enumerate(rows)}
    if placed.keys() != set(range(wanted)) or len(rows) != wanted or not all(placed.values()):
        raise BackendError("invalid_structure", f"{wanted} texts gave {len(rows)} embeddings", status=200)
    return tuple(placed[index] for index in range(wanted))


def usage_sum(before: Usage | None, answer: object) -> Usage:
    """Tokens of the requests so far; unknown as soon as one does not tell. An embedding writes none."""
    now = usage_in(as_object(answer) or {}) or Usage()
    return added(before, Usage(input_tokens=now.input_tokens, output_tokens=0))
