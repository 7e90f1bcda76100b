"""The story of a job, and the lines of `watch`, in words."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from actors.console.board import One
from actors.console.endings import end_line, record
from actors.console.follow import Track, Tracks
from actors.console.story import needs_in_words, tell
from actors.console.watch import lines
from messages import (
    Analyzed,
    Attempt,
    Attempted,
    Breaker,
    Candidate,
    Decided,
    Done,
    Explained,
    Failover,
    Features,
    Granted,
    JobSubmit,
    Message,
    Needs,
    Problem,
    Reason,
    Rerouted,
    Result,
    Skipped,
    Slip,
    Usage,
)

WHO: dict[str, Any] = {"tenant": "t", "job": "j"}
NEEDS = Needs(
    task="code", quality="final", complexity="simple", complexity_score=12.5, input_tokens=30, max_output_tokens=500,
    allow_cloud=False, max_cost_microdollars=0, why=("about 30 input tokens",),
)  # fmt: skip
SLIP = Slip(**WHO, submitted_at=100.0, deadline_at=160.0, input_seq=1, needs=NEEDS)
PROBLEM = Problem(reason="server_error", message="left: it broke", status=500, body='{"error": "whole\x1b[31m"}')
PARTS = ("priority", "cost", "speed", "queue")
LEFT = Candidate(
    backend="left", model="m1", score=80.0, parts=(40.0, 20.0, 12.5, 7.5),
    features=Features(service_seconds=2.0, wait_seconds=1.0, price_microdollars=4200.0, ahead=3.0),
)  # fmt: skip
RIGHT = Candidate(backend="right", model="m2", barred="unhealthy", reason="is unhealthy: no answer")


def decided(n: int = 1, **more: object) -> Decided:
    fields: dict[str, Any] = {"ranking": (LEFT,), "others": (RIGHT,), "reason": "left leads", "parts": PARTS, **more}
    return Decided(
        **WHO, n=n, slip=SLIP, strategy="weighted_score", policy="default@1", failover=Failover(), at=101.0, **fields
    )


ATTEMPTED = Attempted(
    **WHO, n=1, backend="left", model="m1", task="code", outcome="server_error", problem=PROBLEM, partial="half an",
    latency_seconds=0.5, at=102.0,
)  # fmt: skip
REROUTED = Rerouted(
    **WHO, n=2, from_backend="left", to_backend="right", cause=PROBLEM, changes=("model m1 -> m2",), at=103.0
)
DONE = Done(
    **WHO, ending="succeeded", backend="right", model="m2", result=Result(text="the answer"), cost_microdollars=1500,
    usage=Usage(input_tokens=30, output_tokens=7), submitted_at=100.0, at=104.0,
    attempts=(
        Attempt(n=1, backend="left", model="m1", outcome="server_error", billed_microdollars=0),
        Attempt(n=2, backend="right", model="m2", outcome="ok", billed_microdollars=1500),
    ),
)  # fmt: skip
FASTER = Reason(kind="speed", text="left is faster")
OPENED = Breaker(backend="left", model="m1", times_opened=1, open_until=130.0, reason="3 in a row")


def drawn(parts: list[RenderableType], width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_whole_story() -> None:
    events: list[Message] = [
        Analyzed(**WHO, fingerprint="f", slip=SLIP, at=100.0),
        decided(),
        Granted(**WHO, n=1, verdict="candidate", backend="left", model="m1",
                skipped=(Skipped(backend="cheap", reason="over budget"),), at=101.0),
        ATTEMPTED,
        REROUTED,
        DONE,
    ]  # fmt: skip
    said = drawn(list(tell(events)))
    for expected in (
        "code, final, simple (score 12.5)", "local only", "at most $0", "about 30 input tokens", "60.0 s in all",
        "Round 1 · weighted_score · policy default@1", "80.0", "3.0 s", "$0.0042", "12.5", "right/m2 is unhealthy: no answer",
        "(unhealthy)", "left leads", "cheap: over budget", "server_error", "left: it broke", "HTTP 500",
        '{"error": "whole�[31m"}',
        "before that it had written: half an", "left → right; model m1 -> m2", "succeeded after 4.0 s", "$0.0015 for 2 attempts",
        "the answer",
    ):  # fmt: skip
        assert expected in said, expected
    assert "not ended yet" not in said


def test_needs_on_one_line() -> None:
    wanted = msgspec.structs.replace(
        NEEDS, asset="image", capabilities=("lora",), model="flux", preferred=("vision",), preferred_model="flux-dev",
        preferred_backend="left", prioritize_speed=True, max_cost_microdollars=1500,
    )  # fmt: skip
    assert needs_in_words(wanted) == (
        "image; code, final, simple (score 12.5); ~30 tokens in, at most 500 out; must have lora; model flux; would like vision; "
        "prefers flux-dev; prefers left; local only; speed first; at most $0.0015"
    )


def test_a_rejection_names_the_field() -> None:
    wrong = Problem(reason="invalid", message="temperature is 9: use 0 to 2.", field="temperature")
    events: list[Message] = [
        Analyzed(**WHO, fingerprint="f", rejected=wrong, at=100.0),
        Done(**WHO, ending="rejected", problem=wrong, at=100.0),
    ]
    said = drawn(list(tell(events)))
    assert "Not accepted" in said
    assert "field temperature" in said


def test_a_job_that_waits_says_why_and_that_it_goes_on() -> None:
    held = decided(ranking=(), reason="nothing may run now", wait_seconds=2.0)
    said = drawn(list(tell([held])))
    assert "held back" in said
    assert "looks again after 2.0 s" in said
    assert "It has not ended yet" in said


def test_a_narrow_screen_still_shows_the_backend() -> None:
    assert "left" in drawn(list(tell([decided()])), width=60)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (decided(), "→ left/m1  left leads"),
        (decided(ranking=()), "held back 0 ms: right is unhealthy: no answer"),
        (decided(gave_up=Problem(reason="no_backend", message="nobody")), "gave up: nobody"),
        (REROUTED, "left: it broke  ⇒  left → right; model m1 -> m2"),
        (ATTEMPTED, "server_error after 500 ms: left: it broke"),
        (DONE, "✔ succeeded  right/m2  $0.0015  4.0 s  7 tokens  2 attempts"),
        (OPENED, "pauses for 30.0 s: 3 in a row"),
    ],
)  # fmt: skip
def test_watch_says_one_line(event: Message, said: str) -> None:
    (line,) = lines(event, now=100.0)
    assert said in drawn([line])


def test_watch_says_more_when_asked() -> None:
    explained = Explained(
        **WHO, n=1, chosen="left/m1", summary="s", reasons=(FASTER,), suggestions=("look after right",)
    )
    assert list(lines(explained, now=0.0)) == []
    told = drawn(list(lines(explained, now=0.0, verbose=True)))
    assert "left is faster" in told
    assert "hint: look after right" in told
    third = decided(ranking=(LEFT, msgspec.structs.replace(LEFT, backend="third", score=70.25)))
    assert "then third/m1: 70.25" in drawn(list(lines(third, now=0.0, verbose=True)))
    assert "not right/m2: is unhealthy" in drawn(list(lines(decided(), now=0.0, verbose=True)))


def test_the_end_in_a_line_and_for_machines() -> None:
    track = Track("t", "j", done=DONE)
    assert "✔ succeeded  j  right/m2" in end_line(track, with_id=True).plain
    found = record(track, "the answer")
    assert (found["ending"], found["text"], found["cost_microdollars"]) == ("succeeded", "the answer", 1500)
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["server_error", "ok"]
    failed = Done(**WHO, ending="failed", problem=PROBLEM, cost_microdollars=0, at=1.0)
    assert "left: it broke" in end_line(Track("t", "j", done=failed)).plain


def test_one_job_on_a_pipe_prints_its_answer_only(capsys: pytest.CaptureFixture) -> None:
    tracks = Tracks([JobSubmit(tenant="t", id="j", prompt="p")])
    screen = One(quiet=False)
    track = tracks.all["t", "j"]
    track.done = DONE
    screen.finish(tracks, {("t", "j"): "the answer"})
    shown = capsys.readouterr()
    assert shown.out == "the answer\n"
    assert "succeeded" in shown.err
    assert "turnout why j --tenant t" in shown.err
