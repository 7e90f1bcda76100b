"""Figures in words, and text that can do no harm."""

import io

import pytest
from rich.console import Console

from actors.console.screen import clean, count, dollars, one_line, seconds, shown, since, table


@pytest.mark.parametrize(
    ("value", "said"), [(None, "?"), (0, "free"), (4200, "$0.0042"), (1, "$0.000001"), (2_000_000, "$2")]
)
def test_dollars(value: float | None, said: str) -> None:
    assert dollars(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0.0, "0 ms"), (0.43, "430 ms"), (2.06, "2.1 s"), (200, "3 min 20 s"), (9000, "2.5 h"), (-1, "0 ms")],
)
def test_seconds(value: float | None, said: str) -> None:
    assert seconds(value) == said


def test_control_characters_do_not_reach_the_screen() -> None:
    assert clean("a\x1b[31mb\x07c\r\nd\te\x9bf") == "a�[31mb�c\nd\te�f"


def test_one_line_is_one_short_line() -> None:
    assert one_line("a\n\n b\tc") == "a b c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"


def test_a_password_is_not_shown() -> None:
    assert shown("nats://user:secret@host:4222") == "nats://host:4222"
    assert shown("nats://host:4222") == "nats://host:4222"


def test_counts() -> None:
    assert [count(1, "job"), count(0, "job"), count(1200, "job")] == ["1 job", "0 jobs", "1,200 jobs"]


def test_the_date_is_left_out_today() -> None:
    assert len(since(1_700_000_000.0, 1_700_000_000.0)) == len("12:00:00")
    assert len(since(1_700_000_000.0, 1_800_000_000.0)) == len("2023-11-14 12:00:00")
    assert since(None, 1.0) == "-"


def test_no_word_of_a_reason_is_cut_off_beside_wide_columns() -> None:
    made = table("backend", "model", "breaker", "failed", "reason", right=("failed",))
    made.add_row("local-8411", "sim-small", "open until closed by hand", "0 of 60 (0 %)", "opened by hand by root")
    console = Console(width=80, file=io.StringIO())
    console.print(made)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    at = lines[0].index("reason")
    assert " ".join(line[at:].strip() for line in lines[1:]) == "opened by hand by root"
