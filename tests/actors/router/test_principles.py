"""What holds for every decision, over random fleets, policies and jobs (requirements B5, B6, C3-C8)."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from actors.router.decide import Choice
from actors.router.order import CLOUD_HOPS, PREMIUM_TIER
from actors.router.shipped import shipped_policies
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from actors.succession import successor
from bus import codec
from messages import Backend, Candidate, Decided, Message, Model, Retry
from tests.actors.router.fleets import (
    CAPABILITIES,
    EASY,
    FLEETS,
    NEWCOMERS,
    WISHES,
    Job,
    choice,
    decision,
    facts,
    jobs,
    view_of,
)
from tests.messages.samples import T0, attempted, slip, work

BARE = facts(policies=st.just([]))
"""A fleet without any policy: all chains are generated."""
FREE = WISHES.map(lambda wishes: {**wishes, "preferred_backend": "", "preferred_model": ""})
PREMIUM = FREE.map(lambda wishes: {**wishes, **EASY, "strategy": "quality_based"})
"""Jobs that premium models lead."""
_BEST = Model(name="best", capabilities=("text", "code"), quality_tier=PREMIUM_TIER, seconds_per_job=0.5)
_HEAD = Backend(backend="top", protocol="openai", local=False, slots=4, healthy=True, models=(_BEST,), at=T0)


def with_a_premium_head(given_facts: list[Message]) -> list[Message]:
    """The same fleet with a premium model in the cloud, and none at home."""
    found: list[Message] = [_HEAD]
    for fact in given_facts:
        if isinstance(fact, Backend) and fact.local:
            models = tuple(msgspec.structs.replace(m, quality_tier=min(m.quality_tier or 1, 4)) for m in fact.models)
            found.append(msgspec.structs.replace(fact, models=models))
        else:
            found.append(fact)
    return found


PREMIUM_FACTS = BARE.map(with_a_premium_head)


def place(candidate: Candidate) -> str:
    return f"{candidate.backend}/{candidate.model}"


def expected_seconds(candidate: Candidate) -> float:
    f = candidate.features
    return f.wait_seconds + f.switch_seconds + f.service_seconds


def is_late(candidate: Candidate, decided: Decided) -> bool:
    return expected_seconds(candidate) > decided.slip.deadline_at - decided.at


def called(candidate: Candidate, name: str) -> bool:
    words = {candidate.backend, candidate.model, place(candidate), *candidate.known.names}
    return name in words


def as_told(made: Choice) -> list[Candidate]:
    """The whole ranking, whatever the event leaves out."""
    return list(made.everything()[: len(made.ranking)])


# ------------------------------------------------------------------------------------------------ who may run it


@given(facts(), jobs())
def test_nobody_is_ranked_who_lacks_a_required_capability(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts), job)
    required = {*job.slip.needs.capabilities, *made.decided.plan.requires}
    assert all(required <= set(candidate.known.capabilities) for candidate in as_told(made))


@given(facts(), jobs())
def test_a_missing_preferred_capability_is_a_declared_and_disclosed_step(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts), job)
    plan = made.decided.plan
    wished = {*job.slip.needs.preferred, *plan.prefers} - set(job.slip.needs.capabilities)
    for candidate in as_told(made):
        missing = wished - set(candidate.known.capabilities)
        assert set(candidate.parameters.degrade) == {plan.degrade[name] for name in missing}
        disclosed = {name for name in CAPABILITIES if any(f"no {name} here" in change for change in candidate.changes)}
        assert disclosed == missing


@given(facts(), jobs())
def test_an_inactive_member_of_a_group_and_who_is_not_there_are_never_chosen(
    given_facts: list[Message], job: Job
) -> None:
    by_name = {fact.backend: fact for fact in given_facts if isinstance(fact, Backend)}
    for candidate in as_told(choice(view_of(*given_facts), job)):
        there = by_name[candidate.backend]
        assert there.active or not there.exclusive_group
        assert there.healthy
        assert there.slots > 0
        assert candidate.features.open_until <= job.now or candidate.panic


@given(facts(), jobs())
def test_no_attempt_can_cost_more_than_the_job_has_left(given_facts: list[Message], job: Job) -> None:
    limit = job.slip.needs.max_cost_microdollars or 3_000
    needs = msgspec.structs.replace(job.slip.needs, max_cost_microdollars=limit)
    limited = msgspec.structs.replace(job, slip=msgspec.structs.replace(job.slip, needs=needs))
    spent = sum(attempt.billed_microdollars for attempt in job.attempts)
    for candidate in as_told(choice(view_of(*given_facts), limited)):
        assert spent + candidate.worst_case_microdollars <= limit
        assert not candidate.known.price.unknown


@given(facts(), jobs())
def test_a_job_that_does_not_allow_the_cloud_never_gets_there(given_facts: list[Message], job: Job) -> None:
    needs = msgspec.structs.replace(job.slip.needs, allow_cloud=False)
    kept = msgspec.structs.replace(job, slip=msgspec.structs.replace(job.slip, needs=needs))
    assert all(candidate.known.local for candidate in as_told(choice(view_of(*given_facts), kept)))


@given(facts(), jobs())
def test_a_required_model_and_a_strict_pool_are_kept(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts), job)
    plan, wanted = made.decided.plan, job.slip.needs.model
    for candidate in as_told(made):
        assert not wanted or called(candidate, wanted)
        assert not (plan.strict and plan.pool) or any(called(candidate, name) for name in plan.pool)


@given(facts(), jobs())
def test_an_answer_fits_the_context_and_the_cap(given_facts: list[Message], job: Job) -> None:
    for candidate in as_told(choice(view_of(*given_facts), job)):
        known = candidate.known
        assert known.max_output_tokens is None or candidate.max_output_tokens <= known.max_output_tokens
        room = known.context_tokens
        assert room is None or job.slip.needs.input_tokens + candidate.max_output_tokens <= room


# -------------------------------------------------------------------------------------------------- chains


@given(BARE, jobs(FREE.map(lambda wishes: {**wishes, "task": "code"}), fresh=True))
def test_code_falls_back_to_code_models_while_one_is_there(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts), job)
    ranking = as_told(made)
    for ahead, candidate in enumerate(ranking):
        if "code" in candidate.known.capabilities:
            continue
        assert "a general model, not one for code" in candidate.changes
        for later in ranking[ahead + 1 :]:
            better = "code" in later.known.capabilities
            weightier = is_late(later, made.decided) or bool(later.parameters.degrade)
            assert not better or weightier


@given(PREMIUM_FACTS, jobs(PREMIUM, fresh=True))
def test_a_premium_model_is_followed_by_two_cloud_hops_before_the_local_cliff(
    given_facts: list[Message], job: Job
) -> None:
    ranking = as_told(choice(view_of(*given_facts), job))
    head, rest = ranking[0], ranking[1:]
    assume(not head.known.local and head.known.quality_tier >= PREMIUM_TIER)
    code = job.slip.needs.task == "code"
    hops = [c for c in rest if not c.known.local and not (code and "code" not in c.known.capabilities)]
    most = min(CLOUD_HOPS, len(hops))
    assert all(not candidate.known.local for candidate in rest[:most])


@given(PREMIUM_FACTS, jobs(PREMIUM, fresh=True))
def test_the_two_cloud_hops_hold_over_the_attempts_of_a_job(given_facts: list[Message], job: Job) -> None:
    first = as_told(choice(view_of(*given_facts), job))
    assume(first and not first[0].known.local and first[0].known.quality_tier >= PREMIUM_TIER)
    code = job.slip.needs.task == "code"
    for _, ranking in walk(view_of(*given_facts), job)[1 : 1 + CLOUD_HOPS]:
        failed_before = {c.backend for c in ranking if "failed this job" in c.reason}
        hops = [c for c in ranking if not c.known.local and c.backend not in failed_before]
        hops = [c for c in hops if not (code and "code" not in c.known.capabilities)]
        assert not hops or not ranking[0].known.local


@given(facts(), jobs(FREE.map(lambda wishes: {**wishes, **EASY}), fresh=True))
def test_explicit_chains_win(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts), job)
    ranking = as_told(made)
    assume(len(ranking) > 1 and not made.decided.plan.fixed)
    chain = ranking[0].known.chain
    rest = ranking[1:]
    hops = sum(any(called(candidate, name) for name in chain) for candidate in rest)
    ranks = [min(i for i, name in enumerate(chain) if called(candidate, name)) for candidate in rest[:hops]]
    assert ranks == sorted(ranks)


def walk(view: View, job: Job) -> list[tuple[Job, list[Candidate]]]:
    """Decide, let the head fail, go on with what follows from that, and so on: each round's job with its ranking."""
    found: list[tuple[Job, list[Candidate]]] = []
    while len(found) < 12:
        made = choice(view, job)
        if not made.ranking:
            break
        ranking = as_told(made)
        head = ranking[0]
        found.append((job, ranking))
        item = work(
            n=job.n, backend=head.backend, model=head.model, slip=job.slip, attempts=job.attempts, excluded=job.excluded,
            failover=msgspec.structs.replace(made.decided.failover, waits_seconds=()),
        )  # fmt: skip
        outcome = ("timeout", "server_error", "connection_error")[job.n % 3]
        follows = successor(
            item, attempted(n=job.n, backend=head.backend, model=head.model, outcome=outcome, at=job.now)
        )
        if not isinstance(follows, Retry):
            break
        job = Job(follows.slip, follows.n, follows.attempts, follows.excluded, job.now)
    return found


