"""How far an attempt is, as often as somebody can follow it."""

from __future__ import annotations

import base64
import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.port import Stage, Step
from actors.executor.progress import PREVIEW_BYTES, PREVIEW_SECONDS, STEP_SECONDS, Course
from messages import Progress
from tests.messages.samples import work

STAGES: st.SearchStrategy[Stage] = st.sampled_from(["queued", "loading", "working"])
STEPS = st.builds(Step, stage=STAGES, share=st.none() | st.floats(-1, 2), preview=st.sampled_from([b"", b"p"]))


def test_marks_and_steps_are_numbered_together() -> None:
    course = Course(work())
    step = Step(stage="working", share=0.5, text="step 1 of 2", preview=b"jpeg")
    said = [course.mark("called"), course.step(step, 0.0), course.mark("first_token")]
    assert said == [
        Progress(tenant="acme", job="j-1", n=1, number=0, stage="called", backend="a"),
        Progress(
            tenant="acme", job="j-1", n=1, number=1, stage="working", backend="a", share=0.5, text="step 1 of 2",
            preview=base64.b64encode(b"jpeg").decode(),
        ),
        Progress(tenant="acme", job="j-1", n=1, number=2, stage="first_token", backend="a"),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 1), STEPS), max_size=40))
def test_steps_of_a_stage_and_pictures_are_never_said_too_often(steps: list[tuple[float, Step]]) -> None:
    course, now, said = Course(work()), 0.0, list[tuple[float, Progress]]()
    for pause, step in steps:
        now += pause
        if one := course.step(step, now):
            said.append((now, one))
    assert [one.number for _, one in said] == list(range(len(said)))
    assert all(one.share is None or 0 <= one.share <= 1 for _, one in said)
    for (before, last), (after, one) in itertools.pairwise(said):
        assert one.stage != last.stage or one.preview or after - before >= STEP_SECONDS
    shown = [at for at, one in said if one.preview]
    assert all(after - before >= PREVIEW_SECONDS for before, after in itertools.pairwise(shown))


def test_a_picture_in_the_same_millisecond_as_its_step_is_shown() -> None:
    """As in the case `comfy_ws_progress_with_flags`: every 0.7 s a step's state, its picture, and the step once more."""
    course, shown = Course(work()), 0
    for number in range(1, 17):
        step = Step(stage="working", share=number / 16)
        for sent in (step, msgspec.structs.replace(step, preview=b"jpeg"), step):
            said = course.step(sent, 0.7 * number)
            shown += bool(said and said.preview)
    assert shown == 16


@given(st.lists(STAGES, min_size=1, max_size=20))
def test_every_change_of_stage_is_said_at_once(stages: list[Stage]) -> None:
    course = Course(work())
    said = [one.stage for stage in stages if (one := course.step(Step(stage=stage), 0.0))]
    assert said == [stage for place, stage in enumerate(stages) if place == 0 or stage != stages[place - 1]]


def test_a_picture_that_is_too_large_is_left_out() -> None:
    course = Course(work())
    said = course.step(Step(stage="working", preview=b"x" * (PREVIEW_BYTES + 1)), 0.0)
    assert said is not None
    assert said.preview == ""


def test_it_knows_whether_work_has_begun() -> None:
    course = Course(work())
    course.step(Step(stage="loading"), 0.0)
    assert (course.stage, course.worked) == ("loading", False)
    course.alive()
    course.step(Step(stage="queued"), 0.0)
    assert (course.stage, course.worked) == ("queued", True)
