"""An unknown price: refused wherever dollars are limited, or counted as a ceiling, and the same by router, guardrail and
executor."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.executor.accounting import Made, spent
from actors.executor.backends.port import Usage
from actors.guardrail.limits import billed, holds, unpriced
from actors.guardrail.verdict import work_of
from actors.router.decide import decide
from actors.router.known import CEILING
from actors.router.verify import check
from actors.router.view import View
from actors.settings import Budget, BudgetRules, Settings, SettingsError, load
from messages import Decided, Granted, Media, Model, Price
from tests.messages.samples import T0, attempted, backend, slip

LIMIT = Budget(name="all", limit=1_000_000, window="total")
UNKNOWN = backend("a", local=False, models=(Model(name="m", price=Price(unknown=True)),))
KNOWN = backend("b", local=False, models=(Model(name="m", price=Price(output_per_mtok=10_000_000)),))
USAGE = Usage(input_tokens=5, output_tokens=7)


def decision(ceiling: int | None, **needs: Any) -> Decided:
    view = View(price_ceiling=ceiling)
    for there in (UNKNOWN, KNOWN):
        view.learn_backend(there)
    made = decide(slip(needs=needs), n=1, attempts=(), excluded=(), view=view, now=T0).decided
    assert check(made) == "", "it derives from its event alone"
    return made


def test_without_a_ceiling_it_is_refused_where_dollars_are_limited() -> None:
    assert {c.backend for c in decision(None).ranking} == {"a", "b"}
    limited = decision(None, max_cost_microdollars=10**9)
    assert [(c.backend, c.barred) for c in limited.others] == [("a", "cost")]
    (blind,) = [c for c in decision(None).ranking if c.backend == "a"]
    assert unpriced((LIMIT,), slip(), blind) is LIMIT


@pytest.mark.parametrize(("limit", "barred"), [(40_000, ""), (39_999, "cost"), (None, "")])
def test_with_a_ceiling_it_runs_where_the_ceiling_fits(limit: int | None, barred: str) -> None:
    made = decision(40_000, max_cost_microdollars=limit, model="m")
    (chosen,) = [c for c in (*made.ranking, *made.others) if c.backend == "a"]
    assert chosen.barred == barred
    assert (chosen.worst_case_microdollars, chosen.known.price.source) == (40_000, CEILING)


def test_what_is_known_keeps_its_price() -> None:
    (chosen,) = [c for c in decision(40_000).ranking if c.backend == "b"]
    assert chosen.known.price == KNOWN.models[0].price


@pytest.mark.parametrize("asset", ["text", "image", "video"])
def test_router_guardrail_and_executor_agree_on_the_ceiling(asset: str) -> None:
    there = msgspec.structs.replace(
        UNKNOWN, models=(Model(name="m", capabilities=(asset,), price=Price(unknown=True)),)
    )
    view = View(price_ceiling=40_000)
    view.learn_backend(there)
    job = slip(needs={"asset": asset, "media": Media(images=4, seconds=9.0), "max_cost_microdollars": 40_000})
    made = decide(job, n=1, attempts=(), excluded=(), view=view, now=T0).decided
    (chosen,) = made.ranking
    assert unpriced((LIMIT,), job, chosen) is None
    (hold,) = holds((LIMIT,), job, chosen, T0)
    assert hold.reservation.amount == 40_000
    verdict = Granted(
        tenant="acme", job="j-1", n=1, verdict="candidate", backend="a", model="m", reserved=(hold.reservation,), at=T0
    )
    work = work_of(made, verdict)
    cost = spent(work, Made(text="an answer", usage=USAGE, seconds=300.0), "whole").microdollars
    assert cost == work.worst_case_microdollars == 40_000
    ended = attempted(reserved=(hold.reservation,), billed_microdollars=cost)
    assert billed(hold.reservation, ended) == 40_000


def test_the_ceiling_is_a_setting(tmp_path: Any) -> None:
    assert Settings().budgeting.unknown_price_ceiling_microdollars is None
    file = tmp_path / "turnout.toml"
    file.write_text("[budgeting]\nunknown_price_ceiling_microdollars = 250000\n")
    assert load(file).budgeting == BudgetRules(unknown_price_ceiling_microdollars=250_000)
    for wrong in ("0", "-5", '"much"'):
        file.write_text(f"[budgeting]\nunknown_price_ceiling_microdollars = {wrong}\n")
        with pytest.raises(SettingsError, match="unknown_price_ceiling_microdollars"):
            load(file)
