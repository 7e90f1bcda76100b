"""The table of `turnout jobs`: what it shows of each state, and what it goes without on a narrow screen."""

import io
from typing import Any

import msgspec
from rich.console import Console

from actors.console.lists import DROP, FOLD, STATES, jobs_cells, states_of
from actors.console.tables import Fitted
from actors.course import OPEN
from messages import JobRow
from tests.messages import samples

NOW = samples.T0
ROW = JobRow(
    tenant="acme", job="w5xjmp58a4", ending="succeeded", state="succeeded", task="high_throughput", backend="local-8411",
    model="sim-small", attempts=1, cost_microdollars=1_234, latency_seconds=14.3, submitted_at=NOW, head="Say hello",
)  # fmt: skip


def rendered(rows: list[JobRow], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(Fitted(jobs_cells(rows, NOW + 5), width, right=("tries", "cost", "took"), fold=FOLD, drop=DROP))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def changed(**changes: Any) -> JobRow:
    return msgspec.structs.replace(ROW, **changes)


def test_the_states_that_can_be_asked_for_are_those_there_are():
    assert STATES == OPEN
    assert states_of(("held", "open")) == ("held", "choosing", "queued", "running", "waiting")
    assert "expired" in states_of(("ended",))


def test_each_state_says_what_is_worth_knowing_and_the_tenant_is_told_among_several():
    rows = [
        changed(job="a", ending="", state="running", share=0.25, step="step 5 of 20", attempts=0, latency_seconds=None),
        changed(job="b", ending="", state="held", waits_for="a person", backend="", attempts=0, latency_seconds=None),
        changed(job="c", ending="failed", state="failed", problem="left: it broke"),
    ]
    text = "\n".join(rendered(rows, 160))
    assert "running 25%" in text
    assert "step 5 of 20" in text
    assert "5.0 s …" in text
    assert "held" in text
    assert "waits for a person" in text
    assert "left: it broke" in text
    assert text.count("Say hello") == 3
    assert "acme" not in text
    assert "acme" in "\n".join(rendered([*rows, changed(tenant="other")], 160))


def test_a_narrow_screen_shows_every_id_and_every_word_and_goes_without_columns_for_that():
    problem = "the job's deadline passed before it was done"
    late = changed(job="x" * 60, ending="expired", state="expired", problem=problem)
    for width in (40, 60, 80, 100, 160):
        lines = rendered([ROW, late], width)
        assert max(map(len, lines)) <= width
        whole = "".join("".join(lines).split())
        assert "w5xjmp58a4" in whole
        assert "…" not in whole, "nothing is cut"
        assert all(word in "\n".join(lines) for word in ("deadline", "passed", "succeeded", "expired"))
        assert sum(line.count("x") for line in lines) >= 60
