"""What a decision is made of: what is known of each candidate, how it was seen at the moment, and the rules in force.

Everything in here goes into `decided`, so that a decision can be derived again from its event alone. Defaults of numbers are
written as integers: only what is the default object itself is left out of an event.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from messages.message import Value
from messages.policies import AdaptiveRules, AnswerChecks, CostRules, Degrade, Guardrail, Preset, Weights
from messages.reading import Framing
from messages.values import Complexity, Media, Price


class Known(Value):
    """What stands about one model on one backend, from the backend's fact and the policies' catalogue."""

    local: bool = False
    """Runs on hardware of ours."""
    provider: str = ""
    """Who sells it; empty: nobody."""
    priority: int = 1
    """1 is the most preferred."""
    slots: int = 0
    """Attempts it runs at once; 0: nobody serves it."""
    unfit: str = ""
    """Why the backend takes no work at all now (unhealthy, inactive member of its group), in words; empty: it does."""
    names: tuple[str, ...] = ()
    """Further names of the model: stable ids, with and without its tag."""
    capabilities: tuple[str, ...] = ()
    """What it can do, sorted."""
    context_tokens: int | None = None
    """Prompt and answer together; absent: unknown."""
    max_output_tokens: int | None = None
    """The most it generates per answer; absent: no own limit."""
    price: Price = Price()
    """What it costs."""
    framing: Framing = Framing()
    """What it reads beside what it is given."""
    quality_tier: int = 1
    """1 (small) to 5 (best)."""
    parameters_billion: float | None = None
    """Its size; absent: unknown."""
    roles: tuple[str, ...] = ()
    """The only roles it may take; empty: all."""
    roles_denied: tuple[str, ...] = ()
    """Roles it must not take."""
    loras: tuple[str, ...] | None = None
    """LoRAs it has; absent: unknown."""
    lacks: tuple[str, ...] = ()
    """What the job's own graph names and its server does not have, in words."""
    vram_mb: int = 0
    """GPU memory the model needs; 0: unknown."""
    vram_total_mb: int = 0
    """GPU memory of its backend; 0: unknown."""
    swap_seconds: float = 0
    """Time to load it in place of another."""
    multiplier: float = 1
    """The policy's factor on its weighted score."""
    routing_weight: float = 1
    """The policy's share of traffic for its backend until it is measured."""
    chain: tuple[str, ...] = ()
    """Where its jobs go when it fails, by an explicit chain."""


LOCAL, CLOUD = "local", "cloud"
"""Kinds of backend that a preference may name."""
ALSO_CALLED = {"gemini": "google", "google": "gemini", "claude": "anthropic"}
"""Providers by another name that people use."""


def meaning(word: str, names: Collection[str]) -> Literal["name", "kind", "provider"]:
    """What a preferred backend is, where backends of these names are: one of them, a kind, or a provider."""
    if word in names:
        return "name"
    return "kind" if word in (LOCAL, CLOUD) else "provider"


def is_meant(word: str, means: Literal["name", "kind", "provider"], backend: str, known: Known) -> bool:
    """Whether a preferred backend means this one."""
    if means == "name":
        return backend == word
    if means == "kind":
        return known.local is (word == LOCAL)
    return known.provider in (word, ALSO_CALLED.get(word, word))


class Features(Value):
    """How a candidate looked when the decision was made. Seconds, micro-dollars, jobs."""

    price_microdollars: float = 0
    """Expected price of this job there; of an unknown price what it counts as (`price_assumed`)."""
    price_assumed: bool = False
    """Nobody knows the price, so it counts as dear: more than every known one."""
    service_seconds: float = 0
    """Expected time from call to answer."""
    first_token_seconds: float = 0
    """Expected time from call to the first token."""
    wait_seconds: float = 0
    """Expected wait behind the jobs ahead."""
    switch_seconds: float = 0
    """Time to load the model first; 0 when it is loaded, or nothing is known."""
    ahead: float = 0
    """Jobs running or waiting there, own fresh decisions included."""
    own: float = 0
    """Own decisions that the load fact can't show yet."""
    queue: float = 0
    """Jobs that wait there, those that run not counted."""
    used: float = 0
    """Own decisions for it within the sliding window."""
    saturated: bool = False
    """Whether its backend counts as saturated."""
    runs: float = 0
    """Measured runs that count, discounted; 0: by its stated speed."""
    equals: float = 0
    """Runs measured on equal backends that the expected time rests on, discounted; 0: none."""
    spread: float = 0
    """Standard deviation of the logarithm of its measured times; 0: unknown."""
    measured_at: float = 0
    """When it was measured last, in seconds since the epoch; 0: never."""
    failure_rate: float = 0
    """Discounted share of attempts that failed, 0 to 1."""
    input_ratio: float = 1
    """Counted over estimated input tokens, as measured for this model."""
    rating: float = 0
    """Mean rating for the task, 1 to 5; 0: nobody rated."""
    ratings: float = 0
    """How many ratings that is."""
    vram_free_mb: int = -1
    """Free GPU memory; -1: unknown."""
    loaded: bool = False
    """Whether the model is in memory now."""
    open_until: float = 0
    """Its breaker lets nobody through before this time; 0: closed."""
    open_cause: str = ""
    """What opened its breaker, as the breaker has it; empty: closed."""
    open_reason: str = ""
    """Why its breaker is open."""


