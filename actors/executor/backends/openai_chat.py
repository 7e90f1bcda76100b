"""What is asked of `/chat/completions`, and what may be left out when a server refuses it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from actors.executor.backends.errors import complaint_of
from actors.executor.backends.port import BackendError, Call

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
"""How a server calls the cap on output: OpenAI's reasoning models refuse the first, local servers know only that."""

# What may be left out when a server refuses it: the answer stays what was asked for.
_OPTIONAL: Final = frozenset({"temperature", "seed", "stream_options"})


def request_body(call: Call, max_tokens_field: MaxTokensField, *, sampling: bool = True) -> dict[str, Any]:
    """The JSON body for `call`; what the call leaves open is left out, and without `sampling` the temperature too."""
    body: dict[str, Any] = {
        "model": call.model,
        "messages": call.messages,
        max_tokens_field: call.max_output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.temperature is not None and sampling:
        body["temperature"] = call.temperature
    if call.stop:
        body["stop"] = call.stop
    if call.seed is not None:
        body["seed"] = call.seed
    if call.response_format is not None:
        body["response_format"] = call.response_format
    if call.tools:
        body["tools"] = call.tools
    return body


def whole(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """`body` for one answer instead of a stream; None when it is one already."""
    if not body.get("stream"):
        return None
    return {name: value for name, value in body.items() if name not in {"stream", "stream_options"}}


def without_refused(body: Mapping[str, Any], error: BackendError) -> dict[str, Any] | None:
    """`body` without the field that the server refused, or None when that would change what was asked for.

    The cap on output is never dropped: it is given by its other name.
    """
    if error.status != 400:
        return None
    complaint = complaint_of(error.body)
    if not complaint.words & {"unsupported_parameter", "unsupported_value"}:
        return None
    changed = {name: value for name, value in body.items() if name != complaint.param}
    if len(changed) == len(body):
        return None
    if complaint.param in _OPTIONAL:
        return changed
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}.get(complaint.param)
    if other is None or "unsupported_value" in complaint.words:
        return None
    return {**changed, other: body[complaint.param]}
