"""What a guardrail asks before a call: accounts, panic, trial calls whose lease was lost, the retry budget."""

from __future__ import annotations

from typing import Any

import pytest

from actors.guardrail.gate import FOLDED_SECONDS, Gate, Look
from actors.journal import Journal
from actors.settings import BreakerRules
from messages import Attempt, Awaited, Breaker, Done, Granted
from messages.fleet import ALL_MODELS
from tests.actors.rig import Rig, play
from tests.messages.samples import T0, attempted, candidate, decided

RULES = BreakerRules()
NOW = T0 + 100
OPEN = Breaker(
    backend="a", model="m", times_opened=1, opened_at=T0, open_until=NOW + 30, cause="failures", reason="3 failures"
)
HALF = Breaker(backend="a", model="m", times_opened=1, opened_at=T0, open_until=NOW - 1, cause="failures")
PROBED = Breaker(
    backend="a", model="m", times_opened=1, opened_at=T0, open_until=NOW - 1, cause="failures", probe_tenant="acme",
    probe_job="probe", probe_n=1, probe_until=NOW + 30,
)  # fmt: skip
MODEL = Awaited(kind="breaker", name="a", model="m")
VERDICT: dict[str, Any] = {"tenant": "acme", "job": "probe", "n": 1, "at": T0}


def account(**changes: Any) -> Breaker:
    given: dict[str, Any] = {
        "backend": "a", "model": ALL_MODELS, "times_opened": 1, "opened_at": T0, "open_until": NOW + 30, "cause": "account",
        "reason": "pay first",
    }  # fmt: skip
    return Breaker(**{**given, **changes})


def looked(*facts: Breaker, panic: bool = False, stored: tuple[Any, ...] = (), **asked: Any) -> tuple[Look, Gate]:
    """A look at candidate `a`, with these facts known and these events stored."""
    found: list[tuple[Look, Gate]] = []

    async def story(rig: Rig) -> None:
        for event in stored:
            await rig.publish(event)
        gate = Gate(RULES, Journal(rig.bus))
        for fact in facts:
            gate.learn(fact)
        found.append((await gate.look(candidate("a", panic=panic), decided(**asked), NOW), gate))

    play(story)
    return found[0]


def test_a_closed_breaker_lets_everybody_through() -> None:
    assert looked()[0] == Look()
    assert looked(Breaker(backend="a", model="m", failures_in_row=2, strikes=3))[0] == Look()
    assert looked(Breaker(backend="a", model="other", open_until=NOW + 9, times_opened=1))[0] == Look()


def test_an_open_one_lets_nobody_through_until_its_time_is_over() -> None:
    assert looked(OPEN)[0] == Look("its breaker is open: 3 failures", awaits=MODEL)


def test_an_account_that_is_unusable_holds_for_all_models() -> None:
    awaits = Awaited(kind="breaker", name="a", model=ALL_MODELS)
    assert looked(account())[0] == Look("its breaker is open: pay first", awaits=awaits)


@pytest.mark.parametrize("cause", ["failures", "rate_limited"])
def test_in_panic_an_open_breaker_is_passed(cause: Any) -> None:
    fact = Breaker(backend="a", model="m", times_opened=1, open_until=NOW + 30, cause=cause)
    assert looked(fact, panic=True)[0] == Look()


@pytest.mark.parametrize("cause", ["account", "manual"])
@pytest.mark.parametrize("model", ["m", ALL_MODELS])
def test_what_only_a_person_can_change_stays_shut_in_panic(cause: Any, model: str) -> None:
    assert looked(account(cause=cause, model=model), panic=True)[0].why == "its breaker is open: pay first"


def test_half_open_it_asks_for_a_lease_first_and_then_it_probes() -> None:
    look, gate = looked(HALF)
    assert look.lease is not None
    assert (look.why, look.lease.probe_job, look.lease.probe_until) == ("", "j-1", NOW + RULES.lease_seconds)
    assert not gate.probes(candidate("a"), decided())
    gate.learn(look.lease)
    assert gate.probes(candidate("a"), decided())
    assert not gate.probes(candidate("a"), decided(n=2))


