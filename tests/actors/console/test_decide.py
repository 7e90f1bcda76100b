"""`turnout decide` against an analyzer and a router on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from actors.console.decide import refusal, submission
from actors.console.screen import Complaint, Wrong
from actors.console.submit import Job
from messages import Breaker, Model, PreviewIs, Price, Problem
from tests.actors.console.live import Live, live, run
from tests.messages.samples import backend


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("nats")) as deployment:
        paid = Model(name="m", price=Price(input_per_mtok=150_000, output_per_mtok=600_000), max_output_tokens=64)
        deployment.know(
            backend("gpu", models=(Model(name="m", tokens_per_second=500.0),)),
            backend("cloud", local=False, priority=2, models=(paid,)),
            backend("ill", healthy=False, health_reason="no answer"),
        )
        yield deployment


def test_it_shows_the_ranking_its_parts_and_the_filters(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decide", "Hello", "there", url=there.server.url) == 0
    shown, said = capsys.readouterr()
    for expected in (
        "Preview · expected_cost", "gpu/m", "gpu leads with", "an hour of waiting counts $0.60", "time", "cloud/m",
        "cloud/m: output capped at 64", "ill/m is unhealthy: no answer (unhealthy)",
    ):  # fmt: skip
        assert expected in shown
    assert "no job was created" in said
    assert "--deadline" not in said
    assert there.jobs() == 0


def test_flags_count_as_they_do_for_submit(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("decide", "--preferred-backend", "cloud", "--deadline", "5s", "--max-tokens", "32", "--prompt", "Hello")
    assert run(*words, url=there.server.url) == 0
    shown, said = capsys.readouterr()
    assert "cloud is the preferred backend" in shown
    assert "output capped" not in shown
    assert "the deadline is assumed to be 10 min 0 s away, whatever --deadline says" in said


def test_for_machines_it_is_the_answer(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decide", "Hello", "--id", "mine", "--tenant", "acme", "--output", "json", url=there.server.url) == 0
    answer = msgspec.json.decode(capsys.readouterr().out, type=PreviewIs)
    assert answer.decided is not None
    assert (answer.decided.tenant, answer.decided.job) == ("acme", "mine")
    assert [candidate.backend for candidate in answer.decided.ranking] == ["gpu", "cloud"]
    assert there.jobs() == 0


def test_nobody_is_told_with_every_reason(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decide", "Hello", "--capability", "vision", url=there.server.url) == 1
    shown = capsys.readouterr().out
    assert "would fail" in shown or "would wait" in shown
    assert "gpu/m lacks vision (capability)" in shown
    there.know(Breaker(backend="gpu", model="m", open_until=4e9, reason="3 failures", through_seq=1))
    try:
        assert run("decide", "Hello", "--local-only", url=there.server.url) == 1
        shown = capsys.readouterr().out
        assert "would wait" in shown
        assert "3 failures" in shown
    finally:
        there.know(Breaker(backend="gpu", model="m", open_until=0.0, through_seq=2))


def test_what_would_be_rejected_is_wrong_usage(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decide", "Hello", "--strategy", "cheapest", url=there.server.url) == 2
    assert "strategy is 'cheapest'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("Hello",), 3, "no bus at nats://127.0.0.1:1"),
        (("Hello", "--prompt", "again"), 2, "given twice"),
        (("Hello", "--temperature", "hot"), 2, "temperature"),
        (("Hello", "--max-cost", "-1"), 2, "--max-cost is '-1'"),
        ((" ",), 2, "there is no prompt"),
    ],
)
def test_wrong_usage_and_no_bus(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("decide", *words) == code
    assert said in capsys.readouterr().err


def test_an_assumed_text_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert submission((), Job(), assumed="A text.").prompt == "A text."
    assert "no text is given: 'A text.' is assumed" in capsys.readouterr().err
    assert submission(("5", "<stdin>", "3"), Job(), assumed="A text.").prompt == "5 - 3"
    assert capsys.readouterr().err == ""


def test_a_problem_is_wrong_usage_only_when_the_question_was_wrong() -> None:
    assert isinstance(refusal(Problem(reason="invalid", message="jobs is 0")), Wrong)
    nobody = refusal(Problem(reason="no_backend", message="nobody"))
    assert (nobody.code, nobody.text) == (1, "nobody")
    assert isinstance(refusal(None), Complaint)
