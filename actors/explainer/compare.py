"""The chosen one against the next, and why each alternative lost, in figures. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from actors.explainer import scores, words
from actors.explainer.places import hop, in_any, weightier
from messages import Candidate, Decided, Reason

WORTH_TELLING = 0.05
"""Smaller differences are not told."""


class Figure(msgspec.Struct, frozen=True, gc=False):
    """One figure of the chosen one beside the rival's."""

    weight: float
    """How large the difference is, 0 to 1."""
    better: bool
    """Whether it speaks for the chosen one."""
    reason: Reason
    clause: str
    """The same where the rival was named before: `has 2 jobs ahead against 0`."""


def measured(decided: Decided, candidate: Candidate) -> int:
    """Over how many runs its latency was measured; 0 when too few count for it to be called measured."""
    runs = candidate.features.runs
    return round(runs) if runs >= decided.plan.adaptive.enough else 0


def against(decided: Decided, best: Candidate, rival: Candidate) -> list[Figure]:
    """How the chosen one compares with the next in latency, price, jobs ahead and quality; the largest difference first."""
    found: list[Figure] = []
    mine, theirs = best.features, rival.features
    latency, slower = mine.service_seconds, theirs.service_seconds
    if latency > 0 and slower > 0 and abs(latency - slower) / slower >= WORTH_TELLING:
        found.append(_latency(decided, best, rival))
    who, other = words.name(best), words.name(rival)
    price, dearer = mine.price_microdollars, theirs.price_microdollars
    known = not (best.known.price.unknown or rival.known.price.unknown)
    if known and abs(price - dearer) > WORTH_TELLING * dearer:
        text = f"costs {words.cost(price)} against {words.cost(dearer)}"
        found.append(_figure("price", who, price, other, dearer, text, f"{text} at {other}"))
    if mine.ahead != theirs.ahead:
        text = f"has {words.jobs(mine.ahead)} ahead against {theirs.ahead:.0f}"
        found.append(_figure("queue", who, mine.ahead, other, theirs.ahead, text, f"{text} at {other}"))
    tier, their_tier = best.known.quality_tier, rival.known.quality_tier
    if tier != their_tier:
        text = f"is of quality tier {tier} against {their_tier}"
        found.append(_figure("quality", who, tier, other, their_tier, text, f"{text} of {other}"))
    found.sort(key=lambda figure: -figure.weight)
    return found


def _latency(decided: Decided, best: Candidate, rival: Candidate) -> Figure:
    """`20% lower latency than X over the last 10 runs`; a stated figure is called so."""
    mine, theirs = best.features.service_seconds, rival.features.service_seconds
    runs, their_runs = measured(decided, best), measured(decided, rival)
    span, their_span = words.span(mine), words.span(theirs)
    if runs and their_runs:
        runs = min(runs, their_runs)
        window = f" over the last {runs} runs ({span} against {their_span})"
    elif runs:
        window = f" ({span} over its last {runs} runs against {_guessed(rival)} {their_span})"
    elif their_runs:
        window = f" ({_guessed(best)} {span} against {their_span} over the other's last {their_runs} runs)"
    elif best.features.equals or rival.features.equals:
        window = f" by what equal backends take ({span} against {their_span})"
    else:
        window = f" by stated speeds ({span} against {their_span})"
    said, other = words.compared(mine, theirs, "latency"), words.name(rival)
    text = f"has {said} {'of' if ' times ' in said else 'than'} {other}{window}"
    return _figure("speed", words.name(best), mine, other, theirs, f"has {said}{window}", text, runs=runs)


def _guessed(candidate: Candidate) -> str:
    return "an expected" if candidate.features.equals else "a stated"


def _figure(
    kind: Literal["speed", "price", "queue", "quality"],
    about: str,
    mine: float,
    rival: str,
    theirs: float,
    clause: str,
    text: str,
    *,
    runs: int = 0,
) -> Figure:
    more = kind == "quality"  # Of everything else less is better.
    shift = 1.0 if kind == "queue" else 0.0  # Nobody ahead against one is not all the difference there can be.
    larger = max(mine, theirs) + shift
    weight = 1 - (min(mine, theirs) + shift) / larger if larger > 0 else 0.0
    reason = Reason(
        kind=kind, about=about, value=mine, rival=rival, rival_value=theirs, window_runs=runs, text=f"{about} {text}"
    )
    return Figure(weight, (mine > theirs) is more, reason, clause)


def sentence(figures: list[Figure], rival: Candidate) -> str:
    """The figures in one sentence: what speaks for the chosen one, and what against it."""
    good = [figure.clause for figure in figures if figure.better]
    bad = [figure.clause for figure in figures if not figure.better]
    halves = [words.joined(half) for half in (good, bad) if half]
    return f"Compared with {words.name(rival)} it {', but '.join(halves)}"


def alternatives(decided: Decided) -> tuple[Reason, ...]:
    """The others in their order, each with why it lost: what weighed more, the difference of scores, or the filter."""
    found: list[Reason] = []
    if decided.ranking:
        best = previous = decided.ranking[0]
        about = words.name(best)
        chain = decided.plan.chain or best.known.chain
        for candidate in decided.ranking[1:]:
            who = words.name(candidate)
            text = f"{who} {_lost(decided, best, candidate)}"
            if chain and in_any(candidate, chain):
                size = hop(decided, candidate, previous)
                text += f"; a hop of the chain{f', {size}' if size else ''}"
                previous = candidate
            found.append(
                Reason(
                    kind="score", about=who, value=candidate.score, rival=about, rival_value=best.score, text=text
                )
            )  # fmt: skip
    for candidate in decided.others:
        who = words.name(candidate)
        found.append(Reason(kind="filter", about=who, text=f"{who} {candidate.reason or 'may not run it'}"))
    return tuple(found)


def _lost(decided: Decided, best: Candidate, candidate: Candidate) -> str:
    """Why one permitted candidate does not lead."""
    leader = words.name(best)
    why = weightier(decided, best, candidate)
    if why:
        return f"comes after {leader}: {why}"
    mine, theirs = scores.score(decided, candidate), scores.score(decided, best)
    if decided.explored:
        return f"has {mine}, but {leader} is tried this time"
    difference = best.score - candidate.score
    if difference < 0:
        return f"has {mine}, but {decided.reason.rstrip('.')}"
    if difference == 0:
        return f"has the same score as {leader}, and comes later by name"
    strategy = scores.strategy_of(decided, candidate)
    if strategy in scores.POINTS:
        said = f"has {mine}, {difference:.1f} fewer than {leader}"
    elif strategy in scores.MONEY:
        said = f"has {mine}, {words.cost(difference)} more than {leader}"
    elif mine == theirs:
        said = f"has {mine} as well, and lost to {leader} by what comes next in {decided.strategy}"
    else:
        said = f"has {mine} against {theirs} of {leader}"
    part = scores.deciding_part(decided, best, candidate)
    said = f"{said}, {part}" if part else said
    if candidate.features.price_assumed and strategy != "cost_first":
        said += f"; its price is unknown, and counts as {words.money(candidate.features.price_microdollars)}"
    return said
