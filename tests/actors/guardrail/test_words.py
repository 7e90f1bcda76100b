"""Why a budget refuses, in words."""

from __future__ import annotations

from typing import Any

import pytest

from actors.guardrail.limits import Hold
from actors.guardrail.words import over_in_words, unbounded_in_words
from actors.settings import Budget
from actors.windows import UTC, span
from messages import Reservation
from tests.messages.samples import T0, candidate, slip

COSTS: dict[str, Any] = {"worst_case_input_tokens": 2_080, "max_output_tokens": 1_024}


def hold(unit: Any, amount: int, limit: int) -> Hold:
    budget = Budget(name="team", unit=unit, limit=limit)
    return Hold(budget, Reservation(budget="team", subject="ledger.x", amount=amount, unit=unit), span("day", T0, UTC))


@pytest.mark.parametrize(
    ("unit", "amount", "limit", "left", "words"),
    [
        ("tokens", 3_104, 20_000, 900,
         ("over budget (team): may use 3,104 tokens (input about 10 tokens, 2,080 at most; output at most 1,024), "
         "900 of 20,000 left: raise it (`turnout budget raise team`) or lower max_output_tokens")),
        ("microdollars", 3_104, 20_000, -5,
         ("over budget (team): may cost $0.003104 (input about 10 tokens, 2,080 at most; output at most 1,024), "
         "$0.000000 of $0.020000 left: raise it (`turnout budget raise team`) or lower max_output_tokens")),
        ("requests", 1, 20, 0,
         "over budget (team): takes 1 request, 0 of 20 left: raise it (`turnout budget raise team`)"),
        ("gpu_milliseconds", 601_000, 60_000, 60_000,
         ("over budget (team): may take 601.0 s of GPU time, 60.0 s of 60.0 s left: raise it (`turnout budget raise team`) or "
         "bound it (budgeting.longest_gpu_seconds)")),
    ],
)  # fmt: skip
def test_the_figures_and_the_setting_that_helps(unit: str, amount: int, limit: int, left: int, words: str) -> None:
    assert over_in_words(hold(unit, amount, limit), slip(), candidate(**COSTS), left) == words


def test_what_nothing_bounds_is_named() -> None:
    words = unbounded_in_words(Budget(name="team", unit="tokens", limit=1), candidate(unbounded="a video"))
    assert words.startswith("nothing bounds a video, and a budget limits tokens (team): ")
    assert "budgeting.unbounded_input_tokens" in words
