"""Who lives: a fold of heartbeats. Decides whether the owner of a claim may still be at work (rules 3 and 7)."""

from __future__ import annotations

import msgspec

from messages import ExecutorAlive, Offer, Started

DEAD_AFTER_SECONDS = 6.0
"""Three missed heartbeats."""
HEAR_ANEW_SECONDS = 3.0
"""After a (re)connect everybody who lives is heard within this time: heartbeats are sent at once, and then every 2 s."""


FORGET_SECONDS = 3600.0
"""Who was silent for so long is as one that was never heard: dead. Processes may have a new name at every start."""


class Seen(msgspec.Struct, frozen=True):
    """The latest heartbeat of an instance and when it came in."""

    alive: ExecutorAlive
    heard_at: float


class Roster:
    """The executors that were heard lately. State changes only from heartbeats."""

    def __init__(self, *, since: float, dead_after_seconds: float = DEAD_AFTER_SECONDS) -> None:
        self.since = since
        """From when on it has been listening: nobody is called dead before the silence could be noticed."""
        self.dead_after_seconds = dead_after_seconds
        self._seen: dict[str, Seen] = {}

    def listen_anew(self, now: float) -> None:
        """The connection is back: silence while it was gone says nothing about anybody who was not silent before."""
        latest = max((seen.heard_at for seen in self._seen.values()), default=now)
        self._seen = {
            name: seen for name, seen in self._seen.items() if latest - seen.heard_at <= self.dead_after_seconds
        }
        self.since = now

    def _silent(self, seen: Seen, now: float) -> bool:
        return now > max(seen.heard_at + self.dead_after_seconds, self.since + HEAR_ANEW_SECONDS)

    def hear(self, alive: ExecutorAlive, now: float) -> None:
        """Take in a heartbeat. An older one of the same boot is ignored."""
        before = self._seen.get(alive.instance)
        if before and before.alive.boot == alive.boot and before.alive.number > alive.number:
            return
        if before is None and now - self.since > FORGET_SECONDS:
            known = self._seen.items()
            self._seen = {name: seen for name, seen in known if now - seen.heard_at <= FORGET_SECONDS}
        self._seen[alive.instance] = Seen(alive, now)

    def living(self, now: float) -> list[ExecutorAlive]:
        """Heartbeats of all that live, by instance."""
        return [
            seen.alive
            for _, seen in sorted(self._seen.items())
            if not self._silent(seen, now) and not seen.alive.leaving
        ]

    def offers(self, now: float) -> dict[str, list[tuple[str, Offer]]]:
        """What is offered: backend -> (instance, offer), of all that live."""
        found: dict[str, list[tuple[str, Offer]]] = {}
        for alive in self.living(now):
            for offer in alive.offers:
                found.setdefault(offer.backend, []).append((alive.instance, offer))
        return found

    def owner_lives(self, claim: Started, now: float) -> bool:
        """Whether the run that won `claim` may still be at work.

        It is dead when its boot is gone (another boot speaks, or silence for too long), or when its process is up and a
        heartbeat made after the claim does not list the run.
        """
        seen = self._seen.get(claim.instance)
        if seen is None:
            return now - max(self.since, claim.at) <= self.dead_after_seconds
        if seen.alive.boot != claim.boot:
            return seen.alive.at <= claim.at  # A heartbeat older than the claim tells nothing about its boot.
        if self._silent(seen, now):
            return False
        if seen.alive.at <= claim.at:
            return True
        return any(r.run == claim.run and r.job == claim.job and r.tenant == claim.tenant for r in seen.alive.running)
