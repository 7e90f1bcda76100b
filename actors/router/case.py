"""What a strategy sees: the job's case, a row for each candidate, and what it answers. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from messages import Attempt, Features, Known, Needs, Parameters, Plan
from messages.policies import Guardrail


class Case(msgspec.Struct, frozen=True, gc=False):
    """One job in one round, as every strategy sees it."""

    needs: Needs
    plan: Plan
    """What the policies say about it."""
    tenant: str
    job: str
    n: int
    """Round, from 1."""
    attempts: tuple[Attempt, ...]
    """What was tried before; not empty: this is a failover."""
    now: float
    deadline_at: float
    policy: str
    """`name@version rule`: part of what exploration hashes."""


class Row(msgspec.Struct, gc=False):
    """One backend and model while a decision is made. Strategies read `known` and `features` only."""

    backend: str
    model: str
    known: Known
    features: Features
    barred: str = ""
    reason: str = ""
    max_output_tokens: int = 0
    worst_case_microdollars: int = 0
    worst_case_tokens: int = 0
    worst_case_input_tokens: int = 0
    unbounded: str = ""
    parameters: Parameters | None = None
    changes: tuple[str, ...] = ()
    guards: tuple[Guardrail, ...] = ()
    """Limits of one call that hold for it."""
    breaches: tuple[str, ...] = ()
    """Those that it is over and that do not stop it."""
    panic: bool = False
    score: float = 0
    parts: tuple[float, ...] = ()

    def is_called(self, name: str) -> bool:
        """Whether a pool's or chain's word means this row: a model's name or id, a backend, or `backend/model`."""
        if name in (self.model, self.backend) or name in self.known.names:
            return True
        return name == f"{self.backend}/{self.model}"


class Scored(msgspec.Struct, gc=False):
    """A strategy's answer: one score per row, in the order of the rows; higher is better."""

    scores: list[float]
    parts: list[tuple[float, ...]] = []
    """What each score is made of, as the strategy's `parts` name it; empty: nothing to tell."""
    number: float | None = None
    """The exploration number, when one was used."""
    explored: int | None = None
    """The row that leads whatever its score; None: the scores decide."""


class Strategy(msgspec.Struct, frozen=True):
    """A named way of scoring permitted candidates."""

    name: str
    score: Callable[[Sequence[Row], Case], Scored]
    """Pure: the same rows and case give the same scores."""
    parts: tuple[str, ...] = ()
    """Names of the parts of a score."""
    relative: bool = False
    """Its formula compares candidates, so that one more may change the order of others."""
    summary: str = ""
    """When to use it, in one sentence."""
