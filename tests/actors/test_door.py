"""What is said of a job from outside: every fault names its field, its value and what would be right."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import door
from actors.actor import Heard
from messages import Done, JobCancel, JobRate, JobResume, token
from tests.messages.samples import T0

NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())
GOOD: dict[str, door.Word] = {
    "cancel": JobCancel(reason="r" * 2000), "rate": JobRate(score=5, rater="r" * 128), "resume": JobResume(by="b" * 128),
}  # fmt: skip


def heard(word: str = "rate", tenant: str = "acme", job: str = "j-1") -> Heard:
    return Heard(now=T0, subject=f"job.{word}.{token(tenant)}.{token(job)}")


@given(st.floats())
def test_a_score_counts_exactly_from_1_to_5(score: float) -> None:
    problem = door.fault(JobRate(score=score), heard())
    if math.isfinite(score) and 1 <= score <= 5:
        assert problem is None
    else:
        assert problem is not None
        assert (problem.reason, problem.field, problem.value) == ("invalid", "score", str(score)[:200])
        assert "use 1 (useless) to 5 (excellent)" in problem.message


@given(NAMES, NAMES, st.sampled_from(sorted(GOOD)))
def test_a_word_is_about_the_job_of_its_subject_and_may_repeat_it(tenant: str, job: str, word: str) -> None:
    at = heard(word, tenant, job)
    assert door.job_at(at) == (tenant, job)
    said: Any = GOOD[word]
    assert door.fault(said, at) is None
    named = type(said)(**({"score": 1} if word == "rate" else {}), tenant=tenant, job=job)
    assert door.fault(named, at) is None
    answer = door.refused(named, door.unknown(at), at)
    assert (answer.tenant, answer.job, answer.word, answer.at) == (tenant, job, word, T0)


@pytest.mark.parametrize(
    ("word", "subject", "field", "value"),
    [
        (JobRate(score=3, tenant="other"), "job.rate.acme.j-1", "tenant", "'other'"),
        (JobRate(score=3, job="j-2"), "job.rate.acme.j-1", "job", "'j-2'"),
        (JobRate(score=3), "job.rate.a%63me.j-1", "tenant", "'a%63me'"),
        (JobResume(), "job.resume.acme.j%2d1", "job", "'j%2d1'"),
        (JobRate(score=3, rater="r" * 129), "job.rate.acme.j-1", "rater", f"'{'r' * 129}'"),
        (JobResume(by="b" * 129), "job.resume.acme.j-1", "by", f"'{'b' * 129}'"),
        (JobCancel(reason="c" * 2001), "job.cancel.acme.j-1", "reason", f"'{'c' * 199}"),
    ],
)
def test_each_fault_names_its_field_and_value(word: door.Word, subject: str, field: str, value: str) -> None:
    problem = door.fault(word, Heard(now=T0, subject=subject))
    assert problem is not None
    assert (problem.field, problem.value) == (field, value)
    assert problem.message.startswith(f"{field} is '")


def test_what_is_over_and_what_is_unknown_say_so() -> None:
    done = Done(tenant="acme", job="j-1", ending="expired", at=T0)
    assert door.over(done, "too late.").message == "job is 'j-1': it has ended (expired): too late."
    assert "tenant 'acme' has no job of this id" in door.unknown(heard()).message
