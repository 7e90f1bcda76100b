"""What is to be known of an answer besides its text, in words. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from messages import Result

ENDED: Final = {
    "length": "cut at its cap on tokens (finish reason length)",
    "content_filter": "ended by a content filter",
    "tool_calls": "waits for what the tools answer",
}
"""How an answer ended that is not simply whole."""


def notes(result: Result) -> list[str]:
    """What is to be known of an answer besides its text: how it ended, what it calls, and what its checks tell."""
    found = [ENDED[result.finish_reason]] if result.finish_reason in ENDED else []
    found += [f"refused: {result.refusal}"] if result.refusal else []
    found += [f"calls {call_in_words(call)}" for call in result.tool_calls]
    return found + [f"{check.name}: {check.message}" for check in result.checks if check.verdict != "pass"]


def call_in_words(call: msgspec.Raw) -> str:
    """A tool call as code would have it: `weather({"city":"Ulm"})`."""
    try:
        fields = msgspec.json.decode(call, type=dict[str, Any])
        function = msgspec.convert(fields.get("function") or {}, dict[str, Any])
    except msgspec.MsgspecError:
        return bytes(call).decode("utf-8", "replace")
    return f"{function.get('name') or '?'}({function.get('arguments') or ''})"
