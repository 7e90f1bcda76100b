"""Where a job is and how it ended, in a line for people or an object for machines. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.text import Text

from actors.console.follow import Track
from actors.console.screen import ENDINGS, clean, count, dollars, fitted, one_line, seconds
from actors.console.story import reroute_in_words
from messages import Done, Progress, Rerouted

BAR = 24
"""Characters of a bar."""
MOST_WAITS = 1_200
"""Characters of what a job waits for: every budget in the way with its figures."""


def reroute_line(event: Rerouted) -> Text:
    """What failed, where the job goes, what changes."""
    return Text.assemble(
        ("↻ ", "yellow"), fitted(event.cause.message, 160), (f"  ⇒  {clean(reroute_in_words(event))}", "bold")
    )


def end_line(track: Track, *, with_id: bool = False) -> Text:
    """How a job ended: ending, backend, cost, time, attempts; the problem when there is one."""
    ending = track.ending
    line = Text.assemble((f"{'✔' if ending == 'succeeded' else '✘'} {ending}", ENDINGS.get(ending, "red")))
    if with_id:
        line.append(f"  {clean(track.job)}", "bold")
    done = track.done
    if track.refused:
        return line.append(f"  {fitted(track.refused.problem.message)}")
    if done is None:
        return line
    parts = [f"{done.backend}/{done.model}" if done.backend else ""]
    if ending == "succeeded":
        parts += [dollars(done.cost_microdollars), seconds(latency(done))]
        usage = done.usage
        if usage and usage.output_tokens is not None:
            parts.append(f"{count(usage.output_tokens, 'token')}{' (estimated)' if usage.estimated else ''}")
    tried = len(done.attempts)
    if tried > 1 or (tried and ending != "succeeded"):
        parts.append(count(tried, "attempt"))
    line.append("".join(f"  {clean(part)}" for part in parts if part))
    if done.problem:
        line.append(f"  {fitted(done.problem.message, 300)}")
    return line


def latency(done: Done) -> float | None:
    """Seconds from submission to the end."""
    return done.at - done.submitted_at if done.submitted_at is not None else None


def stage(track: Track) -> str:
    """Where a job is, in words."""
    if track.stage == "running":
        return f"{clean(track.backend)} {step_in_words(track.step) if track.step else 'is at work'}"
    if track.stage == "queued":
        return f"waiting for {clean(track.backend)}"
    if track.stage == "waiting":
        return "waiting; it goes on by itself" if track.waits_for else "waiting a moment before its next attempt"
    if track.stage == "held":
        return "held until somebody lets it go on"
    return {"sent": "sent; nobody has taken it yet", "choosing": "choosing a backend"}.get(track.stage, track.stage)


def wait_line(track: Track, *, with_id: bool = False) -> Text:
    """What a job waits for that can't run now: everything that is in the way, and what lets it go on."""
    word, style = ("held for", "bold yellow") if track.stage == "held" else ("waits for", "yellow")
    line = Text.assemble(("⏸ ", "yellow"), (f"{clean(track.job)} " if with_id else "", "bold"), (f"{word} ", style))
    return line.append(one_line(track.waits_for, MOST_WAITS))


_STAGES = {"queued": "has it in its queue", "loading": "is loading", "first_token": "is answering"}


def step_in_words(step: Progress) -> str:
    """How far a backend is: a bar where it says so, its stage, and its own words."""
    said = one_line(step.text, 60)
    if step.share is None:
        stage_of = _STAGES.get(step.stage, "is at work")
        return f"{stage_of}: {said}" if said else stage_of
    full = round(step.share * BAR)
    stage_of = f"{_STAGES[step.stage]}  " if step.stage in _STAGES else ""
    return f"{stage_of}{'█' * full}{'░' * (BAR - full)} {step.share:4.0%}  {said}".rstrip()


def record(track: Track, answer: str | None) -> dict[str, Any]:
    """What machines get about one job."""
    done, refused = track.done, track.refused
    problem = refused.problem if refused else done.problem if done else None
    found: dict[str, Any] = {
        "id": track.job,
        "tenant": track.tenant,
        "ending": track.ending or None,
        "text": answer,
        "backend": track.backend or None,
        "model": track.model or None,
        "reroutes": len(track.reroutes),
    }
    if done:
        found |= {
            "finish_reason": done.result.finish_reason if done.result else None,
            "reasoning": done.result.reasoning if done.result else "",
            "refusal": done.result.refusal if done.result else "",
            "tool_calls": [msgspec.json.decode(call) for call in done.result.tool_calls] if done.result else [],
            "artifacts": msgspec.to_builtins(done.result.artifacts) if done.result else [],
            "checks": msgspec.to_builtins(done.result.checks) if done.result else [],
            "cost_microdollars": done.cost_microdollars,
            "latency_seconds": latency(done),
            "usage": msgspec.to_builtins(done.usage),
            "attempts": msgspec.to_builtins(done.attempts),
        }
    return found | {"problem": msgspec.to_builtins(problem)}
