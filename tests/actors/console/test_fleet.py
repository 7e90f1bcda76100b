"""The tables of `turnout backends`, and what they are made of."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from actors.console.fleet import (
    Fleet,
    backends_cells,
    details,
    memory,
    model_lines,
    models_cells,
    price,
    row_of,
    state,
    waiting,
)
from actors.console.tables import Fitted
from messages import Breaker, Load, Message, Model, Price, Stats
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


def test_a_breaker_of_one_model_is_named_in_the_state_of_the_backend():
    known = fleet(breaker(open_until=NOW + 30, reason="3 failures", times_opened=1))
    assert state(samples.backend(), "", known, NOW).plain == "m paused 30.0 s: 3 failures"


def test_backends_and_their_models():
    two = samples.backend(
        models=(Model(name="m", context_tokens=8192), Model(name="n")), slots=4, executors=("e", "f"),
        vram_total_mb=24_576, protocol="ollama", version="0.13.1",
    )  # fmt: skip
    known = fleet(
        two, Load(backend="a", waiting=7, running=3, foreign=5, loaded=("m",), vram_free_mb=3_277, at=NOW), stats(),
        stats(scope="acme/site", attempts=1),
    )  # fmt: skip
    head, row = rendered(Fitted(backends_cells([two], known, NOW), 120), 120)
    assert head.split() == ["backend", "speaks", "state", "busy", "waiting", "GPU", "memory"]
    assert row.split() == [
        "a",
        "local",
        "ollama",
        "0.13.1",
        "ready",
        "3/4",
        "2",
        "+",
        "5",
        "3.2",
        "of",
        "24.0",
        "GB",
        "free",
    ]
    _, first, second = rendered(Fitted(models_cells([two], known), 120), 120)
    assert first.split() == ["m", "●", "a", "8,192", "19/20", "2.5", "s", "48", "-", "free"]
    assert second.split() == ["n", "a", "-", "-", "-", "-", "-", "free"]
    for cells in (backends_cells([two], known, NOW), models_cells([two], known)):
        assert all(len(line) <= 80 for line in rendered(Fitted(cells, 80, fold={"state": 12})))


def test_what_waits_and_what_memory_there_is():
    one = samples.backend()
    assert waiting(None) == "0"
    assert waiting(Load(backend="a", waiting=2, running=0, at=NOW)) == "2"
    assert waiting(Load(backend="a", waiting=2, running=0, foreign=2, at=NOW)) == "0 + 2"
    assert memory(one, None) == "-"
    assert memory(one, Load(backend="a", waiting=0, running=0, vram_free_mb=1024, at=NOW)) == "1.0 GB free"
    assert memory(samples.backend(vram_total_mb=2048), None) == "2.0 GB"


def test_one_backend_in_detail():
    one = samples.backend(
        exclusive_group="gpu",
        active=False,
        executors=("e",),
        version="9",
        cold=True,
        switchable=True,
        notes=("a note",),
    )
    known = fleet(one, Load(backend="a", waiting=1, running=0, loaded=(), at=NOW))
    lines = dict(details(one, known, NOW))
    assert (lines["speaks"], lines["loaded"], lines["served by"]) == (f"{one.protocol} 9", "nothing", "e")
    assert lines["group"] == "gpu, not the active one"
    assert {"cold", "switch"} <= lines.keys()
    assert lines["note"] == "a note"
    assert dict(details(one, fleet(one), NOW))["loaded"] == "unknown"
    model = Model(
        name="m", context_tokens=8192, max_output_tokens=100, vram_mb=2048, loras=("a",), retires="2026-12-11"
    )
    assert dict(model_lines(model)) == {
        "can do": "text", "limits": "8,192 tokens of context, 100 out", "price": "free",
        "more": "2.0 GB, 1 LoRA, shut down on 2026-12-11",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("capabilities", "limits"),
    [
        (("image",), None),
        (("video", "lora"), None),
        (("text",), "unknown context"),
        (("embedding",), "unknown context"),
    ],
)
def test_a_context_is_of_no_matter_to_those_that_write_no_text(capabilities: tuple[str, ...], limits: str | None):
    assert dict(model_lines(Model(name="m", capabilities=capabilities))).get("limits") == limits


def test_a_name_cannot_move_the_cursor():
    evil = samples.backend("\x1b[31m[red]", models=())
    lines = rendered(Fitted(backends_cells([evil], fleet(evil), NOW), 120), 120)
    assert "\x1b" not in "".join(lines)
    assert "\ufffd[31m[red] local" in lines[1]


def test_a_backend_for_machines():
    one = samples.backend()
    row = row_of(one, fleet(one, stats(), stats(backend="b"), breaker()))
    assert (row["backend"], row["load"], row["stats"], row["breakers"]) == (one, None, [stats()], [breaker()])
