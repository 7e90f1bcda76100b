"""The screens of `turnout submit` for many jobs and for machines, and what is left to say after Ctrl-C."""

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from actors.console import board, output, send
from actors.console.board import Json, Many, One, counts_table
from actors.console.endings import BAR, stage
from actors.console.follow import Track, Tracks
from actors.console.output import Output
from actors.console.screen import INTERRUPTED
from messages import (
    Artifact,
    Chunk,
    Done,
    Granted,
    JobSubmit,
    Message,
    ObjectRef,
    Origin,
    Problem,
    Progress,
    Refused,
    Rerouted,
    Result,
)
from messages.jobs import Ending

PROBLEM = Problem(reason="timeout", message="a: silent for 20 s")


@pytest.fixture(autouse=True)
def screens(monkeypatch) -> dict[str, io.StringIO]:
    """Both consoles, 80 columns wide, as text."""
    said = {"out": io.StringIO(), "err": io.StringIO()}
    for name, file in said.items():
        console = Console(file=file, width=80, markup=False, highlight=False, emoji=False, color_system=None)
        for module in (board, send, output):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, console)
    return said


def tracks(*jobs: str, tenant: str = "t") -> Tracks:
    return Tracks([JobSubmit(tenant=tenant, id=job, prompt="p") for job in jobs])


def hear(known: Tracks, screen: Any, *events: Message) -> None:
    for event in events:
        track = known.all["t", event.job]  # pyright: ignore[reportAttributeAccessIssue]
        track.hear(event)
        if track.ended:
            known.open.discard(("t", track.job))
        screen.heard(track, event, "")


def done(job: str, ending: Ending = "succeeded", **more: Any) -> Done:
    return Done(
        tenant="t",
        job=job,
        ending=ending,
        backend="a",
        model="m",
        cost_microdollars=90,
        submitted_at=0.0,
        at=2.0,
        **more,
    )


def test_many_jobs_are_counted_and_failures_have_lines(screens):
    known = tracks("j1", "j2", "j3")
    screen = Many(known, quiet=False)
    reroute = Rerouted(tenant="t", job="j1", n=2, from_backend="b", to_backend="a", cause=PROBLEM, at=1.0)
    hear(known, screen, reroute, done("j1"), done("j2", "failed", problem=PROBLEM))
    screen.note("one [red] note")
    screen.finish(known, {("t", "j1"): "An answer"})
    said = screens["err"].getvalue()
    assert "j1 ↻ a: silent for 20 s  ⇒  b → a" in said
    assert "✘ failed  j2  a/m  a: silent for 20 s" in said
    assert "one [red] note" in said
    assert [line.split() for line in said.splitlines()[-4:-1]] == [
        ["backend", "waiting", "running", "done", "not", "done"], ["-", "1", "·", "·", "·"], ["a", "·", "·", "1", "1"],
    ]  # fmt: skip
    assert said.splitlines()[-1].startswith(
        "1 of 3 jobs succeeded; cost $0.00018; half within 2.0 s, all within 2.0 s; "
    )
    assert screens["out"].getvalue().splitlines() == ["── j1 · a", "An answer"]


def test_failures_beyond_the_first_ten_have_no_lines(screens):
    names = [f"j{number}" for number in range(15)]
    known = tracks(*names)
    hear(known, Many(known, quiet=False), *(done(name, "failed", problem=PROBLEM) for name in names))
    assert screens["err"].getvalue().count("✘") == board.MOST_FAILURES


def test_quiet_is_quiet(screens):
    known = tracks("j1", "j2")
    screen = Many(known, quiet=True)
    hear(known, screen, done("j1"), done("j2", "failed", problem=PROBLEM))
    screen.note("nothing")
    screen.finish(known, {})
    assert screens["err"].getvalue() == screens["out"].getvalue() == ""


def test_the_counts_fit_on_a_narrow_screen(screens):
    known = tracks("j1", "j2")
    hear(
        known,
        Json(Output(output="jsonl"), many=True, quiet=True),
        Granted(tenant="t", job="j1", n=1, verdict="candidate", backend="\x1b[31m" + "x" * 100, at=0.0),
    )
    board.err.print(counts_table(known))
    said = screens["err"].getvalue()
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= 80


# ---------------------------------------------------------------------------------------------------- one job


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_what_was_missed_of_a_stream_is_mended_from_the_result(pieces: list[str], data: st.DataObject) -> None:
    numbers = list(range(len(pieces)))
    heard = data.draw(st.permutations(numbers))[: data.draw(st.integers(0, len(pieces)))]
    heard += data.draw(st.lists(st.sampled_from(numbers), max_size=3))  # Some come twice, after a reconnect.
    known, file = tracks("j"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "out", Console(file=file, force_terminal=True, color_system=None))
        screen = One(quiet=True)
        track = known.all["t", "j"]
        for number in heard:
            chunk = Chunk(tenant="t", job="j", n=1, number=number, text=pieces[number])
            screen.heard(track, chunk, track.hear(chunk))
        answer = "".join(pieces)
        assert answer.startswith(file.getvalue())
        track.hear(done("j", result=Result(text=answer)))
        screen.finish(known, {("t", "j"): answer})
    assert file.getvalue() == answer + "\n"