class Parameters(Value):
    """The request as it goes to one backend; 0 and empty: as the job has it."""

    model: str = ""
    """The variant that runs in place of the model."""
    steps: int = 0
    """Sampling steps."""
    width: int = 0
    """Pixels."""
    height: int = 0
    """Pixels."""
    frames: int = 0
    """Frames of a video."""
    degrade: tuple[Degrade, ...] = ()
    """What is taken away because a preferred capability is missing."""


def adjusted(media: Media, parameters: Parameters) -> Media:
    """What is really asked of a backend: its own size and frames, and other frames make another length."""
    frames, seconds = parameters.frames or media.frames, media.seconds
    if frames != media.frames:
        if media.frames:
            seconds = media.seconds * frames / media.frames
        elif media.fps:
            seconds = max(media.seconds, frames / media.fps)
    return msgspec.structs.replace(
        media, frames=frames, seconds=seconds, steps=parameters.steps or media.steps,
        width=parameters.width or media.width, height=parameters.height or media.height,
    )  # fmt: skip


class Candidate(Value):
    """One backend and model as the router saw it for one decision, with everything that was used."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    barred: str = ""
    """Name of the filter that excluded it; empty: it may run the job."""
    reason: str = ""
    """Why it was excluded, or got its place, in words; empty when the score says it all."""
    score: float = 0
    """The strategy's score; higher is better. 0 when excluded."""
    parts: tuple[float, ...] = ()
    """What the score is made of; `Decided.parts` names them."""
    known: Known = Known()
    """What stands about it."""
    features: Features = Features()
    """How it looked at the moment."""
    worst_case_microdollars: int = 0
    """The most this attempt can cost at the prices of the decision; this is what gets reserved."""
    worst_case_tokens: int = 0
    """The most input tokens plus the output cap; this is what gets reserved."""
    worst_case_input_tokens: int = 0
    """The most it can have to read: the bound by bytes, what was counted, or the context limit, whichever is least."""
    unbounded: str = ""
    """What keeps its input from being bounded, so that no limit of dollars or tokens could be kept; empty: nothing."""
    max_output_tokens: int = 0
    """Output cap for this backend, at most its own limit."""
    parameters: Parameters = Parameters()
    """How the request is adjusted for it."""
    changes: tuple[str, ...] = ()
    """What differs from what was asked, in words."""
    breaches: tuple[str, ...] = ()
    """Guardrails that it is over and that do not stop it, in words."""
    panic: bool = False
    """All who could run it have open breakers: the least bad one may."""

    @property
    def permitted(self) -> bool:
        """Whether it may run the job."""
        return not self.barred


class Plan(Value):
    """What the policies say about one job: the rule that matched, and every number a decision uses."""

    strategy: str = "weighted_score"
    """Strategy by name."""
    rule: str = ""
    """`policy@version rule` that gave the pool, else the nearest that matched; empty: none did."""
    set_by: dict[str, str] = {}
    """Field of this plan -> who set it: `policy@version rule`, a policy, or `the job itself`."""
    fixed: bool = False
    """Routing is switched off: the pool in its order, then by priority."""
    pool: tuple[str, ...] = ()
    """Models or backends in order; empty: everything."""
    strict: bool = False
    """Nothing outside the pool may run it."""
    fallbacks: int = 3
    """How many of the pool may be tried after the first."""
    classes: dict[Complexity, tuple[str, ...]] = {}
    """Complexity class -> the part of the pool that serves it."""
    shares: dict[str, float] = {}
    """Member of the pool -> its target share."""
    overflow: tuple[str, ...] = ()
    """Where work goes when the class's members are saturated."""
    requires: tuple[str, ...] = ()
    """Capabilities that must be there, beside the job's own."""
    prefers: tuple[str, ...] = ()
    """Capabilities that should be there, beside the job's own."""
    degrade: dict[str, Degrade] = {}
    """Preferred capability -> what becomes of the request where it is missing; only those the job prefers."""
    required_fields: tuple[str, ...] = ()
    """Fields that the answer's JSON must have."""
    checks: AnswerChecks = AnswerChecks()
    """What else the answer must be."""
    preset: Preset = Preset()
    """What the job's quality level changes."""
    guardrails: tuple[Guardrail, ...] = ()
    """Limits of single calls that hold for this job."""
    chain: tuple[str, ...] = ()
    """Where the job goes now that the model it began with has failed, by an explicit chain."""
    output_share: float = 0.5
    """Part of the output cap that answers use on average."""
    weights: Weights = Weights()
    """Numbers of the weighted score."""
    adaptive: AdaptiveRules = AdaptiveRules()
    """Numbers of adaptive selection."""
    cost: CostRules = CostRules()
    """Numbers of `expected_cost`."""
    equal_weights: bool = False
    """The averages were reset: prior shares are equal until a policy says otherwise."""
    epoch: int = 0
    """Counts resets of the averages."""
