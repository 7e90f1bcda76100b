"""Seed 004_e1662a726daf0a45.txt: fallback chains, the capability table, load balancing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.policyfile import read_policy
from actors.router.rulebook import Rulebook
from actors.router.strategies import STRATEGIES
from messages import Breaker
from messages.policies import Rule
from tests.actors.router.fleets import sent
from tests.actors.router.seeds.fleet import busy, decision, fleet_004, shipped, spread_004, view_of, walk
from tests.messages.samples import T0

CHAINS = shipped("chains")
FIGURES = read_policy(Path(__file__).parent / "004_figures.toml", strategies=STRATEGIES)

Hop = tuple[str, float | None, str]
"""The model, the change of parameters that the document shows (percent), and what it is taken from."""

# The document's nine chains, line by line.
TABLE: dict[str, list[Hop]] = {
    "deepseek-v3.1:671b-cloud": [
        ("kimi-k2:1t-cloud", 49, "both"), ("gpt-oss:120b-cloud", -88, "previous"), ("llama3.1:latest", -93, "previous"),
    ],
    "kimi-k2:1t-cloud": [
        ("deepseek-v3.1:671b-cloud", -33, "both"), ("gpt-oss:120b-cloud", -82, "previous"), ("llama3.1:latest", -99, "start"),
    ],
    "qwen3-coder:480b-cloud": [
        ("gpt-oss:120b-cloud", -75, "both"), ("qwen-coder-vllm", -98, "start"), ("qwen2.5-coder:7b", -98, "start"),
    ],
    "gpt-oss:120b-cloud": [
        ("gpt-oss:20b-cloud", -83, "both"), ("llama3.1:latest", -93, "start"), ("mythomax-l2-13b", None, ""),
    ],
    "gpt-oss:20b-cloud": [("glm-4.6:cloud", -77, "both"), ("llama3.1:latest", None, "")],
    "glm-4.6:cloud": [("llama3.1:latest", 74, "both"), ("mythomax-l2-13b", 183, "start")],
    "qwen2.5-coder:7b": [("qwen-coder-vllm", 0, "both"), ("llama3.1:latest", None, "")],
    "llama3.1:latest": [("mythomax-l2-13b", 63, "both"), ("gpt-oss:20b-cloud", 150, "start")],
    "mythomax-l2-13b": [("llama3.1:latest", -38, "both"), ("gpt-oss:120b-cloud", 1400, "previous")],
}  # fmt: skip
OURS = {
    "qwen-coder-vllm": ("qwen2.5-coder:7b", "llama3.1"),
    "llama_cpp_native": ("llama_cpp_python", "llama3.1"),
}
HOPS = [(head, number) for head, chain in TABLE.items() for number in range(len(chain))]

# What the sizes of the models themselves give, in percent: against the previous hop, and against the start.
REAL: dict[str, list[tuple[float, float]]] = {
    "deepseek-v3.1:671b-cloud": [(49, 49), (-88, -82), (-93, -99)],
    "kimi-k2:1t-cloud": [(-33, -33), (-82, -88), (-93, -99)],
    "qwen3-coder:480b-cloud": [(-75, -75), (-94, -99), (0, -99)],
    "gpt-oss:120b-cloud": [(-83, -83), (-60, -93), (62, -89)],
    "gpt-oss:20b-cloud": [(1685, 1685), (-98, -60)],
    "glm-4.6:cloud": [(-98, -98), (62, -96)],
    "qwen2.5-coder:7b": [(0, 0), (14, 14)],
    "llama3.1:latest": [(62, 62), (54, 150)],
    "mythomax-l2-13b": [(-38, -38), (1400, 823)],
}


def size(rules: Rulebook, name: str) -> float:
    found = rules.models[name].parameters_billion
    assert found is not None
    return found


def changes(rules: Rulebook, head: str, number: int) -> tuple[float, float]:
    """Percent against the previous hop and against the start."""
    chain = (head, *rules.chains[head])
    here, before, start = (size(rules, chain[at]) for at in (number + 1, number, 0))
    return 100 * (here / before - 1), 100 * (here / start - 1)


def rule(name: str) -> Rule:
    (found,) = [one for one in CHAINS.rules if one.name == name]
    return found


# ----------------------------------------------------------------------------------------------------------------- chains


def test_the_nine_chains_and_our_two() -> None:
    """Seed 004, "Quality-Preserving Fallback Chains": nine, hop by hop; the two marked ones are ours (section I)."""
    nine = {head: tuple(name for name, _, _ in chain) for head, chain in TABLE.items()}
    assert CHAINS.chains == {**nine, **OURS}


@pytest.mark.parametrize(("head", "number"), HOPS)
def test_the_documents_percentages_come_from_its_own_figures(head: str, number: int) -> None:
    """Seed 004, every percentage, against the base it was taken from, to a point; some are rounded and some cut."""
    shown, base = TABLE[head][number][1:]
    previous, start = changes(Rulebook([CHAINS, FIGURES]), head, number)
    if shown is None:
        assert base == ""
    else:
        if base in {"previous", "both"}:
            assert previous == pytest.approx(shown, abs=1)
        if base in {"start", "both"}:
            assert start == pytest.approx(shown, abs=1)
        assert base == "both" or abs(previous - start) > 1


@pytest.mark.parametrize(("head", "number"), HOPS)
def test_real_sizes_are_shipped(head: str, number: int) -> None:
    """Seed 004 with section I: both percentages, from the sizes of the models themselves."""
    assert changes(Rulebook([CHAINS]), head, number) == pytest.approx(REAL[head][number], abs=1)


@pytest.mark.parametrize(
    ("name", "billion"),
    [
        ("kimi-k2:1t-cloud", 1000), ("deepseek-v3.1:671b-cloud", 671), ("qwen3-coder:480b-cloud", 480),
        ("gpt-oss:120b-cloud", 120), ("gpt-oss:20b-cloud", 20), ("glm-4.6:cloud", 357), ("mythomax-l2-13b", 13),
        ("llama3.1:latest", 8), ("qwen2.5-coder:7b", 7), ("qwen-coder-vllm", 7),
    ],
)  # fmt: skip
def test_sizes_of_models(name: str, billion: float) -> None:
    """Seed 004's names; section I: 4.6 is GLM's version, the model has 357 billion parameters."""
    assert CHAINS.models[name].parameters_billion == billion
    assert FIGURES.models[name].parameters_billion == (4.6 if name == "glm-4.6:cloud" else billion)


def test_tiers() -> None:
    """Seed 004's headings: Cloud Premium, Standard, Entry, Local."""
    tiers = {name: entry.quality_tier for name, entry in CHAINS.models.items() if not name.startswith("llama_cpp")}
    premium, standard, entry = CLOUD_TIERS
    for names, tier in ((premium, 5), (standard, 4), (entry, 3)):
        assert {name for name, found in tiers.items() if found == tier} == set(names)
    assert {found for name, found in tiers.items() if "cloud" not in name} == {2}


