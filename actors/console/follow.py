"""Following jobs: a fold of their public events, so that any screen can show where each one is. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.course import cause_in_words, hold_in_words, wait_in_words
from bus import codec
from bus.bus import Headers
from messages import (
    Analyzed,
    Chunk,
    Done,
    Granted,
    Held,
    JobSubmit,
    Message,
    Progress,
    Refused,
    Rerouted,
    Retry,
    Started,
)


@dataclass
class Track:
    """One job, as far as its events tell."""

    tenant: str
    job: str
    stage: str = "sent"
    """`sent` (nobody has taken it yet), one of `actors.course.OPEN`, `ended`."""
    n: int = 0
    backend: str = ""
    model: str = ""
    waits_for: str = ""
    """Of one that is waiting or held: for what, and why, in words."""
    wait: str = ""
    """Names what it waits for: jobs that wait alike share it."""
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
                self._reach("choosing")
            case Retry():
                if event.n > self.n:
                    self._hear_retry(event)
            case Held():
                if event.n >= self.n:
                    self.n, self.stage = event.n, "held"
                    self.waits_for, self.wait = f"{hold_in_words(event)}; {event.problem.message}", f"held/{event.job}"
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
        self.n, self.stage, self.backend, self.model = n, stage, backend, model
        self.waits_for = self.wait = ""

    def _hear_retry(self, retry: Retry) -> None:
        """It goes into its next round, at once or when something has changed."""
        self.gap, self._numbers, self.step = False, 0, None
        self.n, self.stage, self.waits_for, self.wait = retry.n, "choosing", "", ""
        if retry.not_before > retry.at:
            self.stage = "waiting"
            if retry.awaiting:
                self.waits_for = f"{wait_in_words(retry)}; {cause_in_words(retry)}"
                self.wait = "/".join(f"{one.kind} {one.name} {one.model}" for one in retry.awaiting)

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
        """Jobs by backend and by `waiting`, `held`, `running`, or how they ended; those without a backend under `-`."""
        found: dict[str, dict[str, int]] = {}
        for track in self.all.values():
            stage = track.ending or (track.stage if track.stage in ("running", "held") else "waiting")
            row = found.setdefault(track.backend or "-", {})
            row[stage] = row.get(stage, 0) + 1
        return found
