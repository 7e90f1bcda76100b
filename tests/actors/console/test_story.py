"""The story of a job, and the lines of `watch`, in words."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from actors.console import screen
from actors.console.board import One
from actors.console.endings import end_line, record
from actors.console.follow import Track, Tracks
from actors.console.story import needs_in_words, tell
from actors.console.watch import Steps, lines
from messages import (
    Analyzed,
    Artifact,
    Attempt,
    Attempted,
    Awaited,
    Breaker,
    Candidate,
    Check,
    Decided,
    Done,
    Explained,
    Failover,
    Features,
    Granted,
    Held,
    JobSubmit,
    Media,
    Message,
    Met,
    Needs,
    ObjectRef,
    Origin,
    Problem,
    Progress,
    Reason,
    Rerouted,
    Reservation,
    Result,
    Retry,
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
        "1 image; code, final, simple (score 12.5); must have lora; model flux; would like vision; "
        "prefers flux-dev; prefers left; local only; speed first; at most $0.0015"
    )


@pytest.mark.parametrize(
    ("asset", "media", "said"),
    [
        ("image", Media(images=1, width=1024, height=1024), "1 image of 1024x1024; "),
        ("image", Media(images=3), "3 images; "),
        ("video", Media(width=768, height=512, seconds=4.0, frames=96), "1 video of 768x512, 4 s; "),
        ("video", Media(frames=48), "1 video of 48 frames; "),
        ("audio", Media(seconds=10.0), "10 s of audio; "),
        ("audio", Media(), "1 sound; "),
    ],
)
def test_media_is_told_by_what_is_made_and_not_in_tokens(asset: Any, media: Media, said: str) -> None:
    told = needs_in_words(msgspec.structs.replace(NEEDS, asset=asset, media=media, complexity_score=53.321))
    assert told.startswith(said)
    assert "token" not in told
    assert "(score 53.3)" in told


def test_embeddings_are_told_in_tokens() -> None:
    told = needs_in_words(msgspec.structs.replace(NEEDS, asset="embedding"))
    assert told.startswith("embedding; ")
    assert "~30 tokens in" in told


NOBODY = Problem(reason="no_backend", message="no backend may run this job: none of 18 models can do audio")


def test_why_nobody_fits_is_told_once() -> None:
    event = decided(ranking=(), others=(), gave_up=NOBODY, reason=f"gave up: {NOBODY.message}")
    ended = Done(**WHO, ending="failed", problem=NOBODY, at=102.0)
    explained = Explained(**WHO, n=1, chosen="", summary=f"The job is given up: {NOBODY.message}.")
    assert drawn(list(tell([event, ended]))).count("none of 18") == 1
    assert drawn(list(tell([event, explained, ended]))).count("none of 18") == 1
    assert drawn(list(tell([ended]))).count("none of 18") == 1
    watched = [line for one in (event, ended) for line in lines(one, now=100.0)]
    assert drawn(watched).count("none of 18") == 1


def test_only_a_screen_gets_lines_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    long = decided(reason="x" * 900)
    shown = {}
    for terminal in (False, True):
        monkeypatch.setattr(screen, "out", Console(file=io.StringIO(), force_terminal=terminal))
        (line,) = lines(long, now=100.0)
        assert isinstance(line, Text)
        shown[terminal] = line.plain
    assert "x" * 900 in shown[False]
    assert shown[True].endswith("xx…")


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
    first = decided(ranking=(), reason="nothing may run now", wait_seconds=2.0)
    waits = Retry(
        **WHO, n=2, slip=first.slip, not_before=102.0, at=100.0, awaiting=(Awaited(kind="backend", name="left"),),
        cause=PROBLEM,
    )  # fmt: skip
    said = drawn(list(tell([first, waits], now=101.0)))
    assert "nobody may run it now" in said
    assert "for backend left to take work; it looks again after 2.0 s at most" in said
    assert "It has not ended yet: waiting for 1.0 s" in said


def test_a_held_job_says_since_when_for_which_budget_and_what_frees_it() -> None:
    over = Problem(reason="over_budget", message="left/m1: over budget (team): may cost $0.01, $0.001 left")
    said = drawn(list(tell([Held(**WHO, n=1, problem=over, budgets=("team",), until=200.0, at=100.0)], now=105.0)))
    assert "turnout budget raise team" in said
    assert "turnout budget resume" in said
    assert over.message in said
    assert "It has not ended yet: held for 5.0 s" in said


def test_what_is_held_on_several_budgets_and_billed_late_is_counted_once() -> None:
    holds = tuple(
        Reservation(budget=name, subject=f"ledger.{name}", amount=1_500, unit="microdollars")
        for name in ("a", "b", "c")
    )
    granted = Granted(**WHO, n=1, verdict="candidate", backend="left", model="m1", reserved=holds, at=100.0)
    late = msgspec.structs.replace(ATTEMPTED, billed_microdollars=700, at=103.0)
    end = Done(**WHO, ending="cancelled", cost_microdollars=0, problem=PROBLEM, at=102.0)
    said = drawn(list(tell([granted, end, late, late])))
    assert "$0.0015 reserved" in said
    assert "$0.0007 for 0 attempts" in said


def test_a_narrow_screen_still_shows_the_backend() -> None:
    assert "left" in drawn(list(tell([decided()])), width=60)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (decided(), "→ left/m1  left leads"),
        (decided(gave_up=PROBLEM, reason="gave up: nobody is left"), "gives up: nobody is left"),
        (REROUTED, "left: it broke  ⇒  left → right; model m1 -> m2"),
        (ATTEMPTED, "server_error after 500 ms: left: it broke"),
        (DONE, "✔ succeeded  right/m2  $0.0015  4.0 s  7 tokens  2 attempts"),
        (OPENED, "pauses for 30.0 s: 3 in a row"),
    ],
)  # fmt: skip
def test_watch_says_one_line(event: Message, said: str) -> None:
    (line,) = lines(event, now=100.0)
    assert said in drawn([line])


def step(number: int, stage: Any = "working", share: float | None = None, n: int = 1) -> Progress:
    return Progress(**WHO, n=n, number=number, stage=stage, backend="a", share=share, text="step 1 of 9")


def test_watch_tells_a_new_stage_and_every_tenth_of_the_work() -> None:
    steps = Steps()
    shares = [0.0, 0.05, 0.09, 0.11, 0.1, 0.35, 1.0, 1.0]
    assert [share for share in shares if steps.tells(step(1, share=share))] == [0.0, 0.11, 0.35, 1.0]
    assert steps.tells(step(1, "loading"))
    assert not steps.tells(step(2, "loading"))
    assert steps.tells(step(1, "loading", n=2))
    (line,) = lines(step(1, share=0.5), now=0.0)
    assert "█░" in drawn([line])
    assert "50%  step 1 of 9" in drawn([line])
    assert list(lines(step(0, "called"), now=0.0)) == []


def test_the_story_names_files_embeddings_and_checks() -> None:
    ref = ObjectRef(key="t/j/1/0", size_bytes=1_234, sha256="", media_type="image/png")
    file = Artifact(name="a.png", ref=ref, origin=Origin(backend="a", model="m"), width=64, height=48, expires_at=0.0)
    checks = (Check(name="size", verdict="soft_fail", message="another"), Check(name="v", verdict="pass", score=4.5))
    done = Done(**WHO, ending="succeeded", result=Result(artifacts=(file,) * 14, checks=checks), at=1.0)
    told = drawn(list(tell([done])))
    assert told.count("a.png: image/png, 64 x 48, 1,234 bytes") == 12
    assert "and 2 more" in told
    assert "size: soft_fail: another" in told
    assert "v: pass, 4.5 of 5" in told
    vectors = Done(**WHO, ending="succeeded", result=Result(embeddings=((0.5,) * 8,) * 3), at=1.0)
    assert "3 embeddings of 8 numbers" in drawn(list(tell([vectors])))


def test_the_story_says_how_an_answer_ended_what_it_calls_and_what_it_refused() -> None:
    call = msgspec.Raw(b'{"id":"c","function":{"name":"weather","arguments":"{\\"city\\":\\"Ulm\\"}"}}')
    result = Result(
        text="Half", finish_reason="length", tool_calls=(call,), refusal="Not that.", reasoning="I think so"
    )
    told = drawn(list(tell([Done(**WHO, ending="succeeded", result=result, at=1.0)])))
    assert "cut at its cap on tokens (finish reason length)" in told
    assert 'weather({"city":"Ulm"})' in told
    assert "Not that." in told
    assert "10 characters: I think so" in told


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


def test_one_job_says_what_is_to_be_known_of_its_answer(capsys: pytest.CaptureFixture) -> None:
    call = msgspec.Raw(b'{"id":"c","function":{"name":"weather","arguments":"{}"}}')
    check = Check(name="encoding", verdict="soft_fail", message="bytes were replaced")
    result = Result(text="a", finish_reason="length", tool_calls=(call,), checks=(check,))
    tracks = Tracks([JobSubmit(tenant="t", id="j", prompt="p")])
    tracks.all["t", "j"].done = msgspec.structs.replace(DONE, result=result)
    One(quiet=False).finish(tracks, {("t", "j"): "a"})
    shown = capsys.readouterr()
    assert shown.out == "a\n"
    for words in ("finish reason length", "calls weather({})", "encoding: bytes were replaced"):
        assert words in shown.err


def test_guardrails_that_were_met_are_told_with_whom_they_were_about() -> None:
    met = (
        Met(backend="left", model="m1", kind="guardrail", text="could cost $0.02, $0.01 a call (cost_limit)"),
        Met(backend="right", model="m2", kind="guardrail", text="is late", passed_over=False),
    )
    told = drawn(list(tell([Done(**WHO, ending="succeeded", guardrails=met, at=1.0)])))
    assert "left/m1 was passed over: could cost $0.02" in " ".join(told.split())
    assert "right/m2 ran all the same: is late" in " ".join(told.split())


def test_a_word_that_means_nothing_is_told_as_soon_as_the_job_is_understood() -> None:
    needs = msgspec.structs.replace(NEEDS, remarks=("role 'wrter' is in no policy: was 'writer' meant?",))
    event = Analyzed(**WHO, fingerprint="f", slip=msgspec.structs.replace(SLIP, needs=needs), at=100.0)
    assert "was 'writer' meant?" in drawn(list(lines(event, now=100.0)))