CLOUD_TIERS = (
    ("kimi-k2:1t-cloud", "deepseek-v3.1:671b-cloud"),
    ("qwen3-coder:480b-cloud", "gpt-oss:120b-cloud"),
    ("gpt-oss:20b-cloud", "glm-4.6:cloud"),
)


@pytest.mark.parametrize("head", TABLE)
def test_a_job_walks_its_chain(head: str) -> None:
    """Seed 004, every chain: each failure leads to the next hop, in the document's order."""
    view = view_of(spread_004())
    names = {"qwen-coder-vllm": "Qwen2.5-Coder-7B-AWQ"}
    expected = [names.get(name, name) for name in (head, *CHAINS.chains[head])]
    tried = [model for _, model in walk(view, {"task": "reasoning", "preferred_model": head})]
    assert tried[: len(expected)] == expected


@pytest.mark.parametrize("head", OURS)
def test_a_job_walks_our_chains(head: str) -> None:
    """Requirement C4: the two chains that the document counts and does not list."""
    view = view_of(spread_004())
    wanted: dict[str, Any] = {
        "task": "reasoning",
        "preferred_backend": {"qwen-coder-vllm": "vllm-qwen"}.get(head, head),
    }
    tried = walk(view, wanted)[:3]
    expected = {
        "qwen-coder-vllm": ["vllm-qwen", "home qwen2.5-coder:7b", "home llama3.1:latest"],
        "llama_cpp_native": ["llama_cpp_native", "llama_cpp_python", "home llama3.1:latest"],
    }
    assert [name for name, _ in tried] == expected[head]


# ------------------------------------------------------------------------------------------------------- capability table

# "Capability Routing (Consolidated)": task, strategy, pool by the document's short names.
CAPABILITIES = [
    ("code", "complexity_based", ["qwen3-coder:480b", "qwen-coder-vllm", "qwen2.5-coder:7b"]),
    ("analytical", "context_based", ["deepseek-v3.1:671b", "kimi-k2:1t", "qwen2.5-coder:7b"]),
    ("reasoning", "direct", ["deepseek-v3.1:671b", "kimi-k2:1t", "llama3.1:latest"]),
    ("creative", "usage_based", ["mythomax-l2-13b", "llama3.1:latest", "gpt-oss:120b"]),
    ("chat", "usage_based", ["llama3.1:latest", "gpt-oss:120b", "gpt-oss:20b", "glm-4.6"]),
    ("high_throughput", "least_loaded", ["vllm-qwen"]),
    ("low_latency", "fastest_response", ["llama_cpp_native", "llama_cpp_python"]),
    ("large_context", "most_capacity", ["kimi-k2:1t", "llama_cpp_python"]),
]


