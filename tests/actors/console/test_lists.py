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
