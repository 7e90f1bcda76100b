from __future__ import annotations

from typing import Any

import pytest

from actors.actor import Heard, Later
from actors.router.actor import Router
from messages import (
    Analyzed,
    Attempt,
    Breaker,
    Decided,
    Done,
    Due,
    Expired,
    JobCancel,
    Load,
    Model,
    Policy,
    Retry,
    Stats,
)
from tests.messages.samples import PROBLEM, T0, backend, decided, slip

NOW = Heard(now=T0)


def router() -> Router:
    made = Router()
    made.backend(backend("a"), NOW)
    made.backend(backend("b", priority=2, models=(Model(name="n"),)), NOW)
    return made


def retry(**changes: Any) -> Retry:
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 2, "slip": slip(), "cause": PROBLEM, "at": T0,
    }  # fmt: skip
    return Retry(**{**given, **changes})


def test_facts_fill_the_view() -> None:
    made = router()
    load = Load(backend="a", waiting=1, running=2, at=T0)
    breaker = Breaker(backend="a", model="m")
    stats = Stats(backend="a", model="m", workflow="-", attempts=1, successes=1, at=T0)
    policy = Policy(policy="thrifty")
    made.load(load, NOW)
    made.breaker(breaker, NOW)
    made.stats(stats, NOW)
    made.policy(policy, NOW)
    view = made.view
    assert (view.loads["a"], view.breakers["a", "m"], view.stats["a", "m", "-"]) == (load, breaker, stats)
    assert view.policy is policy


def test_an_analyzed_job_is_decided() -> None:
    (said,) = router().analyzed(Analyzed(tenant="acme", job="j-1", fingerprint="f", slip=slip(), at=T0), NOW)
    assert isinstance(said, Decided)
    assert (said.n, said.ranking[0].backend) == (1, "a")


def test_a_rejected_job_is_left_to_the_analyzer() -> None:
    assert router().analyzed(Analyzed(tenant="acme", job="j-1", fingerprint="f", rejected=PROBLEM, at=T0), NOW) == []


def test_a_retry_waits_for_its_time() -> None:
    later = retry(not_before=T0 + 3)
    (said,) = router().retry(later, NOW)
    assert said == Later(Due(tenant="acme", job="j-1", n=2, retry=later), at=T0 + 3)
    (again,) = router().due(Due(tenant="acme", job="j-1", n=2, retry=later), Heard(now=T0 + 3))
    assert isinstance(again, Decided)
    assert (again.n, again.at) == (2, T0 + 3)


@pytest.mark.parametrize("not_before", [0.0, T0 - 1, T0])
def test_a_retry_whose_time_has_come_is_decided(not_before: float) -> None:
    past = (Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=5),)
    (said,) = router().retry(retry(not_before=not_before, attempts=past), NOW)
    assert isinstance(said, Decided)
    assert said.attempts == past


def test_a_stored_decision_counts_as_load() -> None:
    made = router()
    assert made.decided(decided(at=T0), NOW) == []
    assert made.view.own_since_load("a", T0 + 0.1) == 1


def test_a_decision_that_waits_says_nothing() -> None:
    assert router().decided(decided(ranking=(), wait_seconds=0.5), NOW) == []


@pytest.mark.parametrize(("now", "ending"), [(T0, "failed"), (T0 + 600, "expired")])
def test_giving_up_ends_the_job(now: float, ending: str) -> None:
    past = (Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=5),)
    (said,) = router().decided(decided(n=2, attempts=past, ranking=(), gave_up=PROBLEM), Heard(now=now))
    assert isinstance(said, Done)
    assert (said.ending, said.problem, said.attempts, said.cost_microdollars) == (ending, PROBLEM, past, 5)


def test_the_deadline_ends_the_job() -> None:
    (said,) = router().expired(Expired(tenant="acme", job="j-1", at=T0), NOW)
    assert isinstance(said, Done)
    assert (said.ending, said.cost_microdollars) == ("expired", None)


@pytest.mark.parametrize(("reason", "words"), [("changed my mind", "changed my mind"), ("", "cancelled by the client")])
def test_a_cancel_ends_the_job_its_subject_names(reason: str, words: str) -> None:
    heard = Heard(now=T0, subject="job.cancel.a%2Eb.j%2E1")
    (said,) = router().job_cancel(JobCancel(tenant="forged", job="forged", reason=reason), heard)
    assert isinstance(said, Done)
    assert (said.tenant, said.job, said.ending) == ("a.b", "j.1", "cancelled")
    assert said.problem is not None
    assert said.problem.message == words
