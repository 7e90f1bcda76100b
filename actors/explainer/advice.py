"""What one could do about a decision: only what its evidence, or what came of earlier jobs, shows to be true. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from actors.explainer.memory import WINDOW_JOBS, Memory, window_of
from actors.explainer.places import seconds
from actors.explainer.words import BIG, dollars, jobs, joined, name, places, span
from messages import Candidate, Decided
from messages.deciding import is_meant, meaning
from messages.values import Quality

MOST = 4
ENOUGH_JOBS = 5
"""Jobs of its own level that must have ended before their mean cost is compared."""
OFTEN_FAILS = 0.2
"""Share of failed attempts from which on a backend wants looking after."""
LONG_QUEUE = 2.0
"""Jobs that wait before a backend is worth a second one."""
CHEAPER: dict[Quality, tuple[Quality, ...]] = {"final": ("standard", "draft"), "standard": ("draft",), "draft": ()}
"""The levels below, the nearest first."""


def suggest(decided: Decided, memory: Memory) -> tuple[str, ...]:
    """At most four suggestions, the most pressing first; none when there is nothing to say."""
    found = dict.fromkeys(_all(decided, memory))
    return tuple(found)[:MOST]


def _all(decided: Decided, memory: Memory) -> Iterator[str]:
    if not decided.ranking:
        yield from _nobody(decided)
    yield from _failing(decided)
    yield from _preferred(decided)
    yield from _barred(decided)
    yield from _waiting(decided)
    yield from _cheaper(decided, memory)


def _nobody(decided: Decided) -> Iterator[str]:
    """What is missing when nobody may run it."""
    others, needs = decided.others, decided.slip.needs
    if not others:
        if decided.gave_up is None or not decided.attempts:
            yield "start a backend; `turnout doctor` says what is missing"
        return
    if decided.omitted:
        return  # What stands in the event is not all there is.
    names = {candidate.barred for candidate in others}
    if names == {"capability"}:
        wanted = {*needs.capabilities, *decided.plan.requires}
        missing = [one for one in sorted(wanted) if not any(one in c.known.capabilities for c in others)]
        if missing:
            yield f"no backend has {joined(missing)}: start one that has"
    elif names == {"model"}:
        yield f"nobody serves {needs.model}: `turnout backends` shows the models there are"
    elif "cloud" in names and names <= {"cloud", "unhealthy", "executor", "breaker", "inactive"}:
        able = [name(c) for c in others if c.barred == "cloud" and _else_free(decided, c)]
        if able:
            yield f"the job is kept off the cloud; allow_cloud would admit {joined(able[:2])}"


def _failing(decided: Decided) -> Iterator[str]:
    """Backends that are not well."""
    for attempt in decided.attempts:
        if attempt.outcome == "account":
            problem = attempt.problem.message if attempt.problem else "it refused the account"
            yield f"check the key and the account of {attempt.backend}: {problem}"
    for candidate in decided.others:
        if candidate.barred in ("unhealthy", "breaker"):
            yield f"look after {candidate.backend}: it {candidate.reason}"
    for candidate in decided.ranking:
        rate = candidate.features.failure_rate
        if rate >= OFTEN_FAILS and candidate.features.runs >= decided.plan.adaptive.enough:
            yield f"look after {name(candidate)}: {rate:.0%} of its latest attempts failed"


def _preferred(decided: Decided) -> Iterator[str]:
    """Why a preference was not met."""
    needs = decided.slip.needs
    for kind, wanted in (("backend", needs.preferred_backend), ("model", needs.preferred_model)):
        if not wanted:
            continue
        everybody = (*decided.ranking, *decided.others)
        means = meaning(wanted, {c.backend for c in everybody}) if kind == "backend" else "name"
        theirs = [
            c
            for c in everybody
            if (
                is_meant(wanted, means, c.backend, c.known)
                if kind == "backend"
                else wanted in (c.model, *c.known.names)
            )
        ]
        if not theirs:
            if not decided.omitted:
                yield f"nobody knows the preferred {kind} {wanted}: `turnout backends` shows what there is"
        elif not any(c.permitted for c in theirs):
            yield f"the preferred {kind} {wanted} was not permitted: it {theirs[0].reason}"


def _barred(decided: Decided) -> Iterator[str]:
    """What would let in somebody who is better than the chosen one, or anybody when nobody is chosen."""
    limit = decided.slip.needs.max_cost_microdollars
    if limit is None:
        return
    billed = sum(attempt.billed_microdollars for attempt in decided.attempts)
    for candidate in decided.others:
        if candidate.barred != "cost" or not _else_free(decided, candidate):
            continue
        if candidate.known.price.unknown:
            yield f"the price of {name(candidate)} is unknown: write it down, or jobs with a cost limit can't use it"
        elif (better := _better(decided, candidate)) is not None:
            enough = dollars(billed + candidate.worst_case_microdollars)
            yield f"a max_cost of {enough} would admit {name(candidate)}{better}"


def _better(decided: Decided, candidate: Candidate) -> str | None:
    """What makes a candidate worth more money; None when nothing does."""
    if not decided.ranking:
        return ""
    best = decided.ranking[0]
    if decided.slip.needs.quality != "draft" and candidate.known.quality_tier > best.known.quality_tier:
        return f", of quality tier {candidate.known.quality_tier} instead of {best.known.quality_tier}"
    if BIG * seconds(candidate) <= seconds(best):
        return f", done in about {span(seconds(candidate))} instead of {span(seconds(best))}"
    return None


def _else_free(decided: Decided, candidate: Candidate) -> bool:
    """Whether no later filter would bar it as well: not too large for its GPU, fit, breaker closed, not excluded."""
    needs, known = decided.slip.needs, candidate.known
    if known.unfit or known.slots <= 0 or candidate.features.open_until > decided.at:
        return False
    if known.vram_total_mb and known.vram_mb + needs.vram_mb > known.vram_total_mb:
        return False
    if candidate.barred == "cloud" and needs.max_cost_microdollars is not None:
        billed = sum(attempt.billed_microdollars for attempt in decided.attempts)
        left = needs.max_cost_microdollars - billed
        if known.price.unknown or candidate.worst_case_microdollars > left:
            return False
    return not any(
        e.backend == candidate.backend and e.model in ("", candidate.model) and (e.until == 0 or e.until > decided.at)
        for e in decided.excluded
    )


def _waiting(decided: Decided) -> Iterator[str]:
    """Backends with more work than they can do: the chosen one, and the one that came next."""
    for candidate in decided.ranking[:2]:
        f = candidate.features
        if f.queue >= LONG_QUEUE and f.wait_seconds >= f.service_seconds:
            more = "start another one" if candidate.known.local else "allow it more at once"
            yield f"{candidate.backend} has {jobs(f.queue)} waiting, about {span(f.wait_seconds)}: {more}"
        elif f.saturated:
            more = "start another one" if candidate.known.local else "allow it more at once"
            yield f"{candidate.backend} is saturated, with {jobs(f.ahead)} on {places(candidate.known.slots)}: {more}"


def _cheaper(decided: Decided, memory: Memory) -> Iterator[str]:
    """A lower quality level that did well for jobs of this kind and cost much less."""
    needs = decided.slip.needs
    own = memory.summary(window_of(decided.tenant, needs))
    if own is None or own.jobs < ENOUGH_JOBS or not own.cost_microdollars:
        return
    for level in CHEAPER[needs.quality]:
        lower = memory.summary(window_of(decided.tenant, needs, level))
        if lower is None or lower.jobs < WINDOW_JOBS or lower.succeeded < lower.jobs:
            continue
        if lower.cost_microdollars is None or own.cost_microdollars < BIG * lower.cost_microdollars:
            continue
        if lower.cost_microdollars > 0:
            dear = f"costs {own.cost_microdollars / lower.cost_microdollars:.3g}x `{level}` here"
        else:
            dear = f"costs {dollars(round(own.cost_microdollars))} a job here and `{level}` nothing"
        yield f"`{needs.quality}` {dear}, and your last {lower.jobs} `{level}` jobs of this kind all succeeded"
        return