def test_the_account_is_probed_before_the_model() -> None:
    half = account(open_until=NOW - 1)
    look, _ = looked(half, HALF)
    assert look.lease is not None
    assert look.lease.model == ALL_MODELS
    look, _ = looked(look.lease, HALF)
    assert look.lease is not None
    assert look.lease.model == "m"


@pytest.mark.parametrize(
    "stored",
    [
        (),
        (Granted(**VERDICT, verdict="candidate", backend="a", model="m"),),
        (
            Granted(**VERDICT, verdict="candidate", backend="a", model="m"),
            attempted(job="probe", at=NOW - FOLDED_SECONDS + 0.5),
        ),
    ],
)
def test_while_another_job_probes_it_has_to_wait(stored: tuple[Any, ...]) -> None:
    look, _ = looked(PROBED, stored=stored)
    assert look == Look("its breaker is half-open and another job probes it", awaits=MODEL)


def test_a_trial_call_that_runs_on_keeps_its_lease_longer_than_its_time() -> None:
    old = Breaker(
        backend="a", model="m", times_opened=1, opened_at=T0, open_until=NOW - 60, probe_tenant="acme", probe_job="probe",
        probe_n=1, probe_until=NOW - 1,
    )  # fmt: skip
    assert looked(old)[0].lease is not None, "it never got a verdict"
    granted = Granted(**VERDICT, verdict="candidate", backend="a", model="m")
    assert looked(old, stored=(granted,))[0].why == "its breaker is half-open and another job probes it"


@pytest.mark.parametrize(
    "stored",
    [
        (Granted(**VERDICT, verdict="void"),),
        (Granted(**VERDICT, verdict="refused"),),
        (Granted(**VERDICT, verdict="candidate", backend="b", model="m"),),
        (Granted(**VERDICT, verdict="candidate", backend="a", model="other"),),
        (
            Granted(**VERDICT, verdict="candidate", backend="a", model="m"),
            attempted(job="probe", at=NOW - FOLDED_SECONDS - 0.5),
        ),
        (
            Granted(**VERDICT, verdict="candidate", backend="a", model="m"),
            Done(tenant="acme", job="probe", ending="expired", at=T0),
        ),
    ],
)
def test_a_lease_whose_attempt_went_elsewhere_or_ended_is_free_at_once(stored: tuple[Any, ...]) -> None:
    look, _ = looked(PROBED, stored=stored)
    assert look.lease is not None
    assert look.lease.probe_job == "j-1"


def test_any_model_may_probe_an_account() -> None:
    probed = account(
        open_until=NOW - 1, probe_tenant="acme", probe_job="probe", probe_n=1, probe_until=NOW + 30
    )  # fmt: skip
    other = Granted(**VERDICT, verdict="candidate", backend="a", model="other")
    assert looked(probed, stored=(other,))[0].why == "its breaker is half-open and another job probes it"


def test_repeats_are_refused_for_a_moment_when_they_are_used_up_and_first_calls_never() -> None:
    before = (Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=0),)
    look, gate = looked(attempts=before)
    assert look == Look()
    again = decided(attempts=before, ranking=(candidate("a"),))
    for _ in range(RULES.repeat_floor):
        gate.granted(again, Granted(tenant="acme", job="j-1", n=2, verdict="candidate", backend="a", model="m", at=NOW))
    found: list[Look] = []

    async def story(rig: Rig) -> None:
        found.append(await gate.look(candidate("a"), again, NOW))
        found.append(await gate.look(candidate("b"), again, NOW))
        found.append(await gate.look(candidate("a"), decided(), NOW))

    play(story)
    assert "its repeats are used up (20 % of recent calls)" in found[0].why
    assert NOW < found[0].until <= NOW + 5
    assert found[1:] == [Look(), Look()]
