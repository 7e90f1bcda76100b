"""`turnout estimate`, `recommend` and `quote` on the fleet of seed 002, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from actors.console.estimate import ASSUMED, parts_of
from actors.console.quote import price, time
from actors.console.screen import Wrong
from messages import EstimateIs, QuoteIs, Range
from tests.actors.console.live import Live, live, run
from tests.actors.router.fleet002 import of_002


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("nats")) as deployment:
        deployment.know(*of_002())
        yield deployment


@pytest.mark.parametrize(
    ("split", "cost"), [("local=850,cloud=150", "1,000 jobs: $1.05,"), ("local=985, cloud=15", "1,000 jobs: $0.105,")]
)
def test_the_savings_of_002(there: Live, capsys: pytest.CaptureFixture[str], split: str, cost: str) -> None:
    assert run("estimate", "--jobs", "1000", "--split", split, url=there.server.url) == 0
    shown, said = capsys.readouterr()
    assert cost in shown
    assert "less than all on gemini/sdxl ($80.00, 5,000 s)" in shown
    assert repr(ASSUMED) in said
    assert there.jobs() == 0


def test_a_split_needs_no_number_of_jobs(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("estimate", "A", "portrait", "--split", "gemini=1000", "--output", "json")
    assert run(*words, url=there.server.url) == 0
    shown, said = capsys.readouterr()
    answer = msgspec.json.decode(shown, type=EstimateIs)
    assert (answer.cost_microdollars, answer.shares[0].jobs) == (80_000_000, 1000)
    assert said == ""


def test_without_a_split_the_best_one_is_shown(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("estimate", "--jobs", "1000", url=there.server.url) == 0
    shown = capsys.readouterr().out
    rows = [line.split()[:3] for line in shown.splitlines() if "sdxl" in line and "%" in line and "·" not in line]
    assert sorted(row[0] for row in rows) == ["cloud", "gemini", "local"]
    assert sum(int(row[2]) for row in rows) == 1000
    assert "an hour of waiting counts $0.60" in shown
    assert run("estimate", "--jobs", "1000", "--value-per-hour", "0", url=there.server.url) == 0
    assert "1,000 jobs: free, the last is done after 2.8 h" in capsys.readouterr().out


def test_a_recommendation_keeps_its_budget(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("recommend", "--jobs", "100", "--budget", "1.00")
    assert run(*words, "--output", "json", url=there.server.url) == 0
    answer = msgspec.json.decode(capsys.readouterr().out, type=EstimateIs)
    assert (sum(share.jobs for share in answer.shares), answer.left_over) == (100, 0)
    assert 900_000 < answer.cost_microdollars <= 1_000_000
    assert run(*words, "--preferred-backend", "cloud", url=there.server.url) == 0
    assert "100 jobs: $0.7" in capsys.readouterr().out


def test_what_a_budget_does_not_pay_for_is_left_over(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("estimate", "--split", "gemini=20", "--jobs", "20")
    assert run(*words, url=there.server.url) == 0
    capsys.readouterr()
    there.know(*(msgspec.structs.replace(one, slots=0) for one in of_002() if one.local))
    try:
        assert run("recommend", "--jobs", "200", "--budget", "$1", url=there.server.url) == 1
    finally:
        there.know(*of_002())
    shown = capsys.readouterr().out
    assert "142 jobs: $0.994" in shown
    assert "58 jobs left over: the budget does not pay for them" in shown


def test_a_quote_has_price_time_and_the_next_one(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("quote", "A", "portrait", url=there.server.url) == 0
    shown, said = capsys.readouterr()
    for expected in (
        "goes to     local/sdxl",
        "price       free",
        "4.6 s to 21.6 s",
        "cloud/sdxl: $0.007, 9.3 s to 43.1 s",
    ):
        assert expected in shown
    assert "no job was created" in said
    assert run("quote", "A", "portrait", "--output", "json", url=there.server.url) == 0
    answer = msgspec.json.decode(capsys.readouterr().out, type=QuoteIs)
    assert (answer.backend, answer.runner_up) == ("local", "cloud/sdxl")
    assert there.jobs() == 0


def test_a_quote_of_the_only_one(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("quote", "A", "portrait", "--local-only", url=there.server.url) == 0
    assert "nobody else may run it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("estimate", "--split", "locl=5"), 2, "split is locl: that is no backend; did you mean local?"),
        (("estimate", "--jobs", "9", "--split", "local=5"), 2, "the parts add up to 5, and there are 9 jobs"),
        (("estimate", "--jobs", "0"), 2, "jobs is 0: use 1 to"),
        (("recommend", "--jobs", "5", "--budget", "1", "--capability", "vision"), 1, "none of 3 models can do vision"),
        (("estimate", "--split", "gemini=5", "--local-only"), 1, "gemini may not run these jobs"),
        (("quote", "hi", "--capability", "vision"), 1, "no backend may run this job"),
    ],
)
def test_what_cannot_be_answered_says_why(
    there: Live, words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, url=there.server.url) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("estimate",), 2, "--jobs is missing"),
        (("estimate", "--split", "local"), 2, "--split has 'local': write BACKEND=JOBS"),
        (("recommend", "--jobs", "5"), 2, "--budget"),
        (("recommend", "--jobs", "5", "--budget", "much"), 2, "--budget is 'much': give dollars"),
        (("recommend", "--jobs", "five", "--budget", "1"), 2, "five"),
        (("quote", "hi", "--prompt", "again"), 2, "given twice"),
        (("quote", "hi"), 3, "no bus at nats://127.0.0.1:1"),
        (("estimate", "--jobs", "5"), 3, "no bus at nats://127.0.0.1:1"),
    ],
)
def test_wrong_usage_and_no_bus(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == code
    assert said in capsys.readouterr().err


def test_the_parts_of_a_split() -> None:
    assert parts_of("") == {}
    assert parts_of(" local = 850 ,cloud=150") == {"local": 850, "cloud": 150}
    for text in ("local=-1", "=5", "local=1.5", "local=1,", "local=1 cloud=2", "local=1,local=2"):
        with pytest.raises(Wrong, match="--split has"):
            parts_of(text)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "not known"),
        (Range(low=0.0, high=0.0), "free"),
        (Range(low=7_000.0, high=7_000.0), "$0.007"),
        (Range(low=30.0, high=120.0), "$0.00003 to $0.00012"),
    ],
)
def test_a_price_in_words(found: Range | None, said: str) -> None:
    assert price(found) == said


def test_a_time_in_words() -> None:
    assert time(None) == "-"
    assert time(Range(low=0.5, high=150.0)) == "500 ms to 2 min 30 s"