def full(name: str) -> str:
    """The catalogue's name for the document's short one."""
    known = {*CHAINS.models, *(entry.backend for entry in CHAINS.models.values())}
    return name if name in known else next(k for k in CHAINS.models if k in (f"{name}-cloud", f"{name}:cloud"))


@pytest.mark.parametrize(("task", "strategy", "pool"), CAPABILITIES)
def test_capability_table(task: str, strategy: str, pool: list[str]) -> None:
    """Seed 004, "Capability Routing": each row's strategy and pool.

    Code is balanced by `adaptive_weighted`, as the document's balancer has it: `complexity_based`, and shares beside it.
    """
    found = rule(task)
    assert found.match.task == (task,)
    assert found.pool == tuple(full(name) for name in pool)
    assert found.strategy == {"complexity_based": "adaptive_weighted"}.get(strategy, strategy)


LEADERS = {
    "analytical": ("ollama_cloud", "deepseek-v3.1:671b-cloud"),
    "reasoning": ("ollama_cloud", "deepseek-v3.1:671b-cloud"),
    "chat": ("ollama", "llama3.1:latest"),
    "high_throughput": ("vllm-qwen", "Qwen2.5-Coder-7B-AWQ"),
    "low_latency": ("llama_cpp_native", "llama_cpp_native"),
    "large_context": ("ollama_cloud", "kimi-k2:1t-cloud"),
}


@pytest.mark.parametrize("task", LEADERS)
def test_who_gets_the_first_job_of_a_kind(task: Any) -> None:
    """Seed 004, "Capability Routing", on its fleet at rest."""
    made = decision(view_of(fleet_004()), {"task": task})
    assert (made.ranking[0].backend, made.ranking[0].model) == LEADERS[task]
    assert made.policy == f"chains@0 {task}"


# -------------------------------------------------------------------------------------------------------- load balancing


def test_the_balancer_of_code() -> None:
    """Seed 004, "CODE GENERATION (Adaptive Weighted)": classes, shares 30/50/20, saturation at 80 %, overflow to the cloud."""
    code = rule("code")
    assert code.classes == {
        "simple": ("qwen2.5-coder:7b",), "medium": ("qwen-coder-vllm",), "complex": ("qwen3-coder:480b-cloud",),
    }  # fmt: skip
    assert code.shares == {"qwen2.5-coder:7b": 0.30, "qwen-coder-vllm": 0.50, "qwen3-coder:480b-cloud": 0.20}
    assert code.overflow == ("qwen3-coder:480b-cloud",)
    assert (CHAINS.saturated_at, CHAINS.saturated_until) == (0.8, 0.7)


def test_the_balancer_of_creative_work() -> None:
    """Seed 004, "CREATIVE TASKS (Quality Based)": standard and high, shares 70/30."""
    balanced = rule("creative-balanced")
    assert (balanced.strategy, balanced.match.complexity) == ("quality_based", ("standard", "high"))
    assert balanced.classes == {"standard": ("mythomax-l2-13b",), "high": ("gpt-oss:120b-cloud",)}
    for one in (balanced, rule("creative")):
        assert one.shares == {"mythomax-l2-13b": 0.70, "gpt-oss:120b-cloud": 0.30}
        assert one.overflow == ("gpt-oss:120b-cloud",)


def test_classes_by_length() -> None:
    """Seed 004: simple below 50, medium from 50 to 100, complex above; creative work is long above 1,000 tokens."""
    analysis = CHAINS.analysis
    assert analysis is not None
    assert (analysis.simple_below, analysis.complex_above, analysis.long_above) == (50.0, 100.0, 1_000.0)


CLASSES = [
    ("code", "simple", "ollama", "qwen2.5-coder:7b"),
    ("code", "medium", "vllm-qwen", "Qwen2.5-Coder-7B-AWQ"),
    ("code", "complex", "ollama_cloud", "qwen3-coder:480b-cloud"),
    ("creative", "standard", "ollama", "mythomax-l2-13b"),
    ("creative", "high", "ollama_cloud", "gpt-oss:120b-cloud"),
]


@pytest.mark.parametrize(("task", "complexity", "name", "model"), CLASSES)
def test_the_class_picks_the_model(task: Any, complexity: Any, name: str, model: str) -> None:
    """Seed 004, "Load Balancing Architecture": each box of both drawings."""
    first = decision(view_of(fleet_004()), {"task": task, "complexity": complexity}).ranking[0]
    assert (first.backend, first.model) == (name, model)