@given(facts(), jobs(fresh=True))
def test_nobody_is_asked_twice_unless_nobody_else_is_left(given_facts: list[Message], job: Job) -> None:
    asked: set[str] = set()
    steps = walk(view_of(*given_facts), job)
    for round_, ranking in steps:
        head = ranking[0]
        if place(head) in asked:
            assert not head.known.unfit
            assert all(is_excluded(candidate, round_) for candidate in ranking)
        asked.add(place(head))
    assert len(steps) <= 6


def is_excluded(candidate: Candidate, job: Job) -> bool:
    return any(e.backend == candidate.backend and e.model in ("", candidate.model) for e in job.excluded)


@given(
    facts(),
    jobs(WISHES.map(lambda wishes: {**wishes, **EASY})),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "n"]),
)
def test_preferred_means_preferred(given_facts: list[Message], job: Job, backend: str, model: str) -> None:
    needs = msgspec.structs.replace(job.slip.needs, preferred_backend=backend, preferred_model=model)
    made = choice(
        view_of(*given_facts), msgspec.structs.replace(job, slip=msgspec.structs.replace(job.slip, needs=needs))
    )
    failed = {attempt.backend for attempt in job.attempts if attempt.outcome != "not_started"}
    wanted = {
        place(candidate)
        for candidate in as_told(made)
        if backend in ("", candidate.backend)
        and (not model or called_model(candidate, model))
        and candidate.backend not in failed
    }
    if wanted and (backend or model):
        assert place(as_told(made)[0]) in wanted


