"""Rows and cases for strategies, hypothesis strategies for them, and who leads."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from actors.router.case import Case, Row, Scored
from messages import Attempt, Features, Known, Plan
from tests.messages.samples import T0, needs

FAILED = Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=0)


def row(name: str = "a", *, known: dict[str, Any] | None = None, **features: Any) -> Row:
    """A backend with four slots; `name` is `backend` or `backend/model`; what else is given are its features."""
    backend, _, model = name.partition("/")
    fixed: dict[str, Any] = {"slots": 4, **(known or {})}
    figures: dict[str, Any] = {"service_seconds": 2.0, **features}
    return Row(backend, model or "m", Known(**fixed), Features(**figures))


def case(*, plan: dict[str, Any] | None = None, **changes: Any) -> Case:
    """An ordinary job with ten minutes to go; `needs` as a dict of changes."""
    given: dict[str, Any] = {
        "plan": Plan(**(plan or {})), "tenant": "acme", "job": "j-1", "n": 1, "attempts": (), "now": T0,
        "deadline_at": T0 + 600, "policy": "default@1 all", **changes, "needs": needs(**changes.get("needs", {})),
    }  # fmt: skip
    return Case(**given)


def order(rows: Sequence[Row], scored: Scored) -> list[str]:
    """Names of the backends, best first, as the caller orders them: who was explored leads, ties go by name."""
    found = sorted(
        range(len(rows)), key=lambda i: (i != scored.explored, -scored.scores[i], rows[i].backend, rows[i].model)
    )
    return [rows[i].backend for i in found]


def play(
    score: Callable[[Sequence[Row], Case], Scored], rows: Sequence[Row], where: Case, *, jobs: int, window: int
) -> Counter[str]:
    """Decide `jobs` times, count each decision in a sliding window of so many, and count the last `window` by backend."""
    recent: deque[str] = deque(maxlen=window)
    used: Counter[str] = Counter()
    for _ in range(jobs):
        now = [
            Row(r.backend, r.model, r.known, msgspec.structs.replace(r.features, used=float(used[r.backend])))
            for r in rows
        ]
        first = order(now, score(now, where))[0]
        if len(recent) == window:
            used[recent[0]] -= 1
        recent.append(first)
        used[first] += 1
    return Counter(recent)


def shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """The same rows in another order."""
    return random.Random(seed).sample(list(rows), len(rows))


FIGURES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "price_microdollars": st.floats(0, 1e7), "service_seconds": st.floats(0.01, 1e4),
        "first_token_seconds": st.floats(0, 100), "wait_seconds": st.floats(0, 1e4),
        "switch_seconds": st.floats(0, 100), "ahead": st.floats(0, 100), "queue": st.floats(0, 100),
        "used": st.floats(0, 1e3), "saturated": st.booleans(), "runs": st.floats(0, 50), "spread": st.floats(0, 2),
        "failure_rate": st.floats(0, 1), "rating": st.floats(1, 5), "ratings": st.floats(0, 100),
    }
)  # fmt: skip
KNOWN: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "priority": st.integers(1, 9), "slots": st.integers(1, 16), "quality_tier": st.integers(1, 5),
        "context_tokens": st.none() | st.integers(1, 1_000_000), "routing_weight": st.floats(0, 5),
        "names": st.lists(st.sampled_from(["x", "y", "z"]), max_size=2).map(tuple),
    }
)  # fmt: skip
ROWS = st.lists(st.tuples(FIGURES, KNOWN), min_size=1, max_size=6).map(
    lambda given: [row(f"b{i}/m{i % 3}", known=known, **figures) for i, (figures, known) in enumerate(given)]
)
NAMES = st.lists(st.sampled_from(["b0", "b1", "b2/m2", "b9", "m0", "m1", "x", "y", "b1/m1"]), max_size=5).map(tuple)
PLANS = st.fixed_dictionaries(
    {
        "pool": NAMES,
        "overflow": NAMES,
        "classes": st.dictionaries(st.sampled_from(["simple", "complex", "high", "unknown"]), NAMES),
        "shares": st.dictionaries(st.sampled_from(["b0", "b1", "m2", "x", "b9"]), st.floats(0, 1)),
        "equal_weights": st.booleans(),
    }
)
CASES = st.builds(
    lambda plan, complexity, speed, job, left: case(
        plan=plan, needs={"complexity": complexity, "prioritize_speed": speed}, job=job, deadline_at=T0 + left
    ),
    PLANS,
    st.sampled_from(["simple", "complex", "high", "unknown"]),
    st.booleans(),
    st.text(max_size=5),
    st.floats(-10, 1e5),
)
