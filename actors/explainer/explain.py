"""A decision in words: one paragraph, every ground with its figures, why each alternative lost, what one could do. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from actors.explainer import scores, words
from actors.explainer.advice import suggest
from actors.explainer.compare import Figure, against, alternatives, sentence
from actors.explainer.memory import Memory
from actors.explainer.places import hop, is_preferred, previous_of, weightier
from messages import Attempt, Candidate, Decided, Explained, Needs, Reason

MOST_SENTENCES = 5


def explain(decided: Decided, memory: Memory) -> Explained:
    """The explanation of one decision; `memory` knows how earlier jobs of its tenant ended."""
    best = decided.ranking[0] if decided.ranking else None
    reasons = [_attempt(attempt) for attempt in reversed(decided.attempts)]
    adjusted: list[str] = []
    if best is None:
        summary = _nobody(decided)
    else:
        rival = decided.ranking[1] if len(decided.ranking) > 1 else None
        figures = against(decided, best, rival) if rival else []
        adjusted += best.changes
        if size := hop(decided, best, previous_of(decided)):
            adjusted.append(size)
        lead = _leads(decided, best, rival)
        summary = _summary(decided, best, rival, lead, figures, adjusted)
        reasons.append(_lead(decided, best, rival, lead))
        reasons += [figure.reason for figure in figures]
    reasons.append(Reason(kind="rule", text=_by(decided)))
    about = words.name(best) if best else ""
    reasons += [Reason(kind="adjusted", about=about, text=text) for text in adjusted]
    reasons.append(Reason(kind="need", text=_need(decided)))
    return Explained(
        tenant=decided.tenant, job=decided.job, n=decided.n, chosen=about, summary=summary, reasons=tuple(reasons),
        alternatives=alternatives(decided), adjusted=tuple(adjusted), suggestions=suggest(decided, memory),
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- the paragraph


def _summary(
    decided: Decided,
    best: Candidate,
    rival: Candidate | None,
    lead: str,
    figures: list[Figure],
    adjusted: list[str],
) -> str:
    """What failed before, who leads and why, the figures, where the score comes from, what else counts."""
    said = [_tried(decided.attempts[-1])] if decided.attempts else []
    said.append(lead)
    if figures and rival:
        said.append(sentence(figures, rival))
    said.append(_by(decided, scores.made_of(decided, best)))
    if adjusted:
        said.append(f"What changes: {words.listed(adjusted)}")
    if (decided.others or decided.omitted) and len(said) < MOST_SENTENCES:
        said.append(_barred(decided))
    return ". ".join(said) + "."


def _leads(decided: Decided, best: Candidate, rival: Candidate | None) -> str:
    """Who leads, and the one thing that put it there."""
    needs = decided.slip.needs
    runs = f"{words.name(best)} runs this {_kind(needs)}"
    if decided.explored:
        return f"{runs} {_trial(decided, best)}"
    if is_preferred(decided, best):
        return f"{runs} because the job prefers it"
    if rival is None:
        return f"{runs}: {'it is the only one that may' if decided.others else 'there is no other'}"
    other = words.name(rival)
    if why := weightier(decided, best, rival):
        return f"{runs}; {other} comes after it because {why}"
    difference = best.score - rival.score
    if difference < 0:
        return f"{runs}: {decided.reason.rstrip('.')}"
    if difference == 0:
        return f"{runs}: it has the same score as {other}, and comes first by name"
    mine, theirs = scores.score(decided, best), scores.score(decided, rival)
    if decided.strategy in scores.POINTS:
        return f"{runs}: it leads with {mine}, {difference:.1f} more than {other}"
    if mine == theirs:
        return f"{runs}: it and {other} both have {mine}, and what comes next in {decided.strategy} speaks for it"
    return f"{runs}: it leads with {mine}, and {other} has {theirs}"


def _trial(decided: Decided, best: Candidate) -> str:
    """Why this job goes to one whose score does not lead."""
    number = f" (its number is {decided.number:.4f})" if decided.number is not None else ""
    rules = decided.plan.adaptive
    if rules.method == "thompson":
        return f"as a trial{number}: a draw from what is known of each puts it first"
    if best.features.runs < rules.enough:
        return (
            f"as a trial{number}: fewer than {rules.enough} of its runs count so far, so it gets its share of the jobs"
        )
    return f"as a trial{number}: {rules.epsilon * 100:.3g}% of the jobs go to another one, so that what is known stays true"


def _by(decided: Decided, made: str = "") -> str:
    """Which strategy, who says so, and what the score is made of."""
    sources = [_source(one) for one in decided.policy.split(" + ")]
    source = words.joined(sources)
    if decided.plan.fixed:
        return f"Routing is switched off by {source}, which leaves a fixed order"
    parts = f": {made}" if made else ""
    if decided.strategy in scores.MONEY:
        parts += f"; {scores.worth_of_time(decided)}"
    if decided.slip.needs.strategy == decided.strategy:
        return f"The job itself asks for strategy {decided.strategy} ({source}){parts}"
    routes = "routes" if len(sources) == 1 else "route"
    return f"{source[0].upper()}{source[1:]} {routes} it by {decided.strategy}{parts}"


def _source(said: str) -> str:
    """`rule `code` of policy chains@0`, or `policy default@0`."""
    policy, _, rule = said.partition(" ")
    return f"rule `{rule}` of policy {policy}" if rule else f"policy {policy}"


def _tried(attempt: Attempt) -> str:
    """`Round 1 on cloud/m failed after 20.0 s (timeout) and cost $0.01`."""
    took = f" after {words.span(attempt.latency_seconds)}" if attempt.latency_seconds is not None else ""
    ended = f"failed{took} ({attempt.outcome.replace('_', ' ')}) and cost {words.cost(attempt.billed_microdollars)}"
    return f"Round {attempt.n} on {attempt.backend}/{attempt.model} {ended}"


def _barred(decided: Decided) -> str:
    """How many may not run it, and what stands against each."""
    alike = Counter((candidate.backend, candidate.barred) for candidate in decided.others)
    said = words.listed(
        [
            f"{backend} ({barred}{f', {number} models' if number > 1 else ''})"
            for (backend, barred), number in alike.items()
        ],
        separator=", ",
    )
    count = len(decided.others)
    who = "1 other may not run it" if count == 1 else f"{count} others may not run it"
    more = f"{decided.omitted} more are not listed" if decided.omitted else ""
    return "; ".join(text for text in (f"{who}: {said}" if count else "", more) if text)


def _nobody(decided: Decided) -> str:
    """The paragraph when nobody leads: the job failed, or waits."""
    if decided.gave_up:
        said = [f"The job is given up: {decided.gave_up.message.rstrip('.')}"]
    else:
        said = [f"Nobody may run this job now; it is looked at again in {words.span(decided.wait_seconds)}"]
    if decided.attempts:
        tried, billed = len(decided.attempts), sum(attempt.billed_microdollars for attempt in decided.attempts)
        count = "1 attempt was" if tried == 1 else f"{tried} attempts were"
        said.append(f"{count} made, of {decided.failover.max_attempts} at most, and cost {words.cost(billed)} in all")
    if decided.others and not (decided.gave_up and decided.gave_up.reason == "no_backend"):
        said.append(f"Not permitted: {words.listed(_reasons(decided.others))}")
    said.append(f"It is a {_need(decided)}")
    return ". ".join(said) + "."


def _reasons(others: Sequence[Candidate]) -> list[str]:
    """Each different reason of a backend with the first who has it, and how many of its models that one stands for."""
    alike: dict[tuple[str, str], list[str]] = {}
    for candidate in others:
        alike.setdefault((candidate.backend, candidate.reason), []).append(words.name(candidate))
    return [
        f"{names[0]} {reason}{f' ({len(names)} models)' if len(names) > 1 else ''}"
        for (_, reason), names in alike.items()
    ]


# ------------------------------------------------------------------------------------------------ the grounds


def _lead(decided: Decided, best: Candidate, rival: Candidate | None, lead: str) -> Reason:
    """Why the first one leads: its score and what it is made of, or what weighed more."""
    about = words.name(best)
    if decided.explored:
        return Reason(kind="explored", about=about, value=decided.number, text=lead)
    made = scores.made_of(decided, best)
    text = f"{about} has {scores.score(decided, best)}{f': {made}' if made else ''}"
    if rival is None:
        return Reason(kind="score", about=about, value=best.score, text=text)
    return Reason(
        kind="score", about=about, value=best.score, rival=words.name(rival), rival_value=rival.score, text=text
    )


def _attempt(attempt: Attempt) -> Reason:
    detail = f": {attempt.problem.message}" if attempt.problem else ""
    return Reason(
        kind="attempt", about=f"{attempt.backend}/{attempt.model}", value=attempt.billed_microdollars,
        text=_tried(attempt) + detail,
    )  # fmt: skip


def _kind(needs: Needs) -> str:
    asset = "" if needs.asset == "text" else f" {needs.asset}"
    return f"{needs.task.replace('_', ' ')}{asset} job of {needs.quality} quality"


def _need(decided: Decided) -> str:
    """What the job is and must have."""
    needs = decided.slip.needs
    wanted = dict.fromkeys((*needs.capabilities, *decided.plan.requires))
    parts = [f"needs {', '.join(wanted)}"] if wanted else []
    parts += [f"must use {needs.model}"] if needs.model else []
    parts += [f"prefers {needs.preferred_backend}"] if needs.preferred_backend else []
    parts += [f"prefers {needs.preferred_model}"] if needs.preferred_model else []
    parts += [] if needs.allow_cloud else ["stays off the cloud"]
    if needs.max_cost_microdollars is not None:
        parts.append(f"may cost {words.cost(needs.max_cost_microdollars)}")
    return f"{_kind(needs)}{f' that {words.joined(parts)}' if parts else ''}"