def test_an_answer_of_a_later_attempt_begins_on_a_line_of_its_own(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(board, "out", Console(file=file, force_terminal=True, color_system=None))
    known, screen = tracks("j"), One(quiet=True)
    track = known.all["t", "j"]
    for n, text in ((1, "half an ans"), (2, "the ")):  # That it went elsewhere was not heard.
        chunk = Chunk(tenant="t", job="j", n=n, number=0, text=text)
        screen.heard(track, chunk, track.hear(chunk))
    track.hear(done("j", result=Result(text="the answer")))
    screen.finish(known, {("t", "j"): "the answer"})
    assert file.getvalue().endswith("\nthe answer\n")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"stage": "called"}, "a is at work"),
        ({"stage": "queued"}, "a has it in its queue"),
        ({"stage": "loading", "text": "sdxl"}, "a is loading: sdxl"),
        ({"stage": "first_token"}, "a is answering"),
        ({"stage": "working", "share": 0.0}, f"a {'░' * BAR}   0%"),
        ({"stage": "working", "share": 0.5, "text": "step 5 of 10"}, f"a {'█' * 12}{'░' * 12}  50%  step 5 of 10"),
        ({"stage": "working", "share": 1.0, "text": "x\x1by"}, f"a {'█' * BAR} 100%  x\ufffdy"),
        ({"stage": "loading", "share": 0.25}, f"a is loading  {'█' * 6}{'░' * 18}  25%"),
    ],
)
def test_how_far_a_backend_is(step: dict[str, Any], said: str):
    track = Track("t", "j")
    track.hear(Progress(tenant="t", job="j", n=1, number=1, backend="a", **step))
    assert stage(track) == said


def test_files_are_named_with_the_command_that_fetches_them(screens):
    known = tracks("j1")
    ref = ObjectRef(key="t/j1/1/0", size_bytes=1, sha256="", media_type="image/png")
    file = Artifact(name="a.png", ref=ref, origin=Origin(backend="a", model="m"), expires_at=0.0)
    for files, said in (
        ((file,), "1 file: turnout get j1 --tenant t\n"),
        ((file, file), "2 files: turnout get j1 --tenant t --all\n"),
    ):
        known.all["t", "j1"].done = done("j1", result=Result(text="", artifacts=files))
        One(quiet=False).finish(known, {})
        assert said in screens["err"].getvalue()


# ------------------------------------------------------------------------------------------------ for machines


def test_machines_get_an_object_per_job_and_nothing_else(screens):
    known = tracks("j1", "j2", "j3")
    screen = Json(Output(output="jsonl"), many=True, quiet=True)
    refused = Refused(tenant="t", job="j2", problem=PROBLEM, at=1.0)
    hear(known, screen, done("j1", result=Result(text="An answer", finish_reason="stop")), refused)
    screen.note("nothing")
    screen.finish(known, {("t", "j1"): "An answer\n"})
    rows = [json.loads(line) for line in screens["out"].getvalue().splitlines()]
    told = [(row["id"], row["ending"], row["text"]) for row in rows]
    assert told == [("j1", "succeeded", "An answer\n"), ("j2", "refused", None), ("j3", None, None)]
    assert (rows[0]["finish_reason"], rows[0]["latency_seconds"]) == ("stop", 2.0)
    assert rows[1]["problem"]["message"] == PROBLEM.message
    assert screens["err"].getvalue() == ""


# ---------------------------------------------------------------------------------------------------- send


def test_one_job_is_heard_alone_and_many_by_tenant():
    assert send.patterns(tracks("a.b", tenant="x y")) == ["job.*.x%20y.a%2Eb", "job.*.x%20y.a%2Eb.*"]
    assert send.patterns(tracks("a", "b", tenant="acme")) == ["job.*.acme.>"]


def test_ids_are_short_and_differ():
    ids = {send.fresh_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 10 and one.isalnum() and not set("01ilo") & set(one) for one in ids)


@pytest.mark.parametrize(("machine", "said"), [(True, 0), (False, 5)])
def test_after_ctrl_c_it_says_how_to_go_on(screens, machine, said):
    known = tracks("j1", "j2", "j3", "j4")
    shown = send.Options(
        quiet=False,
        output=Output(output="json" if machine else "text"),
        many=True,
        wait=True,
        show_answers=False,
        own_ids=False,
    )
    nobody: Any = None
    assert asyncio.run(send._interrupted(nobody, known, shown)) == INTERRUPTED
    lines = screens["err"].getvalue().splitlines()
    assert len(lines) == said
    if said:
        assert lines[0] == "4 jobs left running. To go on:"
        assert lines[1].split("     ") == ["  turnout why j1 --tenant t", "turnout cancel j1 --tenant t"]
