"""Questions about decisions, and their answers: nothing here makes a job."""

from __future__ import annotations

from messages.deciding import Parameters
from messages.jobs import Decided
from messages.message import Channel, Kind, Message, Value
from messages.policies import Policy
from messages.reading import Counted
from messages.values import Needs, Problem, Range, Slip


class PreviewOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.router.preview")):
    """Question: where would this job go now?"""

    tenant: str
    """Whose job it would be."""
    job: str = "preview"
    """The id it would have: exploration depends on it."""
    needs: Needs
    """What it would need, as the analyzer answers it."""


class PreviewIs(Message, channel=Channel(kind=Kind.ASK, prefix="answer.router.preview")):
    """Answer to `PreviewOf`."""

    decided: Decided | None = None
    """The decision as it would be said."""
    problem: Problem | None = None
    """Why there is none."""


class Share(Value):
    """One backend and model's part of a batch."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    jobs: int
    """How many of the jobs go there."""
    cost_microdollars: int
    """What these cost together."""
    seconds: float
    """Until the last of these is done, with what waits there now."""


class EstimateOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.router.estimate")):
    """Question: what would so many such jobs cost, and how would they best be spread?"""

    tenant: str
    """Whose jobs they would be."""
    needs: Needs
    """What each needs."""
    jobs: int
    """How many, 1 or more."""
    split: dict[str, int] = {}
    """Backend -> how many of the jobs; must add up to `jobs`. Empty: chosen here."""
    budget_microdollars: int | None = None
    """All together must not cost more; absent: no limit."""


class EstimateIs(Message, channel=Channel(kind=Kind.ASK, prefix="answer.router.estimate")):
    """Answer to `EstimateOf`."""

    shares: tuple[Share, ...] = ()
    """Who does how many, the largest part first."""
    cost_microdollars: int = 0
    """All together."""
    seconds: float = 0.0
    """Until the last is done."""
    dearest: Share | None = None
    """The same jobs all on the dearest permitted backend, to compare with."""
    left_over: int = 0
    """Jobs that the budget does not pay for."""
    notes: tuple[str, ...] = ()
    """What one should know, a line each."""
    problem: Problem | None = None
    """Why there is no estimate."""


class QuoteOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.router.quote")):
    """Question: what would this job cost, when would it be done, and who would be second?"""

    tenant: str
    """Whose job it would be."""
    needs: Needs
    """What it needs."""


class QuoteIs(Message, channel=Channel(kind=Kind.ASK, prefix="answer.router.quote")):
    """Answer to `QuoteOf`."""

    backend: str = ""
    """Where it would go; empty when nobody may run it."""
    model: str = ""
    """The model's name there."""
    price_microdollars: Range | None = None
    """From the expected price to the worst case."""
    seconds: Range | None = None
    """Until it is done, wait and loading included: 10 to 90 of 100 such jobs lie within."""
    wait_seconds: float = 0.0
    """Part of it behind other jobs."""
    switch_seconds: float = 0.0
    """Part of it for loading the model."""
    runner_up: str = ""
    """`backend/model` that would be next; empty: nobody."""
    runner_up_price_microdollars: Range | None = None
    """Its price."""
    runner_up_seconds: Range | None = None
    """Its time."""
    changes: tuple[str, ...] = ()
    """What would differ from what is asked."""
    problem: Problem | None = None
    """Why there is no quote."""


class PoliciesOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.router.policies")):
    """Question: which policies hold?"""

    name: str = ""
    """Only this one; empty: all."""


class PoliciesAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.router.policies")):
    """Answer to `PoliciesOf`, in the order they speak."""

    policies: tuple[Policy, ...] = ()
    """Those in force, shipped ones included."""


class Rebalance(Message, channel=Channel(kind=Kind.ASK, prefix="ask.telemetry.rebalance")):
    """Request: forget what was measured and give every backend an equal share until it is measured again."""

    by: str
    """Who asks."""


class Rebalanced(Message, channel=Channel(kind=Kind.ASK, prefix="answer.telemetry.rebalance")):
    """Answer to `Rebalance`; `stats.reset` follows."""

    epoch: int
    """The new epoch."""
    forgotten: int
    """How many averages were thrown away."""


class CountOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.executor.count")):
    """Question: how many tokens would a model have to read for this job? Answered by who serves the backend, without a run."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    slip: Slip
    """The job."""
    parameters: Parameters = Parameters()
    """How the request is adjusted for it."""
    max_output_tokens: int
    """The cap on its answer."""


class CountIs(Message, channel=Channel(kind=Kind.ASK, prefix="answer.executor.count")):
    """Answer to `CountOf`."""

    counted: Counted | None = None
    """The count, by the model's own tokenizer and template."""
    problem: Problem | None = None
    """Why it can't be counted."""
