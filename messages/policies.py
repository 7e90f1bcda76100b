"""Policies: how jobs are understood, where they go, and what they may become. Written as TOML, carried as facts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from messages.message import Message, Value, fact
from messages.values import Asset, Complexity, Quality, Task

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=1)]


class Section(Value):
    """A table of a policy file."""


class Weights(Section):
    """Points per part of the weighted score, and the anchors its fractions are taken against (requirement C1)."""

    priority: NotNegative = 40.0
    """Points for the most preferred backend."""
    cost: NotNegative = 30.0
    """Points for a free one."""
    speed: NotNegative = 20.0
    """Points for one at least as quick as `fast_seconds`."""
    queue: NotNegative = 10.0
    """Points for one with nobody waiting."""
    speed_mode_cost: NotNegative = 10.0
    """Points for a free one when the job prioritizes speed."""
    speed_mode_speed: NotNegative = 40.0
    """Points for a quick one when the job prioritizes speed."""
    priorities: Positive = 3.0
    """How many priorities there are: 1 earns all points, `priorities` earns one part in so many."""
    fast_seconds: Positive = 5.0
    """Expected time that earns all speed points."""
    slow_seconds: Positive = 20.0
    """Expected time that earns none."""
    dear_microdollars: Positive = 80_000.0
    """Price per job that earns no cost points."""
    long_queue: Positive = 10.0
    """Waiting jobs that earn no queue points."""


class AdaptiveRules(Section):
    """Numbers of adaptive selection (requirement C7)."""

    method: Literal["epsilon", "thompson"] = "epsilon"
    """`epsilon`: the best known one, and now and then another. `thompson`: a draw from what is known of each."""
    epsilon: Share = 0.01
    """Share of jobs that explore; never on a failover, nor when a deadline or a cost limit forbids."""
    enough: Whole = 3
    """Measured runs from which on a backend counts as known; until then its prior share brings it jobs."""
    stale_seconds: Positive = 1800.0
    """Without traffic for this long, half of what was measured is forgotten and the prior takes its place."""
    slack: Positive = 3.0
    """Explore only when the deadline is this many times the expected time away."""


class CostRules(Section):
    """Numbers of `expected_cost` (requirement C9)."""

    value_per_hour_microdollars: NotNegative = 600_000.0
    """What an hour of waiting costs when neither job nor preference says: $0.60, so that a free GPU at rest that takes up to
    62 s is preferred to a cloud that takes 20 s for $0.007 (seed 002)."""
    speed_per_hour_microdollars: NotNegative = 24_000_000.0
    """What it costs at least when the job prioritizes speed: $24, so that 5 s for $0.08 are preferred to a free GPU from 17 s on
    (seed 002, in the reading of section I)."""
    queue_price: NotNegative = 0.3
    """Part of the value of time charged per second of work and per job before it on one slot: others will wait for it."""
    risk_seconds: NotNegative = 10.0
    """Time lost by a failed attempt besides its own: notice, wait, and the next decision."""
    switch_back: NotNegative = 1.0
    """A model switch is charged this many times more while other work waits there: it has to be undone for the others."""
    miss_microdollars: NotNegative = 20_000.0
    """Price of missing the deadline."""
    spread: Positive = 0.6
    """Standard deviation of the logarithm of a completion time, for the chance to miss the deadline."""

    def per_hour(self, told: int | None, *, speed: bool) -> float:
        """Micro-dollars that an hour of a job's waiting costs: as the job or a preference told, else the usual value; not less
        than the value of speed where it is prioritized.
        """
        usual = self.value_per_hour_microdollars if told is None else float(told)
        return max(usual, self.speed_per_hour_microdollars) if speed else usual


class FailoverRules(Section):
    """How often and how patiently; what is left out follows the next policy in order."""

    max_attempts: Whole | None = None
    """Attempts that may be spent on one job: the first and its fallbacks."""
    waits_seconds: tuple[NotNegative, ...] | None = None
    """Wait before the 2nd, 3rd, … attempt; the last one repeats."""
    stall_seconds: Positive | None = None
    """A backend that is silent this long has failed."""


class AnalysisRules(Section):
    """Numbers of the analyzer (requirements A1-A4)."""

    characters_per_token: Positive = 4.0
    """Of prose in Latin script; other scripts and code have fewer, which the estimate heeds by itself."""
    image_tokens: NotNegative = 800.0
    """Tokens of one image part that says no size."""
    simple_below: NotNegative = 50.0
    """A job below so many tokens is `simple`."""
    complex_above: NotNegative = 100.0
    """A job above so many tokens is `complex`; what lies between is `medium`."""
    long_above: NotNegative = 1_000.0
    """A creative job above so many tokens is `high`."""
    output_share: Share = 0.5
    """Part of the output cap that answers use on average."""


class Change(Section):
    """What a quality level makes of a request, where the job does not say so itself."""

    max_output_tokens: Whole | None = None
    """Cap on generated tokens."""
    steps: Whole | None = None
    """Sampling steps."""
    width: Whole | None = None
    """Pixels."""
    height: Whole | None = None
    """Pixels."""
    frames: Whole | None = None
    """Frames of a video."""
    variants: dict[str, str] = {}
    """Model -> the variant that runs in its place where a backend serves both."""


class Preset(Change):
    """A quality level: what it changes everywhere, and what it changes on one backend."""

    backends: dict[str, Change] = {}
    """By backend, before what holds everywhere."""


class Match(Section):
    """Which jobs a rule is for: every given list must hold the job's value; a list not given holds all."""

    task: tuple[Task, ...] = ()
    """Kind of work."""
    asset: tuple[Asset, ...] = ()
    """What is made."""
    quality: tuple[Quality, ...] = ()
    """Quality level."""
    complexity: tuple[Complexity, ...] = ()
    """Complexity class."""
    capability: tuple[str, ...] = ()
    """The job needs one of these."""
    role: tuple[str, ...] = ()
    """Role in a larger work."""
    mode: tuple[str, ...] = ()
    """Mode of the role."""
    product: tuple[str, ...] = ()
    """Kind of product."""
    workflow: tuple[str, ...] = ()
    """Workflow by name."""
    step: tuple[str, ...] = ()
    """The workflow's step."""
    tenant: tuple[str, ...] = ()
    """Whose job it is."""
    node_type: tuple[str, ...] = ()
    """The ComfyUI graph has one of these node classes."""