@pytest.mark.parametrize(("task", "complexity", "name", "model"), CLASSES[:2] + CLASSES[3:4])
@pytest.mark.parametrize(("share", "overflows"), [(0.7, False), (0.8, True), (1.0, True)])
def test_saturation_overflows_to_the_cloud(
    task: Any, complexity: Any, name: str, model: str, share: float, overflows: bool
) -> None:
    """Seed 004: 80 % of the capacity taken, and the next job goes to the cloud."""
    view = view_of(fleet_004())
    busy(view, name, share)
    first = decision(view, {"task": task, "complexity": complexity}).ranking[0]
    cloud = {"code": "qwen3-coder:480b-cloud", "creative": "gpt-oss:120b-cloud"}[task]
    assert first.model == (cloud if overflows else model)


def test_saturation_is_left_again_below_seventy_percent() -> None:
    """Requirement C5: hysteresis, so that work does not jump to and fro at the mark."""
    view = view_of(fleet_004())
    found: list[str] = []
    for share in (0.8, 0.7, 0.6, 0.7):
        busy(view, "ollama", share)
        found.append(decision(view, {"task": "code", "complexity": "simple"}).ranking[0].backend)
    assert found == ["ollama_cloud", "ollama_cloud", "ollama", "ollama"]


@pytest.mark.parametrize(
    ("task", "shares"),
    [
        ("code", {"qwen2.5-coder:7b": 30, "Qwen2.5-Coder-7B-AWQ": 50, "qwen3-coder:480b-cloud": 20}),
        ("creative", {"mythomax-l2-13b": 70, "gpt-oss:120b-cloud": 30}),
    ],
)
def test_shares_hold_where_the_class_is_unknown(task: Any, shares: dict[str, int]) -> None:
    """Seed 004, 30/50/20 and 70/30: a hundred jobs within the window are spread so."""
    view = view_of(fleet_004())
    counted = dict.fromkeys(shares, 0)
    for number in range(100):
        now = T0 + number * 0.5
        first = decision(view, {"task": task, "complexity": "unknown"}, now=now).ranking[0]
        counted[first.model] += 1
        sent(view, first.backend, first.model, now)
    assert counted == {model: pytest.approx(share, abs=1) for model, share in shares.items()}


def test_shares_hold_where_the_model_of_the_class_is_down() -> None:
    """Requirement C5: simple code while its model is out is spread over the others, 50 to 20."""
    view = view_of(fleet_004())
    view.learn_breaker(Breaker(backend="ollama", model="qwen2.5-coder:7b", open_until=T0 + 600, reason="timeout"))
    counted: Counter[str] = Counter()
    for number in range(70):
        now = T0 + number * 0.5
        first = decision(view, {"task": "code", "complexity": "simple"}, now=now).ranking[0]
        counted[first.model] += 1
        sent(view, first.backend, first.model, now)
    assert counted["Qwen2.5-Coder-7B-AWQ"] == pytest.approx(50, abs=1)
    assert counted["qwen3-coder:480b-cloud"] == pytest.approx(20, abs=1)


@given(
    complexity=st.sampled_from(["simple", "medium", "complex"]),
    loads=st.tuples(*[st.integers(0, 12)] * 3),
    tokens=st.integers(1, 500),
)
def test_code_of_a_known_class_is_complexity_based(complexity: Any, loads: tuple[int, ...], tokens: int) -> None:
    """Seed 004, "code -> complexity_based": what is shipped decides the same while the class's model is up."""
    view = view_of(fleet_004())
    for name, running in zip(("ollama", "ollama_cloud", "vllm-qwen"), loads, strict=True):
        busy(view, name, running / 10)
    wanted: dict[str, Any] = {"task": "code", "complexity": complexity, "input_tokens": tokens}
    shipped_one = decision(view, wanted)
    named = decision(view, {**wanted, "strategy": "complexity_based"})
    assert [(c.backend, c.model) for c in shipped_one.ranking] == [(c.backend, c.model) for c in named.ranking]


# ------------------------------------------------------------------------------------------------------------------- vLLM


def test_the_inactive_model_of_vllm_gets_nothing() -> None:
    """Seed 004, "vLLM Single-Instance Constraint": only one model active; throughput goes to the active one."""
    view = view_of(fleet_004())
    for task in ("code", "high_throughput", "chat"):
        made = decision(view, {"task": task})
        assert "vllm-dolphin" not in {c.backend for c in made.ranking}
        (dolphin,) = [c for c in made.others if c.backend == "vllm-dolphin"]
        assert "inactive" in dolphin.reason
