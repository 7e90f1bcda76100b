"""One round's decision on the screen, wide and narrow."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from actors.console.rounds import Candidates, tell_decision
from messages import Explained, ObjectRef, Plan, Price, Problem, Reason
from tests.messages.samples import candidate, decided

PARTS = ("priority", "cost", "speed", "queue")
LOCAL = candidate("local", model="llama3.1:8b", score=88.0, parts=(40.0, 30.0, 10.0, 8.0), changes=("output capped",))
CLOUD = candidate(
    "cloud", score=64.04, parts=(26.67, 27.38, 9.99, 0.0),
    features={"service_seconds": 8.0, "wait_seconds": 2.0, "price_microdollars": 7_000.4, "ahead": 3.0},
)  # fmt: skip
BROKEN = candidate("vllm-gpu2", model="Qwen2.5-Coder-32B-Instruct", barred="breaker",
                   reason="has an open breaker for 30 s: 3 failures in a row, last: connection refused")  # fmt: skip
EXPLAINED = Explained(
    tenant="acme", job="j-1", n=1, chosen="local/llama3.1:8b", summary="local runs this job. " + "It is good. " * 20,
    reasons=(Reason(kind="speed", text="20% lower latency"),), alternatives=(Reason(kind="filter", text="no vision"),),
    adjusted=("output capped",), suggestions=("look after vllm-gpu2",),
)  # fmt: skip


def drawn(parts: Any, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, color_system=None)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def round_of(
    width: int = 80, explained: Explained | None = EXPLAINED, *, verbose: bool = False, **changes: Any
) -> list[str]:
    event = decided(**{"ranking": (LOCAL, CLOUD), "others": (BROKEN,), "parts": PARTS, **changes})
    told: list[RenderableType] = list(tell_decision(event, explained, verbose=verbose))
    return drawn(told, width)


def words(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def test_a_wide_screen_has_a_column_for_each_part() -> None:
    lines = round_of(120)
    place = next(i for i, line in enumerate(lines) if "candidate" in line)
    assert lines[place].split() == ["candidate", "score", *PARTS, "done", "in", "price", "ahead"]
    assert lines[place + 1].split() == [
        "1",
        "local/llama3.1:8b",
        "88.0",
        "40.0",
        "30.0",
        "10.0",
        "8.0",
        "2.0",
        "s",
        "free",
        "0",
    ]
    assert lines[place + 2].split() == [
        "2",
        "cloud/m",
        "64.0",
        "26.7",
        "27.4",
        "10.0",
        "0.0",
        "10.0",
        "s",
        "$0.007",
        "3",
    ]
    assert lines[place + 3].split()[:2] == ["✘", "vllm-gpu2/Qwen2.5-Coder-32B-Instruct"]
    assert "(breaker)" in words(lines)


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_screen_has_lines_and_loses_nothing(width: int) -> None:
    long = candidate("openrouter-eu", model="anthropic/claude-opus-4.1-thinking", score=64.0, parts=CLOUD.parts)
    lines = round_of(width, ranking=(LOCAL, long))
    assert max(map(len, lines)) <= width
    said = words(lines)
    assert "1 local/llama3.1:8b score 88.0 · done in 2.0 s · free · 0 ahead priority 40.0, cost 30.0" in said
    assert "2 openrouter-eu/anthropic/claude-opus-4.1-thinking" in said
    assert "3 failures in a row, last: connection refused (breaker)" in said


def test_chosen_paragraph_adjustments_and_hints_are_in_order() -> None:
    lines = round_of()
    heads = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert heads == ["Round", "chosen", "because", "adjusted", "hint"]
    assert lines[1] == "Round 1 · weighted_score · policy default@1 · " + lines[1].rpartition(" ")[2]
    assert "20% lower latency" not in words(lines)


def test_verbose_adds_every_reason() -> None:
    said = words(round_of(verbose=True))
    assert "speed 20% lower latency" in said
    assert "filter no vision" in said


def test_without_an_explanation_the_routers_own_reason_is_shown() -> None:
    said = words(round_of(explained=None, reason="local leads for once"))
    assert "because local leads for once" in said
    assert "adjusted output capped" in said


def test_a_wait_and_a_failure_say_so() -> None:
    waits = words(round_of(explained=None, ranking=(), wait_seconds=2.0, reason="nothing may run now"))
    assert "nobody nobody may run it now" in waits
    over = Problem(reason="no_backend", message="no backend may run this job")
    assert "gave up no backend may run this job" in words(round_of(explained=None, ranking=(), gave_up=over))
    assert "gave up because local runs" in words(round_of(ranking=(), gave_up=over))


def test_omitted_candidates_are_counted_and_found() -> None:
    kept = ObjectRef(key="acme/j-1/1", size_bytes=1, sha256="x", media_type="application/json")
    said = words(round_of(others=(), omitted=1984, everything=kept))
    assert "and 1,984 further candidates, kept as acme/j-1/1" in said


@pytest.mark.parametrize(
    ("strategy", "parts", "given", "score", "shown"),
    [
        ("expected_cost", ("time", "price"), (2_000.0, 100.0), -2_100.0, ["$0.002100", "$0.002000", "$0.000100"]),
        ("usage_based", ("used_share", "target_share"), (0.25, 0.3), 2_000_050.5, ["2,000,050.5", "25%", "30%"]),
        ("usage_based", ("used_share", "target_share"), (0.0, 0.0), -1.5, ["-1.5"]),
        ("cost_first", (), (), -7.0, ["-7"]),
    ],
)
def test_scores_and_parts_are_shown_in_their_unit(
    strategy: str, parts: Any, given: Any, score: float, shown: list[str]
) -> None:
    one = candidate(score=score, parts=given)
    lines = drawn([Candidates(decided(ranking=(one,), strategy=strategy, parts=parts))], 120)
    assert lines[1].split() == ["1", "a/m", *shown, "2.0", "s", "free", "0"]


def test_parts_that_cost_nothing_take_no_room_on_a_narrow_screen() -> None:
    names = ("time", "switch", "price", "risk", "queue")
    one = candidate(model="m" * 40, score=-2_100.0, parts=(2_000.0, 0.0, 100.0, 0.0, 0.0))
    said = words(drawn([Candidates(decided(ranking=(one,), strategy="expected_cost", parts=names))], 80))
    assert said.endswith("time $0.002000, price $0.000100")


def test_those_outside_the_pool_show_their_points_only() -> None:
    inside = candidate("a", score=-5.0, parts=(0.25, 0.3))
    plan = Plan(pool=("a",))
    event = decided(ranking=(inside, CLOUD), strategy="usage_based", parts=("used_share", "target_share"), plan=plan)
    lines = drawn([Candidates(event)], 120)
    assert lines[2].split()[:5] == ["2", "cloud/m", "64.0", "-", "-"]


def test_an_unknown_price_is_no_free_one() -> None:
    one = candidate(known={"price": Price(unknown=True)})
    assert "price unknown" in drawn([Candidates(decided(ranking=(one,)))], 120)[1]


def test_a_name_cannot_move_the_cursor() -> None:
    evil = candidate("\x1b[31m[red]", barred="cost", reason="\x1b[2J")
    said = "".join(drawn([Candidates(decided(ranking=(evil,), others=(evil,)))], 80))
    assert "\x1b" not in said
    assert "�[31m[red]/m" in said