def called_model(candidate: Candidate, name: str) -> bool:
    return name in (candidate.model, *candidate.known.names)


# ------------------------------------------------------------------------------------------------- quality


@given(BARE, jobs(FREE.map(lambda w: {**w, **EASY, "quality": "draft", "task": "chat"}), fresh=True))
def test_a_draft_is_expected_to_be_done_first(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts, policies=[p for p in shipped_policies() if p.policy == "quality"]), job)
    ranking = as_told(made)
    assume(ranking)
    assert made.decided.strategy == "latency_first"
    same = [c for c in ranking if bool(c.parameters.degrade) == bool(ranking[0].parameters.degrade)]
    assert expected_seconds(ranking[0]) <= min(expected_seconds(candidate) for candidate in same) + 1e-3


@given(BARE, jobs(FREE.map(lambda w: {**w, **EASY, "quality": "final", "task": "chat"}), fresh=True))
def test_a_final_takes_the_best_quality(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts, policies=[p for p in shipped_policies() if p.policy == "quality"]), job)
    ranking = as_told(made)
    assume(ranking)
    assert made.decided.strategy == "quality_based"
    in_time = [
        c.known.quality_tier
        for c in ranking
        if not is_late(c, made.decided) and bool(c.parameters.degrade) == bool(ranking[0].parameters.degrade)
    ]
    if in_time and not is_late(ranking[0], made.decided):
        assert ranking[0].known.quality_tier == max(in_time)


# -------------------------------------------------------------------------------------------- same in, same out


@given(facts(), jobs())
def test_the_same_job_and_view_give_the_same_bytes(given_facts: list[Message], job: Job) -> None:
    view = view_of(*given_facts)
    first = codec.encode(choice(view, job).decided)
    assert codec.encode(choice(view, job).decided) == first
    assert codec.encode(choice(view_of(*given_facts), job).decided) == first