class AnswerChecks(Section):
    """What an answer must be, beside its form: rules, and a validator that is asked. Who breaks one that is not soft goes
    elsewhere with `validator_hard_fail`; what is soft is told with the answer.
    """

    min_characters: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Its text has at least so many."""
    max_characters: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Its text has at most so many; 0: any number."""
    must_match: tuple[str, ...] = ()
    """Regular expressions that are found in its text."""
    must_not_match: tuple[str, ...] = ()
    """Regular expressions that are not."""
    whole: bool = False
    """It ended by itself: not cut by its cap on tokens, and not by a content filter."""
    soft: bool = False
    """Breaking a rule above is told, and the answer used."""
    validator: str = ""
    """What a validator shall look at, in words; a job in role `validator` is asked. Empty: nobody is asked."""
    hard_below: Annotated[float, msgspec.Meta(ge=0, le=5)] = 2.0
    """A validator's score, 1 to 5, below this sends the job elsewhere."""
    soft_below: Annotated[float, msgspec.Meta(ge=0, le=5)] = 3.0
    """A score below this is told."""


class Rule(Section):
    """What holds for some jobs. Of all rules that match, and whose pool is served by anybody, the nearest that says a field
    decides it; what belongs to a pool comes with the pool.
    """

    name: str
    """Its name in decisions."""
    match: Match = Match()
    """Which jobs it is for."""
    strategy: str = ""
    """Strategy by name; empty: the policy's."""
    pool: tuple[str, ...] = ()
    """Models (by name or id) or backends in order; empty: as the next rule that matches says, else everything. `["*"]`:
    everything, whatever that says."""
    strict: bool = False
    """Nothing outside the pool may run it."""
    fallbacks: Annotated[int, msgspec.Meta(ge=0)] = 3
    """How many of the pool may be tried after the first."""
    classes: dict[Complexity, tuple[str, ...]] = {}
    """Complexity class -> the part of the pool that serves it."""
    shares: dict[str, Share] = {}
    """Member of the pool -> its target share of the traffic."""
    overflow: tuple[str, ...] = ()
    """Where work goes when the class's members are saturated, in order."""
    requires: tuple[str, ...] = ()
    """Capabilities that must be there."""
    prefers: tuple[str, ...] = ()
    """Capabilities that should be there; without them the job is degraded, and says so."""
    required_fields: tuple[str, ...] = ()
    """Fields that the JSON of an answer must have, or the attempt failed with `missing_field`."""
    checks: AnswerChecks = AnswerChecks()
    """What else an answer must be."""
    max_attempts: Whole | None = None
    """Attempts that may be spent on one job; absent: the policy's."""


class Guardrail(Section):
    """Limits of one call, and what is wished of it, for models within workflows and steps (seed 003).

    A policy file may use the seed's own names: `costLimit`, `tokenLimit`, `latencyTargetMs`, `dropIfOverBudget`, `routingWeight`.
    """

    model: tuple[str, ...]
    """Models (by name or id) or backends it holds for."""
    workflow: tuple[str, ...] = ()
    """Only in these workflows; empty: everywhere."""
    step: tuple[str, ...] = ()
    """Only in these steps; empty: in each."""
    tenant: tuple[str, ...] = ()
    """Only for these tenants; empty: for each."""
    cost_limit_cents: NotNegative | None = None
    """The most one call may cost, in US cents; 0 admits only what is free; absent: no limit."""
    token_limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The most tokens one call may read and write together; absent: no limit."""
    latency_target_ms: Positive | None = None
    """A call should take no longer, in milliseconds: a breach is told, and nothing is stopped for it."""
    drop_if_over_budget: bool = True
    """Whoever could exceed a limit is passed over; false: it may run, and that it exceeds a limit is told."""
    routing_weight: NotNegative | None = None
    """Share of the traffic, against the others', until it is measured (`adaptive`); absent: that of its backend."""


