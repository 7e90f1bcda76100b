"""Jobs and answers in Wan2GP's form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from actors.executor.backends.errors import as_list, as_object, job_failure, shorten
from actors.executor.backends.port import BackendError, Stage, Step

_LOADING: Final = ("loading", "download", "encoding")


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
    if result.get("cancelled"):
        return BackendError("interrupted", f"{where}: somebody cancelled it there", status=200)
    errors = [as_object(one) or {} for one in as_list(result.get("errors"))]
    stage = str(errors[0].get("stage") or "") if errors else ""
    said = "; ".join(str(one.get("message") or "") for one in errors)
    return job_failure(said, where, words=(stage,), refused=stage == "validation")


def tool_failure(tool: str, message: str, where: str) -> BackendError:
    """The error of a tool that failed. A job that it does not know was lost, by a restart."""
    if tool == "wangp_get_job":
        text = f"{where}: {tool}: the job is no longer known there ({message})"
        return BackendError("server_error", text, status=200, body=message)
    return job_failure(message, f"{where}: {tool}", refused=tool == "wangp_generate")