@given(facts(), jobs(), st.randoms())
def test_the_order_in_which_facts_came_leaves_no_trace(given_facts: list[Message], job: Job, chance: Any) -> None:
    shuffled = list(given_facts)
    chance.shuffle(shuffled)
    one, other = choice(view_of(*given_facts), job), choice(view_of(*shuffled), job)
    assert codec.encode(one.decided) == codec.encode(other.decided)
    assert one.everything() == other.everything()


@settings(max_examples=200)
@given(facts(), jobs(fresh=True), NEWCOMERS)
def test_another_backend_moves_nobody_else(given_facts: list[Message], job: Job, newcomer: Backend) -> None:
    before = choice(view_of(*given_facts), job)
    after = choice(view_of(*given_facts, newcomer), job)
    strategy = STRATEGIES[before.decided.strategy]
    assert after.decided.plan == before.decided.plan  # No pool, chain or rule names the newcomer.
    assume(not strategy.relative and not after.decided.explored and not before.decided.explored)
    assume(not any(candidate.panic for candidate in before.decided.ranking))  # Somebody better ends the panic.
    others = [candidate for candidate in as_told(after) if candidate.backend != "zz"]
    assert {place(c): c.score for c in others} == {place(c): c.score for c in as_told(before)}
    new_hop = any("hop in the cloud" in candidate.reason for candidate in as_told(after))
    if len(others) < len(as_told(after)) and (as_told(after)[0].backend == "zz" or new_hop):
        return  # A new head brings its own chain, and a new hop in the cloud takes one of the two places.
    assert [place(c) for c in others] == [place(c) for c in as_told(before)]


# -------------------------------------------------------------------------------------------------- reasons


@given(facts(), jobs())
def test_every_candidate_is_told_and_every_filter_and_place_has_a_reason(given_facts: list[Message], job: Job) -> None:
    view = view_of(*given_facts)
    made = choice(view, job)
    decided = made.decided
    told = sorted(place(candidate) for candidate in made.everything())
    assert told == sorted(f"{entry.backend}/{entry.model}" for entry in view.entries)
    assert decided.omitted == max(0, len(told) - 16)
    assert all(candidate.permitted for candidate in decided.ranking)
    assert all(candidate.reason for candidate in decided.others)
    assert all(not candidate.permitted for candidate in decided.others) or decided.gave_up
    assert decided.reason
    assert bool(decided.ranking) + bool(decided.gave_up) + bool(decided.wait_seconds) == 1
    for ahead, later in zip(decided.ranking, decided.ranking[1:], strict=False):
        assert ahead.score >= later.score or ahead.reason or later.reason or decided.explored


@given(FLEETS, WISHES)
def test_an_exhausted_strict_pool_names_its_role_and_each_model(fleet: list[Backend], wishes: dict[str, Any]) -> None:
    from messages import Match, Policy, Rule

    broken = [msgspec.structs.replace(one, healthy=True, slots=1, exclusive_group="", models=(
        Model(name="m", capabilities=("text",)), Model(name="x", capabilities=("text",)),
    )) for one in fleet]  # fmt: skip
    rule = Rule(
        name="writers", match=Match(role=("writer",)), pool=("m", "nobody"), strict=True, requires=("unheard-of",)
    )
    made = decision(
        view_of(*broken, Policy(policy="roles", rules=(rule,))), needs={**wishes, "role": "writer", "model": ""}
    )
    assert made.gave_up is not None
    message = made.gave_up.message
    assert message.startswith("the pool of the role writer is exhausted: ")
    assert "nobody is served by nobody" in message
    assert all(f"m ({one.backend}/m) " in message for one in fleet)
    assert "/x" not in message


def test_the_order_of_a_walk_is_told_in_words() -> None:
    here = [Backend(backend=name, protocol="openai", local=True, slots=1, healthy=True, at=T0, models=(Model(name="m"),))
            for name in ("a", "b")]  # fmt: skip
    steps = walk(view_of(*here), Job(slip()))
    assert [ranking[0].backend for _, ranking in steps] == ["a", "b", "a"]
    assert steps[2][1][0].reason == "failed this job before"
