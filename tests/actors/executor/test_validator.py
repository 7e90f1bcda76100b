"""What a validator's job is asked, and what its answer means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.executor import validator
from actors.executor.backends import port
from messages import AnswerChecks, Artifact, Attempt, Done, JobSubmit, ObjectRef, Origin, Problem, Result, Work
from tests.messages.samples import T0, slip, work

ANSWER = port.Answer(text="An answer.", finish_reason="stop", model="m", usage=port.Usage())
SUBMIT = JobSubmit(system="Be brief.", messages=({"role": "user", "content": [{"type": "text", "text": "Why?"}]},))


def judged(**more: Any) -> Work:
    needs = {"user": "ada", "workflow": "site", "step": "hero", "product": "landing", "allow_cloud": False}
    given: dict[str, Any] = {
        "checks": AnswerChecks(validator="Is it short?"), "slip": slip(needs={**needs, **more.pop("needs", {})}),
    }  # fmt: skip
    return work(**{**given, **more})


def job(item: Work, artifacts: tuple[Artifact, ...] = (), billed: int = 5) -> JobSubmit:
    return validator.job_of(item, SUBMIT, ANSWER, artifacts, seconds=30.0, billed=billed)


def text_of(one: JobSubmit) -> str:
    content = one.messages[0]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def test_it_is_asked_only_when_the_policy_says_so_and_never_about_itself() -> None:
    assert validator.is_wanted(judged())
    assert not validator.is_wanted(work())
    assert not validator.is_wanted(judged(needs={"role": "validator"}))


def test_it_sees_the_criterion_the_question_and_the_answer() -> None:
    one = job(judged())
    text = text_of(one)
    for part in ("Is it short?", "system: Be brief.", "user: Why?", "An answer."):
        assert part in text
    assert (one.role, one.asset, one.tenant, one.allow_cloud) == ("validator", "text", "acme", False)
    assert (one.user, one.workflow, one.step, one.product) == ("ada", "site", "hero", "landing")
    assert (one.deadline_seconds, one.max_cost_microdollars) == (30.0, None)
    assert one.response_format is not None
    assert one.response_format["json_schema"]["schema"]["required"] == ["score", "verdict", "reason"]


def test_it_may_spend_what_the_job_has_left() -> None:
    before = Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=30)
    item = judged(attempts=(before,), needs={"max_cost_microdollars": 100})
    assert job(item, billed=5).max_cost_microdollars == 65
    assert job(item, billed=500).max_cost_microdollars == 0


def test_one_attempt_is_judged_by_one_job() -> None:
    ids = {job(judged(n=n, job=name)).id for n in (1, 2) for name in ("j-1", "j-2")}
    assert len(ids) == 4
    assert job(judged()).id == job(judged()).id


def test_pictures_are_shown_from_where_they_lie() -> None:
    def picture(number: int, media_type: str = "image/png") -> Artifact:
        ref = ObjectRef(key=f"acme/j-1/1/{number}", size_bytes=9, sha256="", media_type=media_type)
        return Artifact(name=f"{number}", ref=ref, origin=Origin(backend="a", model="m"), expires_at=0.0)

    one = job(judged(), (picture(0, "video/mp4"), *(picture(n) for n in range(1, 9))))
    shown = [part["image_url"]["url"] for part in one.messages[0]["content"][1:]]
    assert shown == [f"object:acme/j-1/1/{n}" for n in range(1, 5)]
    assert "[a file: 0, video/mp4, 9 bytes]" in text_of(one)


def test_long_answers_are_cut() -> None:
    long = msgspec.structs.replace(ANSWER, text="x" * 1_000_000)
    one = validator.job_of(judged(), SUBMIT, long, (), seconds=1.0, billed=0)
    assert len(text_of(one)) < validator.ANSWER_CHARACTERS + 1_000


@pytest.mark.parametrize(("left", "seconds"), [(600.0, 60.0), (40.0, 20.0), (1.9, 0.0), (-5.0, 0.0)])
def test_it_has_at_most_half_of_the_time_that_is_left(left: float, seconds: float) -> None:
    assert validator.seconds_for(judged(slip=slip(deadline_at=T0 + left)), T0) == pytest.approx(seconds)


def ended(text: str, **more: Any) -> Done:
    given: dict[str, Any] = {"ending": "succeeded", "result": Result(text=text)}
    return Done(tenant="acme", job="check-1", at=T0, **{**given, **more})


@pytest.mark.parametrize(
    ("score", "said", "verdict"),
    [
        (5, "pass", "pass"), (3, "pass", "pass"), (3, "fail", "soft_fail"), (2.9, "pass", "soft_fail"),
        (2, "fail", "soft_fail"), (1.9, "pass", "hard_fail"), (1, "fail", "hard_fail"),
    ],
)  # fmt: skip
def test_a_score_is_a_verdict_by_the_policys_limits(score: float, said: str, verdict: str) -> None:
    text = msgspec.json.encode({"score": score, "verdict": said, "reason": "because"}).decode()
    check = validator.check_of(ended(text), judged())
    assert (check.verdict, check.score, check.message) == (verdict, score, "because")
    assert check.name == validator.id_of(judged())


@pytest.mark.parametrize(
    "done",
    [
        None, ended("no JSON"), ended('{"reason": "x"}'), ended('{"score": 7}'), ended('{"score": 0}'),
        ended("", ending="failed", result=None, problem=Problem(reason="no_backend", message="nobody")),
        ended("", ending="expired", result=None),
    ],
)  # fmt: skip
def test_without_a_verdict_the_answer_is_used_and_that_is_told(done: Done | None) -> None:
    check = validator.check_of(done, judged())
    assert (check.verdict, check.score) == ("soft_fail", None)
    assert check.message.startswith("no verdict: ")
