"""Figures and names as people read them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from messages import Candidate

BIG = 2.0
"""From this ratio on, a factor says more than a percentage."""


def dollars(microdollars: float) -> str:
    """Money as people read it: `free`, `$0.0042`."""
    if microdollars == 0:
        return "free"
    return f"${microdollars / 1e6:.6f}".rstrip("0").rstrip(".")


def money(microdollars: float) -> str:
    """Money as a figure beside others: `$0`, `$0.0042`."""
    return dollars(microdollars) if microdollars else "$0"


def span(seconds: float) -> str:
    """A span of time: `430 ms`, `8.0 s`, `3 min 20 s`."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def jobs(number: float) -> str:
    """`no jobs`, `1 job`, `7 jobs`."""
    count = round(number)
    return f"{count or 'no'} job{'' if count == 1 else 's'}"


def places(slots: int) -> str:
    """`1 place`, `4 places`: how many jobs run at once."""
    return f"{max(1, slots)} place{'' if slots <= 1 else 's'}"


def name(candidate: Candidate) -> str:
    """`backend/model`."""
    return f"{candidate.backend}/{candidate.model}"


def listed(texts: Sequence[str], most: int = 3, *, separator: str = "; ") -> str:
    """`a; b; c; and 4 more`."""
    shown = separator.join(texts[:most])
    return f"{shown}{separator}and {len(texts) - most} more" if len(texts) > most else shown


def joined(texts: Sequence[str]) -> str:
    """`a, b and c`."""
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def compared(mine: float, theirs: float, what: str) -> str:
    """`20% lower latency`, or `4.7 times the latency` where a percentage would say nothing; both more than 0."""
    if mine >= BIG * theirs:
        return f"{mine / theirs:.1f} times the {what}"
    return f"{abs(mine - theirs) / theirs:.0%} {'lower' if mine < theirs else 'higher'} {what}"


def cost(microdollars: float) -> str:
    """An expected price, which need not be whole: `nothing`, `$0.0042`, `under $0.000001`."""
    if not microdollars:
        return "nothing"
    return dollars(microdollars) if microdollars >= 0.5 else "under $0.000001"
