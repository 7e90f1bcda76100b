"""How often to try again, and how much one webhook is told per minute. Pure, but for what a `Pace` counts."""

from __future__ import annotations

import hashlib
from collections import Counter

MOST_TRIES = 8
"""So often one alert is posted to one webhook: with the waits that is about nine minutes."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 300.0
LONGEST_ASKED_SECONDS = 3600.0
"""A server that asks for a longer pause is asked again after this."""
JITTER = 0.2
"""Part of the wait that varies, by a hash."""
MINUTE_SECONDS = 60
KEPT_SHARE = 0.25
"""Share of a minute's posts, and at least one, that warnings leave to alerts."""
AGAIN_SHARE = 0.5
"""Share of a minute's posts, and at least one, that further tries may take; the rest is for what is new."""


def wait_before(tries: int, salt: str, asked: float = 0.0) -> float:
    """Seconds until the next try, after so many: doubled each time, and at least what the server asked for."""
    digest = hashlib.blake2b(f"{salt}/{tries}".encode(), digest_size=4).digest()
    share = int.from_bytes(digest, "big") / 2**32
    wait = min(FIRST_WAIT_SECONDS * 2 ** min(tries - 1, 16), LONGEST_WAIT_SECONDS) * (1 + JITTER * (share - 0.5))
    return max(wait, min(asked, LONGEST_ASKED_SECONDS))


class Pace:
    """Lets so many posts through per minute, and counts what is left out by kind."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.for_warnings = per_minute - max(1, round(per_minute * KEPT_SHARE))
        """A minute's posts that warnings may take: none of a single one, they are told in the line about what was left out."""
        self.for_tries = max(1, round(per_minute * AGAIN_SHARE))
        """A minute's posts that further tries may take."""
        self._minute = 0
        self._through = self._warnings = self._tries = 0
        self._left_out: Counter[str] = Counter()

    def lets(self, kind: str, now: float, *, urgent: bool = True) -> bool:
        """Whether one more may be posted now; if not, it is counted as left out. `urgent`: it is no mere warning."""
        if self._take(now, urgent=urgent):
            return True
        self._left_out[kind] += 1
        return False

    def lets_again(self, now: float, *, urgent: bool = True) -> float:
        """Seconds until what failed may be posted again, as far as other posts tell: 0 when that is now."""
        self._turn(now)
        if self._tries < self.for_tries and self._take(now, urgent=urgent):
            self._tries += 1
            return 0.0
        return max((self._minute + 1) * MINUTE_SECONDS - now, 1.0)

    def _take(self, now: float, *, urgent: bool) -> bool:
        self._turn(now)
        if self._through >= self.per_minute or not (urgent or self._warnings < self.for_warnings):
            return False
        self._through += 1
        self._warnings += not urgent
        return True

    def _turn(self, now: float) -> None:
        minute = int(now // MINUTE_SECONDS)
        if minute > self._minute:  # A clock that goes back opens no new minute.
            self._minute = minute
            self._through = self._warnings = self._tries = 0

    def left_out(self) -> dict[str, int]:
        """What was left out since this was asked last, by kind."""
        found, self._left_out = dict(self._left_out), Counter()
        return found

    def put_back(self, counts: dict[str, int]) -> None:
        """They could not be told: count them with the next ones."""
        self._left_out.update(counts)
