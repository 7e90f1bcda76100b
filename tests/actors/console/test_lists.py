"""The tables of `turnout jobs` and `turnout backends`, 80 columns wide."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from actors.console.lists import Fleet, _backends_table, _jobs_table, _row, price, state
from messages import Breaker, JobRow, Load, Message, Model, Price, Stats
from tests.messages import samples

NOW = samples.T0


def rendered(table: Any, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def fleet(*facts: Message) -> Fleet:
    known = Fleet()
    for fact in facts:
        known.learn(fact)
    return known


def breaker(**changes: Any) -> Breaker:
    given: dict[str, Any] = {"backend": "a", "model": "m", "through_seq": 1}
    return Breaker(**{**given, **changes})


def stats(**changes: Any) -> Stats:
    given: dict[str, Any] = {
        "backend": "a", "model": "m", "scope": "-", "attempts": 20, "successes": 19, "latency_seconds": 2.5,
        "first_token_seconds": 0.3, "tokens_per_second": 48.0, "cost_microdollars": 80.5, "at": NOW,
    }  # fmt: skip
    return Stats(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "facts", "said"),
    [
        ({}, (), "ready"),
        ({"slots": 0, "healthy": False}, (), "gone"),
        ({"healthy": False, "health_reason": "no\nanswer"}, (), "unhealthy: no answer"),
        ({}, (breaker(open_until=NOW + 30, reason="3 failures", times_opened=1),), "paused 30.0 s: 3 failures"),
        ({}, (breaker(open_until=NOW, times_opened=1),), "on trial: the next job decides"),
        ({}, (breaker(model="other", open_until=NOW + 30, times_opened=1),), "ready"),
        ({}, (breaker(open_until=NOW + 30, times_opened=1), breaker(through_seq=2)), "ready"),
    ],
)
def test_the_state_of_a_backend(changes, facts, said):
    assert state(samples.backend(**changes), "m", fleet(*facts), NOW).plain == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Price(), "free"),
        (Price(input_per_mtok=150_000, output_per_mtok=600_000), "$0.15 / $0.6"),
        (Price(unknown=True), "unknown"),
        (Price(per_image=40_000), "$0.04 per image"),
        (Price(per_request=5_000, per_second=100_000), "$0.005 per request, $0.1 per second"),
        (Price(output_per_mtok=600_000, per_request=1), "free / $0.6, $0.000001 per request"),
    ],
)
def test_the_price_of_a_model(given, said):
    assert price(Model(name="m", price=given)) == said


def test_backends_on_a_narrow_screen():
    two = samples.backend(models=(Model(name="m"), Model(name="n")), slots=4)
    known = fleet(two, Load(backend="a", waiting=2, running=3, at=NOW), stats(), stats(scope="acme/site", attempts=1))
    head, first, second, *rest = rendered(_backends_table([two], known, NOW), 100)
    assert head.split() == (
        [
            "backend",
            "model",
            "state",
            "busy",
            "waiting",
            "ok/tried",
            "latency",
            "tokens/s",
            "price",
            "in/out",
            "per",
            "M",
        ]
    )
    assert first.split() == ["a", "local", "m", "ready", "3/4", "2", "19/20", "2.5", "s", "48", "free"]
    assert second.split() == ["n", "ready", "-", "-", "-", "free"]
    assert not rest
    assert all(len(line) <= 80 for line in rendered(_backends_table([two], known, NOW)))


def test_a_name_cannot_move_the_cursor():
    evil = samples.backend("\x1b[31m[red]", models=())
    lines = rendered(_backends_table([evil], fleet(evil), NOW), 120)
    assert "\x1b" not in "".join(lines)
    assert "�[31m[red] local" in lines[1]


def test_a_backend_for_machines():
    one = samples.backend()
    row = _row(one, fleet(one, stats(), stats(backend="b"), breaker()))
    assert (row["backend"], row["load"], row["stats"], row["breakers"]) == (one, None, [stats()], [breaker()])


def test_jobs_show_their_ends_and_the_tenant_only_among_several():
    row = JobRow(
        tenant="acme", job="j-1", ending="failed", task="code", backend="a", model="m", attempts=2,
        cost_microdollars=90, latency_seconds=9.0, submitted_at=NOW, problem="silent",
    )  # fmt: skip
    running = msgspec.structs.replace(
        row, job="j-2", ending="", backend="", attempts=0, latency_seconds=None, problem=""
    )
    head, failed, open_ = rendered(_jobs_table((row, running), NOW), 100)
    assert "tenant" not in head
    assert failed.split()[0:1] + failed.split()[2:] == [
        "j-1",
        "failed",
        "code",
        "a/m",
        "2",
        "$0.00009",
        "9.0",
        "s",
        "silent",
    ]
    assert open_.split()[2:] == ["running", "code", "-", "0", "-", "-"]
    other = msgspec.structs.replace(row, tenant="other")
    assert rendered(_jobs_table((row, other), NOW), 100)[0].split()[:2] == ["job", "tenant"]
