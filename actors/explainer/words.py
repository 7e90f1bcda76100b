"""A decision in words: chosen, why (with figures and the rival), what lost and why, what one could do. Pure."""

from __future__ import annotations

from messages import Candidate, Decided, Explained


def dollars(microdollars: float) -> str:
    """Money as people read it: `free`, `$0.0042`."""
    if microdollars == 0:
        return "free"
    return f"${microdollars / 1e6:.6f}".rstrip("0").rstrip(".")


def _seconds(candidate: Candidate) -> float:
    return candidate.features.get("service_seconds", 0.0) + candidate.features.get("wait_seconds", 0.0)


def _compared(mine: float, theirs: float) -> str:
    """`20% faster`, or `4.7 times slower` where a percentage would say nothing."""
    word = "faster" if mine < theirs else "slower"
    ratio = max(mine, theirs) / max(min(mine, theirs), 1e-9)
    return f"{ratio:.1f} times {word}" if ratio >= 2 else f"{abs(mine - theirs) / theirs:.0%} {word}"


def _against(best: Candidate, rival: Candidate) -> list[str]:
    """How the chosen one compares with the next, in figures."""
    said: list[str] = []
    mine, theirs = _seconds(best), _seconds(rival)
    if theirs > 0 and abs(mine - theirs) / theirs >= 0.05:
        runs = int(best.features.get("measured_runs", 0))
        window = f" over its last {runs} runs" if runs else " by its stated speed"
        said.append(f"{_compared(mine, theirs)} than {rival.backend} ({mine:.1f} s against {theirs:.1f} s){window}")
    my_price, their_price = (c.features.get("price_microdollars", 0.0) for c in (best, rival))
    if my_price != their_price:
        said.append(f"costs {dollars(my_price)} against {dollars(their_price)} at {rival.backend}")
    my_queue, their_queue = (int(c.features.get("ahead", 0.0)) for c in (best, rival))
    if my_queue != their_queue:
        said.append(f"{my_queue} jobs ahead against {their_queue} at {rival.backend}")
    return said


def _suggestions(decided: Decided) -> list[str]:
    said: list[str] = []
    for other in decided.others:
        if "open breaker" in other.reason or "unhealthy" in other.reason:
            said.append(f"look after {other.backend}: it {other.reason}")
        elif other.reason.startswith("could cost"):
            said.append(f"a higher max_cost would admit {other.backend}")
    if not decided.ranking and not decided.gave_up:
        said.append("start a backend or wait; `turnout doctor` says what is missing")
    return said[:4]


def explain(decided: Decided) -> Explained:
    """The explanation of one decision."""
    best = decided.ranking[0] if decided.ranking else None
    why: list[str] = []
    if best:
        why.append(f"strategy {decided.strategy} of policy {decided.policy}: {best.reason}")
        if len(decided.ranking) > 1:
            why.extend(_against(best, decided.ranking[1]))
    if decided.attempts:
        last = decided.attempts[-1]
        detail = last.problem.message if last.problem else last.outcome
        why.append(f"attempt {len(decided.attempts)} on {last.backend} ended with {last.outcome}: {detail}")
    why.extend(decided.slip.needs.why)
    alternatives = [f"{c.backend}/{c.model}: {c.reason}" for c in decided.ranking[1:]]
    alternatives += [f"{c.backend}/{c.model}: not possible, {c.reason}" for c in decided.others]
    return Explained(
        tenant=decided.tenant,
        job=decided.job,
        n=decided.n,
        chosen=f"{best.backend}/{best.model}" if best else "",
        summary=decided.reason,
        why=tuple(why),
        alternatives=tuple(alternatives),
        suggestions=tuple(_suggestions(decided)),
    )
