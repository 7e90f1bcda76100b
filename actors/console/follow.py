"""Following jobs: a fold of their public events, so that any screen can show where each one is. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.console.screen import one_line
from bus import codec
from bus.bus import Headers
from messages import (
    Analyzed,
    Chunk,
    Decided,
    Done,
    Granted,
    JobSubmit,
    Message,
    Progress,
    Refused,
    Rerouted,
    Started,
)

WAITING = ("sent", "analyzed", "held back", "queued")


@dataclass
class Track:
    """One job, as far as its events tell."""

    tenant: str
    job: str
    stage: str = "sent"
    """`sent`, `analyzed`, `held back` (nothing may run it now), `queued`, `running`, `ended`."""
    n: int = 0
    backend: str = ""
    model: str = ""
    waits_for: str = ""
    """Why nothing runs it now."""
    step: Progress | None = None
    """How far its backend is, where that one says so."""
    reroutes: list[Rerouted] = field(default_factory=list[Rerouted])
    done: Done | None = None
    refused: Refused | None = None
    gap: bool = False
    _numbers: int = 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.done is not None or self.refused is not None

    @property
    def ending(self) -> str:
        """How it ended; `refused` when the id belongs to another job; empty while it runs."""
        if self.refused:
            return "refused"
        return self.done.ending if self.done else ""

    def hear(self, event: Message) -> str:
        """Take in an event; text that can be shown at once (a chunk in its order), or nothing."""
        if self.ended:
            return ""
        match event:
            case Analyzed():
                self._reach("analyzed")
            case Decided():
                if event.n >= self.n and not event.ranking and not event.gave_up:
                    self.n, self.stage, self.waits_for = event.n, "held back", one_line(why_waiting(event), 300)
            case Granted():
                if event.n >= self.n and event.verdict == "candidate":
                    self._move(event.n, "queued", event.backend, event.model)
            case Started() | Progress():
                if event.n >= self.n:
                    self._move(event.n, "running", event.backend, self.model if event.n == self.n else "")
                if isinstance(event, Progress) and event.n == self.n:
                    self._hear_step(event)
            case Chunk():
                return self._chunk(event)
            case Rerouted():
                if all(known.n != event.n for known in self.reroutes):
                    self.reroutes.append(event)
            case Refused(word="submit"):
                self.refused = event
            case Done():
                self.done = event
                self.stage, self.backend, self.model = "ended", event.backend or self.backend, event.model or self.model
            case _:
                pass
        return ""

    def _reach(self, stage: str) -> None:
        if self.stage == "sent":
            self.stage = stage

    def _move(self, n: int, stage: str, backend: str, model: str) -> None:
        if n > self.n:
            self.gap, self._numbers, self.step = False, 0, None
        if n == self.n and self.stage == "running" and stage == "queued":
            return  # Signals may overtake records.
        self.n, self.stage, self.backend, self.model, self.waits_for = n, stage, backend, model, ""

    def _hear_step(self, step: Progress) -> None:
        """Signals may arrive in another order: the latest counts."""
        if self.step is None or step.number > self.step.number:
            self.step = step

    def _chunk(self, chunk: Chunk) -> str:
        if chunk.n < self.n:
            return ""
        if chunk.n > self.n:
            self._move(chunk.n, "running", self.backend, "")
        self.stage = "running"
        if chunk.number != self._numbers:
            self.gap = self.gap or chunk.number > self._numbers
            return ""
        self._numbers += 1
        if self.gap:
            return ""
        return chunk.text


def why_waiting(decided: Decided) -> str:
    """Why nobody may run a job now, by backend."""
    reasons = {f"{other.backend} {other.reason}" for other in decided.others}
    return "; ".join(sorted(reasons)) or decided.reason.removeprefix("nothing may run now, waiting for a change: ")


class Tracks:
    """All jobs of one command, by tenant and id."""

    def __init__(self, jobs: Iterable[JobSubmit]) -> None:
        self.all = {(job.tenant, job.id): Track(job.tenant, job.id) for job in jobs}
        self.open = set(self.all)
        """Those that have not ended."""

    def hear(self, subject: str, data: bytes, headers: Headers) -> tuple[Track, Message, str] | None:
        """Fold in what came on a public subject; None when it is about another job, or not understood."""
        kind = codec.type_at(subject)
        if kind is None:
            return None
        try:
            event = codec.decode(kind, data, headers)
        except codec.Undecodable:
            return None
        key = (str(getattr(event, "tenant", "")), str(getattr(event, "job", "")))
        track = self.all.get(key)
        if track is None or track.ended:
            return None
        text = track.hear(event)
        if track.ended:
            self.open.discard(key)
        return track, event, text

    def counts(self) -> dict[str, dict[str, int]]:
        """Jobs by backend and by `waiting`, `running`, or how they ended; those without a backend under `-`."""
        found: dict[str, dict[str, int]] = {}
        for track in self.all.values():
            stage = track.ending or ("running" if track.stage == "running" else "waiting")
            row = found.setdefault(track.backend or "-", {})
            row[stage] = row.get(stage, 0) + 1
        return found
