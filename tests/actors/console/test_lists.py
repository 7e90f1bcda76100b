"""The table of `turnout jobs`, 80 columns wide."""

import io
from typing import Any

import msgspec
from rich.console import Console

from actors.console.lists import _jobs_table
from messages import JobRow
from tests.messages import samples

NOW = samples.T0


def rendered(table: Any, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_jobs_show_their_ends_and_the_tenant_only_among_several():
    row = JobRow(
        tenant="acme", job="j-1", ending="failed", task="code", backend="a", model="m", attempts=2,
        cost_microdollars=90, latency_seconds=9.0, submitted_at=NOW, problem="silent",
    )  # fmt: skip
    running = msgspec.structs.replace(
        row, job="j-2", ending="", backend="", attempts=0, latency_seconds=None, problem=""
    )
    head, failed, open_ = rendered(_jobs_table((row, running), NOW, 100), 100)
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
    assert rendered(_jobs_table((row, other), NOW, 100), 100)[0].split()[:2] == ["job", "tenant"]


def test_a_narrow_screen_shows_every_id_and_every_word_of_a_problem_and_goes_without_columns_for_that():
    row = JobRow(
        tenant="acme", job="w5xjmp58a4", ending="succeeded", task="high_throughput", backend="local-8411", model="sim-small",
        attempts=1, cost_microdollars=1_234, latency_seconds=14.3, submitted_at=NOW,
    )  # fmt: skip
    lines = rendered(_jobs_table((row,), NOW, 80))
    assert lines[0].split() == ["job", "submitted", "ending", "backend", "tries", "cost", "took"]
    assert lines[1].split()[:1] == ["w5xjmp58a4"]
    assert not any("…" in line for line in lines), "nothing is cut, for no column stands empty"
    late = msgspec.structs.replace(row, ending="expired", problem="the job's deadline passed before it was done")
    for width in (60, 80, 100, 160):
        lines = rendered(_jobs_table((row, late), NOW, width), width)
        assert max(map(len, lines)) <= width
        assert [line.split()[0] for line in lines[1:3]] == ["w5xjmp58a4", "w5xjmp58a4"]
        said = " ".join(line[lines[0].index("problem") :].strip() for line in lines[2:])
        assert said == late.problem