class CatalogueEntry(Section):
    """What is known about a model under a stable id, whatever its backends say of it."""

    model: str = ""
    """The model's name at its backends; empty: the id itself."""
    base_url: str = ""
    """Where it is served, for people; empty: wherever it is found."""
    backend: str = ""
    """Only this backend's model is meant; empty: any backend's."""
    capabilities: tuple[str, ...] = ()
    """What it can do, added to what its backends say."""
    context_tokens: Whole | None = None
    """Prompt and answer together."""
    max_output_tokens: Whole | None = None
    """The most it generates per answer."""
    quality_tier: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    """1 (small) to 5 (best)."""
    parameters_billion: Positive | None = None
    """Its size."""
    roles: tuple[str, ...] = ()
    """The only roles it may take; empty: all."""
    roles_denied: tuple[str, ...] = ()
    """Roles it must not take."""
    vram_mb: Whole | None = None
    """Memory it needs on a GPU."""


class BackendRule(Section):
    """How a policy sees one backend."""

    multiplier: NotNegative = 1
    """Factor on the weighted score."""
    routing_weight: NotNegative = 1
    """Share of the traffic, against the others', until it is measured."""
    priority: Whole | None = None
    """Replaces the backend's own; 1 is the most preferred."""


Degrade = Literal["drop_images", "describe_style", "shorten", "drop_tools", "plain_text"]
"""What becomes of a request when a preferred capability is missing. `drop_images`: images are left out, and the text
says so. `describe_style`: the same, and the job's `style` takes their place. `shorten`: the oldest messages are left out.
`drop_tools`: tools are left out. `plain_text`: JSON is asked for in words."""


class Policy(Message, channel=fact("policy", keys=("policy",))):
    """How jobs are understood and where they go; replaced through the bus without a restart.

    All policies hold together, ordered by `order` and name: the first to say something about a matter decides it.
    """

    policy: str
    """Its name."""
    version: int = 0
    """Counts its changes, from 1; 0: shipped."""
    order: int = 10
    """Place among the policies: lower ones speak first. Shipped ones have 50 and more."""
    source: str = ""
    """Where it comes from, for people."""
    applied_at: float = 0.0
    """When it was applied, in seconds since the epoch; 0: shipped."""
    applied_by: str = ""
    """Who applied it."""
    removed: bool = False
    """It no longer holds; a shipped one of the name does not come back."""
    enabled: bool | None = None
    """False: `fixed_order` instead of all strategies; delivery, breakers and budgets stay."""
    fixed_order: tuple[str, ...] = ()
    """Backends or models in order, for `enabled = false`; others follow by priority."""
    shipped: tuple[str, ...] | None = None
    """Of the shipped policies only these say where jobs go, by rules, strategy and chains; absent: all. What the others know
    (models, numbers, quality levels) stays known."""
    strategy: str = ""
    """Strategy where no rule says one."""
    strategy_share: Share | None = None
    """Only for this share of the tenants, by a hash of their names; absent: for all."""
    failover: FailoverRules | None = None
    """How often and how patiently jobs are tried."""
    weights: Weights | None = None
    """Numbers of the weighted score."""
    adaptive: AdaptiveRules | None = None
    """Numbers of adaptive selection."""
    cost: CostRules | None = None
    """Numbers of `expected_cost`."""
    analysis: AnalysisRules | None = None
    """Numbers of the analyzer."""
    saturated_at: Share | None = None
    """A backend is saturated from this load ((running + waiting) / slots) on."""
    saturated_until: Share | None = None
    """And no longer under this one."""
    window_seconds: Positive | None = None
    """Length of the sliding window in which shares of traffic are kept."""
    rules: tuple[Rule, ...] = ()
    """What holds for some jobs, in order."""
    guardrails: tuple[Guardrail, ...] = ()
    """Limits of single calls of models, in workflows and steps; all that fit hold."""
    chains: dict[str, tuple[str, ...]] = {}
    """Model -> where its jobs go when it fails, in order."""
    models: dict[str, CatalogueEntry] = {}
    """The catalogue: what is known of models, by stable id."""
    backends: dict[str, BackendRule] = {}
    """How it sees the backends, by name."""
    presets: dict[Quality, Preset] = {}
    """What each quality level changes."""
    degrade: dict[str, Degrade] = {}
    """Preferred capability -> what becomes of a request where it is missing."""
