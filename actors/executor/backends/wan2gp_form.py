"""Jobs and answers in Wan2GP's form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from actors.executor.backends.errors import as_object, shorten
from actors.executor.backends.port import BackendError, ErrorKind, Stage, Step

_LOADING: Final = ("loading", "download", "encoding")
_MEMORY: Final = ("out of memory", "outofmemory", "cuda error")


def models_in(listed: Mapping[str, Any], name: str = "models") -> list[str]:
    """The names in a tool's list, which holds texts, or objects that name themselves in one way or another."""
    rows: Any = listed.get(name) or listed.get("items") or listed.get("result") or ()
    found: list[str] = []
    for row in cast("list[Any]", rows) if isinstance(rows, list) else ():
        fields = as_object(row)
        named: Any = row if fields is None else fields.get("model_type") or fields.get("name") or fields.get("filename")
        if isinstance(named, str) and named:
            found.append(named)
    return found


def step_in(snapshot: Mapping[str, Any], before: Step) -> Step:
    """How far a job is by its snapshot, which holds its last events only; `before` is what was told last: the share does not
    fall, and nothing that is known is forgotten.
    """
    events: Any = snapshot.get("events")
    for event in reversed(cast("list[Any]", events) if isinstance(events, list) else []):
        fields = as_object(event) or {}
        data = as_object(fields.get("data"))
        if fields.get("kind") == "progress" and data is not None:
            phase = str(data.get("phase") or "")
            stage: Stage = "loading" if phase.startswith(_LOADING) else "working"
            percent: Any = data.get("progress")
            known = isinstance(percent, int | float) and not isinstance(percent, bool)
            share = min(1.0, max(before.share or 0.0, percent / 100)) if known else before.share
            return Step(stage=stage, share=share, text=_words(data))
        if fields.get("kind") == "started":
            return Step(stage="loading")
    return before


def _words(data: Mapping[str, Any]) -> str:
    step, steps = data.get("current_step"), data.get("total_steps")
    if isinstance(step, int) and isinstance(steps, int) and steps:
        return f"step {step} of {steps}"
    return shorten(str(data.get("status") or ""), 80)


def failure_of(result: Mapping[str, Any], where: str) -> BackendError:
    """The error of a job that ended without success."""
    errors = [as_object(one) or {} for one in cast("list[Any]", result.get("errors") or ())]
    stage = str(errors[0].get("stage") or "") if errors else ""
    message = shorten("; ".join(str(one.get("message") or "") for one in errors) or "no reason given", 300)
    kind: ErrorKind = "server_error"
    if stage == "validation":
        kind = "bad_request"
    elif any(word in message.lower() for word in _MEMORY):
        kind = "overloaded"
    elif result.get("cancelled"):
        message = "somebody cancelled it there"
    # Whoever stops it there wants the GPU, so it is not tried there again at once.
    should_retry = False if result.get("cancelled") else None
    return BackendError(kind, f"{where}: {message}", status=200, body=message, should_retry=should_retry)


def tool_failure(tool: str, message: str, where: str) -> BackendError:
    """The error of a tool that failed. A job that it does not know was lost, by a restart."""
    lowered = message.lower()
    kind: ErrorKind = "server_error"
    if tool == "wangp_generate":
        unknown = "model" in lowered and any(word in lowered for word in ("unknown", "not found", "unsupported"))
        kind = (
            "unknown_model" if unknown else "overloaded" if any(word in lowered for word in _MEMORY) else "bad_request"
        )
    elif tool == "wangp_get_job":
        message = f"the job is no longer known there ({message})"
    return BackendError(kind, f"{where}: {tool}: {message}", status=200, body=message)
