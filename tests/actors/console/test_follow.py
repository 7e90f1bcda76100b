"""Following jobs by their public events."""

from typing import Any

import msgspec

from actors.console.follow import Track, Tracks
from bus import codec
from messages import (
    Analyzed,
    Awaited,
    Chunk,
    Done,
    Granted,
    Held,
    JobSubmit,
    Message,
    Problem,
    Progress,
    Refused,
    Rerouted,
    Result,
    Retry,
    Started,
)
from tests.messages import samples

WHO: dict[str, Any] = {"tenant": "t", "job": "j"}


def granted(n: int, backend: str) -> Granted:
    return Granted(**WHO, n=n, verdict="candidate", backend=backend, model="m", at=0.0)


def chunk(number: int, text: str, n: int = 1) -> Chunk:
    return Chunk(**WHO, n=n, number=number, text=text)


def track_after(*events: Message) -> Track:
    track = Track("t", "j")
    for event in events:
        track.hear(event)
    return track


def test_stages() -> None:
    track = Track("t", "j")
    stages = [track.stage]
    started = Started(**WHO, n=1, backend="a", instance="i", boot="b", run="1", at=0.0)
    done = Done(**WHO, ending="succeeded", backend="a", at=1.0)
    for event in (Analyzed(**WHO, fingerprint="f", at=0.0), granted(1, "a"), started, chunk(0, "x"), done):
        track.hear(event)
        stages.append(track.stage)
    assert stages == ["sent", "choosing", "queued", "running", "running", "ended"]
    assert track.ending == "succeeded"


def test_chunks_in_order_are_shown_at_once() -> None:
    track = Track("t", "j")
    assert [track.hear(chunk(0, "a")), track.hear(chunk(1, "b"))] == ["a", "b"]


def test_after_a_gap_nothing_is_shown() -> None:
    track = track_after(chunk(0, "a"))
    assert track.hear(chunk(2, "c")) == ""
    assert track.hear(chunk(1, "b")) == ""
    assert track.gap


def test_a_repeated_chunk_is_shown_once() -> None:
    track = track_after(chunk(0, "a"))
    assert track.hear(chunk(0, "a")) == ""
    assert track.hear(chunk(1, "b")) == "b"


def test_a_later_round_begins_anew_and_an_earlier_one_is_late() -> None:
    track = track_after(granted(1, "a"), chunk(0, "x"), granted(2, "b"))
    assert track.hear(chunk(1, "late", n=1)) == ""
    assert track.hear(chunk(0, "y", n=2)) == "y"
    assert track.backend == "b"


def step(number: int, share: float | None = None, n: int = 1) -> Progress:
    return Progress(**WHO, n=n, number=number, stage="working", backend="a", share=share)


def test_the_latest_step_counts_and_a_later_round_begins_without_one() -> None:
    track = track_after(granted(1, "a"), step(1, 0.1), step(3, 0.3), step(2, 0.2))
    assert track.step == step(3, 0.3)
    assert track_after(granted(2, "b"), step(9, 0.9, n=1)).step is None
    track.hear(granted(2, "b"))
    assert (track.step, track.stage) == (None, "queued")


def test_reroutes_count_once() -> None:
    problem = Problem(reason="timeout", message="silent")
    event = Rerouted(**WHO, n=2, from_backend="a", to_backend="b", cause=problem, at=0.0)
    assert len(track_after(event, event).reroutes) == 1


def test_refused_is_an_end() -> None:
    assert not track_after(Refused(**WHO, word="rate", problem=Problem(reason="invalid", message="99"), at=0.0)).ended
    track = track_after(Refused(**WHO, problem=Problem(reason="invalid", message="used"), at=0.0))
    assert track.ended
    assert track.ending == "refused"


def test_nothing_is_heard_after_the_end() -> None:
    track = track_after(Done(**WHO, ending="failed", at=0.0), Done(**WHO, ending="succeeded", at=1.0))
    assert track.ending == "failed"


def test_tracks_hear_public_subjects_of_their_own_jobs() -> None:
    tracks = Tracks([JobSubmit(tenant="t", id="j", prompt="p"), JobSubmit(tenant="t", id="k", prompt="p")])
    done = Done(**WHO, ending="succeeded", backend="a", result=Result(text="x"), at=0.0)
    other = Done(tenant="t", job="z", ending="failed", at=0.0)
    heard = tracks.hear("job.done.t.j", codec.encode(done), {})
    assert heard is not None
    assert heard[0].ending == "succeeded"
    assert tracks.hear("job.done.t.j", codec.encode(done), {}) is None
    assert tracks.hear("job.done.t.z", codec.encode(other), {}) is None
    assert tracks.hear("job.done.t.k", b"broken", {}) is None
    assert tracks.hear("job.unheard.t.k", b"{}", {}) is None
    assert tracks.open == {("t", "k")}
    assert tracks.counts() == {"a": {"succeeded": 1}, "-": {"waiting": 1}}


def test_a_wait_and_a_hold_name_what_is_in_the_way_and_end_with_the_next_round() -> None:
    awaited = Awaited(kind="settlement", name="ledger.tenant.t.microdollars.day-1", budget="team", amount=600)
    wait = samples.decided(tenant="t", job="j")
    retry = Retry(
        **WHO, n=2, slip=wait.slip, not_before=60.0, awaiting=(awaited,), at=1.0,
        cause=Problem(reason="no_backend", message="nothing may run now, waiting for a change: no backend is known"),
    )  # fmt: skip
    track = track_after(retry)
    assert (track.stage, track.waits_for) == (
        "waiting",
        "room for $0.0006 in budget team, once what other jobs hold of it is settled; no backend is known",
    )
    assert track_after(retry, granted(2, "a")).waits_for == ""
    over = Problem(reason="over_budget", message="a/m: over budget (team)")
    track = track_after(Held(**WHO, n=1, problem=over, budgets=("team",), until=9.0, at=1.0))
    assert track.stage == "held"
    for said in ("team", "turnout budget raise team", "turnout budget resume j --tenant t", over.message):
        assert said in track.waits_for
    track.hear(msgspec.structs.replace(retry, not_before=0.0, awaiting=()))
    assert (track.stage, track.wait) == ("choosing", "")
