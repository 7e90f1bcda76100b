from __future__ import annotations

import math
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.case import Case, Row, Scored, Strategy
from actors.router.strategies import STRATEGIES, StrategyError, load_strategies
from actors.router.strategies.registry import GROUP
from tests.actors.router.strategies.rows import CASES, ROWS, case, order, row

GUIDE = (Path(__file__).parents[4] / "docs" / "guides" / "strategies.md").read_text(encoding="utf-8")
NAMES = {
    "manual", "adaptive", "cost_first", "latency_first", "weighted_score", "pool_order", "complexity_based",
    "context_based", "direct", "usage_based", "least_loaded", "fastest_response", "most_capacity", "adaptive_weighted",
    "quality_based", "expected_cost",
}  # fmt: skip
"""Requirement C2."""


def block(language: str) -> str:
    """The guide's only code block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return found


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a distribution: a folder on the path with a module and its `dist-info`."""
    modules: list[str] = []

    def put(distribution: str, module: str, source: str, entries: dict[str, str]) -> None:
        folder = tmp_path / distribution
        info = folder / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n", encoding="utf-8")
        lines = [f"[{GROUP}]", *(f"{name} = {target}" for name, target in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
        modules.append(module)
        monkeypatch.syspath_prepend(str(folder))

    yield put
    for module in modules:
        sys.modules.pop(module, None)


def test_every_strategy_of_the_requirement_is_there_under_its_name() -> None:
    assert set(STRATEGIES) == NAMES
    assert all(name == strategy.name and strategy.summary.endswith(".") for name, strategy in STRATEGIES.items())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_rows_no_scores(name: str) -> None:
    assert STRATEGIES[name].score([], case()) == Scored([])
    plan = {"pool": ("a",), "shares": {"a": 1.0}, "classes": {"simple": ("a",)}, "overflow": ("b",)}
    assert STRATEGIES[name].score([], case(plan=plan)) == Scored([])


@given(st.sampled_from(sorted(NAMES)), ROWS, CASES)
def test_an_answer_is_one_finite_number_per_row_with_the_parts_it_names(
    name: str, rows: list[Row], where: Case
) -> None:
    strategy = STRATEGIES[name]
    scored = strategy.score(rows, where)
    assert len(scored.scores) == len(rows)
    assert all(math.isfinite(score) for score in scored.scores)
    assert len(scored.parts) in {0, len(rows)}
    assert all(len(part) == len(strategy.parts) for part in scored.parts)
    assert scored.explored is None or 0 <= scored.explored < len(rows)
    assert strategy.score(rows, where) == scored


@given(st.sampled_from(sorted(NAMES)), ROWS, CASES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_moves_nobody(name: str, rows: list[Row], where: Case, chance: Any) -> None:
    score = STRATEGIES[name].score
    places = list(range(len(rows)))
    chance.shuffle(places)
    once, again = score(rows, where).scores, score([rows[i] for i in places], where).scores
    assert again == pytest.approx([once[i] for i in places], rel=1e-12, abs=1e-9)


@given(st.sampled_from(sorted(n for n in NAMES if not STRATEGIES[n].relative)), ROWS, CASES)
def test_unless_relative_a_score_depends_on_its_row_alone(name: str, rows: list[Row], where: Case) -> None:
    score = STRATEGIES[name].score
    assert [score([each], where).scores[0] for each in rows] == score(rows, where).scores


def test_the_guide_lists_every_strategy_with_its_summary() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", GUIDE, re.MULTILINE))
    assert listed == {name: strategy.summary for name, strategy in STRATEGIES.items()}


def test_the_guides_example_works_once_installed(install) -> None:
    """What the guide shows is what gets installed, by the entry points that its `pyproject.toml` declares."""
    project = tomllib.loads(block("ini"))["project"]
    entries = project["entry-points"][GROUP]
    install(project["name"], "cache_affinity", block("python"), entries)
    strategies = load_strategies()
    assert set(strategies) == NAMES | {"cache_affinity"}
    strategy = strategies["cache_affinity"]
    assert strategy.name == "cache_affinity"
    assert strategy.summary == "One workflow, one backend, as long as that is not saturated."
    rows = [row(name) for name in "abcd"]
    first = {w: order(rows, strategy.score(rows, case(needs={"workflow": w})))[0] for w in map(str, range(40))}
    assert set(first.values()) == set("abcd")
    gone = [each for each in rows if each.backend != "b"]
    full = [row(name, saturated=name == "b") for name in "abcd"]
    for workflow, leads in first.items():
        where = case(needs={"workflow": workflow})
        after = order(gone, strategy.score(gone, where))[0]
        assert after == leads if leads != "b" else after != "b"
        assert order(full, strategy.score(full, where))[0] == after


def test_installed_strategies_are_found_beside_ours() -> None:
    assert load_strategies([]) == STRATEGIES
    assert set(load_strategies()) >= NAMES


@pytest.mark.parametrize(
    ("source", "entries", "says"),
    [
        ("def f(rows, case): ...", {"cost_first": "mine:f"}, "rename it"),
        ("f = 3", {"own": "mine:f"}, "is int, neither a Strategy nor callable"),
        ("import nothing_of_this_name", {"own": "mine:f"}, "can't be imported from mine:f: ModuleNotFoundError"),
        ("1 / 0", {"own": "mine:f"}, "can't be imported from mine:f: ZeroDivisionError"),
        ("g = 3", {"own": "mine:f"}, "can't be imported from mine:f: AttributeError"),
        ("def f(rows): ...", {"own": "mine:f"}, r"can't be called as \(rows, case\)"),
        ("async def f(rows, case): ...", {"own": "mine:f"}, "asynchronous"),
    ],
)
def test_what_is_no_strategy_is_refused_by_name(install, source: str, entries: dict[str, str], says: str) -> None:
    install("acme_ranking", "mine", source, entries)
    with pytest.raises(StrategyError, match=says) as caught:
        load_strategies()
    assert "acme_ranking 1.2" in str(caught.value)
    assert repr(next(iter(entries))) in str(caught.value)


def test_two_distributions_may_not_share_a_name(install) -> None:
    install("acme_one", "one", "def f(rows, case): return [0.0] * len(rows)", {"own": "one:f"})
    install("acme_two", "two", "def f(rows, case): return [0.0] * len(rows)", {"own": "two:f"})
    with pytest.raises(StrategyError, match="'own'") as caught:
        load_strategies()
    assert {"acme_one 1.2", "acme_two 1.2"} <= set(re.findall(r"acme_\w+ 1\.2", str(caught.value)))


def test_an_entry_point_of_no_distribution_is_named_by_its_value() -> None:
    with pytest.raises(StrategyError, match="the entry point math:pi"):
        load_strategies([metadata.EntryPoint("own", "math:pi", GROUP)])


def own(install, body: str) -> Strategy:
    install("acme_ranking", "mine", f"from actors.router.case import Scored, Strategy\n{body}", {"own": "mine:f"})
    return load_strategies()["own"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("[1.0]", "returned 1 scores where 2 are due"),
        ("[1.0, float('nan')]", "returned nan as a score"),
        ("[1.0, float('inf')]", "returned inf as a score"),
        ("[1.0, 10**400]", "returned inf as a score"),
        ("[1.0, None]", "returned None as a score"),
        ("[1.0, True]", "returned True as a score"),
        ("[1.0, '2']", "returned '2' as a score"),
        ("None", "returned NoneType instead of a list"),
        ("'ab'", "returned str instead of a list"),
        ("{'a': 1, 'b': 2}", "returned dict instead of a list"),
        ("Scored([1.0])", "returned 1 scores where 2 are due"),
        ("Scored([1.0, 2.0], [(1.0,)])", "returned the parts of 1 scores for 2 rows"),
        ("Scored([1.0, 2.0], [(1.0,), (2.0,)])", "returned 1 parts where 0 are due"),
        ("Scored([1.0, 2.0], explored=2)", "explored row 2 of 2"),
        ("Scored([1.0, 2.0], number=float('nan'))", "returned nan as a number for exploration"),
        ("1 / 0", "failed on job j-1: ZeroDivisionError"),
        ("rows[9]", "failed on job j-1: IndexError"),
    ],
)
def test_an_answer_that_is_none_is_an_error_that_names_the_strategy(install, answer: str, says: str) -> None:
    strategy = own(install, f"def f(rows, case):\n    return {answer}")
    assert strategy.score([], case()) == Scored([])
    with pytest.raises(StrategyError, match=re.escape(says)) as caught:
        strategy.score([row("a"), row("b")], case())
    assert str(caught.value).startswith("strategy 'own' of acme_ranking 1.2 ")


def test_a_users_strategy_can_not_reorder_the_callers_rows(install) -> None:
    strategy = own(install, "def f(rows, case):\n    rows.sort(key=lambda r: r.backend)\n    return [0.0, 0.0]")
    rows = [row("b"), row("a")]
    with pytest.raises(StrategyError, match="AttributeError"):
        strategy.score(rows, case())
    assert [each.backend for each in rows] == ["b", "a"]


def test_a_whole_strategy_may_be_given_with_parts_and_exploration(install) -> None:
    body = (
        "def score(rows, case):\n    return Scored([1, 2.5], [(1, 0), (2, 0.5)], 0.25, 0)\n"
        "f = Strategy('elsewhere', score, ('x', 'y'), relative=False, summary='Mine.')"
    )
    strategy = own(install, body)
    assert (strategy.name, strategy.parts, strategy.relative, strategy.summary) == ("own", ("x", "y"), False, "Mine.")
    scored = strategy.score([row("a"), row("b")], case())
    assert scored == Scored([1.0, 2.5], [(1.0, 0.0), (2.0, 0.5)], 0.25, 0)
    assert all(type(score) is float for score in scored.scores)
