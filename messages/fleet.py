"""The backends, as executors announce them and as everybody sees them; breakers, figures, preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec

from messages.attempts import Attempted, WhenOver
from messages.message import Channel, Kind, Message, Value, fact, token
from messages.reading import Framing
from messages.values import Price, Quality


class Model(Value):
    """A model a backend serves."""

    name: str
    """As its backend calls it."""
    capabilities: tuple[str, ...] = ("text",)
    """What it can do: `text`, `vision`, `tools`, `json`, `code`, `image`, `video`, `audio`, `embedding`, `lora`, …"""
    context_tokens: int | None = None
    """Prompt and answer together; absent: unknown."""
    max_output_tokens: int | None = None
    """The most it generates per answer; absent: no own limit."""
    price: Price = Price()
    """What it costs; when nobody states it: free on hardware of ours, unknown elsewhere."""
    quality_tier: int | None = None
    """1 (small) to 5 (best); absent: as its family or its size has it."""
    tokens_per_second: float | None = None
    """Stated speed; replaced by measurements."""
    first_token_seconds: float | None = None
    """Stated time to the first token; replaced by measurements."""
    seconds_per_job: float | None = None
    """Stated time of a whole job, for what is not counted in tokens; replaced by measurements."""
    parameters_billion: float | None = None
    """Its size; absent: unknown."""
    vram_mb: int | None = None
    """GPU memory it needs; absent: unknown."""
    swap_seconds: float | None = None
    """Stated time to load it in place of another; replaced by measurements."""
    loras: tuple[str, ...] | None = None
    """LoRAs it can be run with; absent: unknown."""
    has: str = ""
    """Of a model that stands for jobs' own graphs: node classes and files of its server, each three bytes of a digest, in
    base64; empty: nobody knows."""
    retires: str = ""
    """The day it is shut down, `2026-12-11`; empty: none is known."""
    framing: Framing | None = None
    """What it reads beside what it is given; absent: as is usual for its protocol and its name."""


def _known_prices(local: bool, models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Models as a backend has them: what runs elsewhere is free only where somebody says so."""
    if local or all(model.price.unknown or model.price.stated for model in models):
        return models
    return tuple(msgspec.structs.replace(model, price=model.price.or_unknown()) for model in models)


class Offer(Value):
    """A backend as its executor announces it."""

    backend: str
    """The backend's name."""
    protocol: str
    """How it is spoken to: the name of a kind of backend (`ollama`, `comfyui`, …)."""
    local: bool
    """Runs on hardware of ours: costs nothing per call, and its data stay here."""
    provider: str = ""
    """Who sells it (`openai`, …); empty: nobody."""
    priority: int = 1
    """1 is the most preferred."""
    slots: int = 1
    """Attempts it runs at once. Executors of one server share them."""
    models: tuple[Model, ...] = ()
    """What it serves."""
    exclusive_group: str = ""
    """Backends of one group share hardware: one of them is active at a time. Empty: none."""
    active: bool = True
    """Whether it is the active one of its group."""
    vram_total_mb: int | None = None
    """GPU memory; absent: unknown."""
    here: bool = False
    """Runs on its executor's own host, so that the GPU of that host is its GPU."""
    gpu: int | None = None
    """Which of the host's GPUs it uses, as NVML counts them; absent: the only one."""
    healthy: bool = True
    """Whether its last health check went well."""
    health_reason: str = ""
    """Why it is not healthy, in words."""
    version: str = ""
    """The server's version, as it says."""
    foreign: int = 0
    """Requests of others that it has in hand or waiting, as far as it says."""
    loaded: tuple[str, ...] | None = None
    """Models in its memory; absent: it does not say."""
    vram_free_mb: int | None = None
    """Free GPU memory, as the server says; absent: it does not."""
    cold: bool = False
    """The next attempt has to start a worker first."""
    switchable: bool = False
    """Its executor can load and unload models there on command."""
    notes: tuple[str, ...] = ()
    """What does not keep it from working, but somebody should know: recipes that lack a file there."""

    def __post_init__(self) -> None:
        """A price that nobody states is unknown where it may cost something."""
        msgspec.structs.force_setattr(self, "models", _known_prices(self.local, self.models))


class Running(Value):
    """An attempt that an executor runs at this moment."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job the attempt belongs to."""
    run: str
    """The handler run that won the claim."""
    backend: str = ""
    """Where it runs."""
    model: str = ""
    """What it runs."""


class ExecutorAlive(Message, channel=Channel(kind=Kind.SIGNAL, prefix="executor.alive", keys=("instance",))):
    """Every 2 s: an executor lives, what it serves, what it runs."""

    instance: str
    """The process, by its name on the bus."""
    boot: str
    """Changes with every start of the process."""
    number: int
    """Counts the heartbeats of this boot, from 0."""
    offers: tuple[Offer, ...] = ()
    """The backends it serves."""
    running: tuple[Running, ...] = ()
    """The attempts it runs at this moment."""
    leaving: bool = False
    """The last heartbeat of a clean stop: takes no more work."""
    host: str = ""
    """The host it runs on, as in `Gpu`; empty: unknown."""
    at: float
    """Its reading of the server's clock, in seconds since the epoch."""


class Backend(Message, channel=fact("backend", keys=("backend",))):
    """A backend as the registry knows it."""

    backend: str
    """The backend's name."""
    protocol: str
    """How its executors speak to it."""
    local: bool
    """Runs on hardware of ours."""
    provider: str = ""
    """Who sells it (`openai`, …); empty: nobody."""
    priority: int = 1
    """1 is the most preferred."""
    slots: int
    """Over all live executors; 0: nobody serves it."""
    executors: tuple[str, ...] = ()
    """The live executors that serve it, by instance."""
    models: tuple[Model, ...] = ()
    """What it serves, over all its executors."""
    exclusive_group: str = ""
    """Backends of one group share hardware: one of them is active at a time. Empty: none."""
    active: bool = True
    """Whether it is the active one of its group; an inactive one takes no work."""
    vram_total_mb: int | None = None
    """GPU memory; absent: unknown."""
    healthy: bool
    """Whether it is so for at least one executor."""
    health_reason: str = ""
    """Why it is not healthy, in words."""
    version: str = ""
    """The server's version, as it says."""
    cold: bool = False
    """The next attempt has to start a worker first."""
    switchable: bool = False
    """Its executors can load and unload models there on command."""
    notes: tuple[str, ...] = ()
    """What does not keep it from working, but somebody should know."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""

    def __post_init__(self) -> None:
        """A price that nobody states is unknown where it may cost something."""
        msgspec.structs.force_setattr(self, "models", _known_prices(self.local, self.models))


class Load(Message, channel=fact("load", keys=("backend",))):
    """How much work lies before a backend."""

    backend: str
    """The backend's name."""
    waiting: int
    """Attempts in its queue that nobody runs, and what others have it do."""
    running: int
    """Attempts that executors have in hand."""
    foreign: int = 0
    """Of what waits, the requests of others that the backend has in hand or waiting, as far as it says."""
    loaded: tuple[str, ...] | None = None
    """Models in its memory, as it says, else those that ran there last or run there now; absent: unknown."""
    vram_free_mb: int | None = None
    """Free GPU memory; absent: unknown."""
    through_seq: int = 0
    """Work up to this sequence of its stream is counted in it; what was queued later is not."""
    at: float
    """When it was looked at."""


ALL_MODELS = "*"
"""In place of a model: the breaker of a backend's whole account, which holds for all of its models."""
BreakerCause = Literal["", "failures", "rate_limited", "account", "manual"]
"""What holds a breaker open. `failures`: in a row, or their share. `rate_limited`: the backend asked to be left alone.
`account`: it refused our key or our money. `manual`: somebody opened it by hand, and only a hand closes it. Empty: closed."""


class Minute(Value):
    """The calls of one minute, by the time they ended, that say something about the backend."""

    minute: int
    """Minutes since the epoch."""
    calls: int = 0
    """Those that went well, and counted failures."""
    failures: int = 0
    """Counted failures."""


class Breaker(Message, channel=fact("breaker", keys=("backend", "model"), compared=True)):
    """The circuit breaker of one backend and model: a fold of `attempted` in stream order.

    Open means `now < open_until`; after that it is half-open until a probe succeeds. No timer can be lost. The one with the
    model `*` is that of the backend's account: while it is open, no model of the backend is called.
    """

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it; `*`: the whole account."""
    opened_at: float = 0.0
    """When it opened last; an attempt that began before says nothing about the backend since. 0: it is closed."""
    through_seq: int = 0
    """Events up to this stream sequence are folded in; older ones are ignored."""
    failures_in_row: int = 0
    """Counted failures since the last success, as far as they are remembered."""
    times_opened: int = 0
    """Openings since the last success; 0: it is closed."""
    strikes: int = 0
    """Openings that are remembered: each doubles the time of the next one."""
    quiet_since: float = 0.0
    """When it closed last, in seconds since the epoch; strikes are forgotten one by one from then on."""
    open_until: float = 0.0
    """Nobody gets through before this time, in seconds since the epoch."""
    cause: BreakerCause = ""
    """What holds it open, or held it open until a trial call decides; empty: it is closed."""
    reason: str = ""
    """Why it opened, in words."""
    by: str = ""
    """Who opened or closed it by hand last; empty: nobody."""
    suspects: tuple[str, ...] = ()
    """Fingerprints of the requests that failed since the last success, at most 16: an answered failure counts once for each."""
    suspected_at: float = 0.0
    """When the last of them failed, in seconds since the epoch."""
    executors: tuple[str, ...] = ()
    """Of an account that is unusable: the executors that were there then, and still are. Another one closes it."""
    recent: tuple[Minute, ...] = ()
    """The calls since it closed last, as far as they are remembered, in order of time."""
    probe_tenant: str = ""
    """Tenant of the job that holds the probe lease."""
    probe_job: str = ""
    """The job whose attempt holds the probe lease; empty: nobody."""
    probe_n: int = 0
    """Round of that job."""
    probe_until: float = 0.0
    """When the lease ends by itself, in seconds since the epoch."""


def workflow_key(tenant: str, workflow: str, step: str = "") -> str:
    """Under which name a workflow's averages stand: tenants do not share them; `-` for none."""
    if not workflow:
        return "-"
    return "/".join(token(part) for part in (tenant, workflow, step) if part)


def task_key(task: str) -> str:
    """Under which name the averages of a kind of work stand."""
    return f"task:{task}"


class Stats(Message, channel=fact("stats", keys=("backend", "model", "scope"))):
    """Rolling averages of one backend and model within a scope. Times are averaged as logarithms, with a discount."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    scope: str
    """`-` for all jobs of the model, `<tenant>/<workflow>`, `<tenant>/<workflow>/<step>`, or `task:<task>`."""
    epoch: int = 0
    """Counts resets; averages of an older one no longer count."""
    attempts: int
    """Attempts that count: all but those nobody started, aborted, or asked wrongly."""
    successes: int
    """Attempts with outcome `ok`."""
    weight: float = 0.0
    """Discounted number of the successes behind the means."""
    latency_seconds: float | None = None
    """Discounted geometric mean over successful attempts."""
    latency_spread: float | None = None
    """Discounted standard deviation of the logarithm of their times."""
    first_token_seconds: float | None = None
    """Discounted geometric mean over successful attempts."""
    tokens_per_second: float | None = None
    """Discounted mean of generated tokens per second of the whole call."""
    output_tokens: float | None = None
    """Discounted mean of generated tokens."""
    input_ratio: float | None = None
    """Discounted mean of counted over estimated input tokens: corrects the estimate for this model."""
    cost_microdollars: float | None = None
    """Discounted mean per successful attempt."""
    swap_seconds: float | None = None
    """Discounted mean of what the first call after a change of model took longer."""
    failure_rate: float = 0.0
    """Discounted share of attempts that failed, 0 to 1."""
    rating: float | None = None
    """Discounted mean of ratings, 1 to 5."""
    ratings: int = 0
    """How many ratings."""
    at: float
    """When it was measured last, in seconds since the epoch on the server's clock."""


class Epoch(Message, channel=fact("epoch", keys=("of",))):
    """The averages were reset: what was measured before no longer counts, and prior shares are equal."""

    of: str = "stats"
    """Always `stats`: there is one per bus."""
    epoch: int
    """Counts resets, from 1."""
    by: str
    """Who asked for it."""
    at: float
    """When, in seconds since the epoch on the server's clock."""


class StatsReset(Message, channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.reset", keys=("epoch",))):
    """The averages were reset, and by whom: the public notice of an `Epoch`."""

    epoch: int
    """Counts resets, from 1."""
    by: str
    """Who asked for it."""
    forgotten: int
    """How many averages were thrown away."""
    at: float
    """When, in seconds since the epoch on the server's clock."""


class Preference(Message, channel=fact("preference", keys=("tenant", "scope"))):
    """What a tenant, or one of its users, products, workflows or steps prefers. A job's own word comes first."""

    tenant: str
    """Whose it is."""
    scope: str
    """`tenant`, `user:<user>`, `product:<product>`, `workflow:<workflow>` or `step:<workflow>/<step>`; the later in
    this list, the nearer to the job, and the nearest wins."""
    quality: Quality | None = None
    """Quality level."""
    strategy: str | None = None
    """Strategy by name."""
    preferred_backend: str | None = None
    """Used unless it is not permitted."""
    preferred_model: str | None = None
    """Used unless it is not permitted."""
    allow_cloud: bool | None = None
    """False keeps jobs on local backends."""
    prioritize_speed: bool | None = None
    """Whether speed weighs more than cost."""
    max_cost_microdollars: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Limit over all attempts of a job."""
    value_per_hour_microdollars: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """What an hour of waiting costs."""
    at: float = 0.0
    """When it was said, in seconds since the epoch on the server's clock."""


Scope = Literal["global", "tenant", "workflow", "step", "provider", "backend", "model", "user", "job"]
"""Whom a budget holds for. Users, workflows, steps and jobs belong to a tenant; the others span all tenants."""
Scopes = Scope | tuple[Scope, ...]
"""One scope, or several together: `["step", "model"]` holds for each model within each step."""
NARROW_FIRST: Final[tuple[Scope, ...]] = (
    "job", "step", "workflow", "user", "tenant", "model", "backend", "provider", "global",
)  # fmt: skip
"""The order in which counters are taken: who is refused by a narrow one never touches the wide ones all others share."""


def scopes_of(scope: Scopes) -> tuple[Scope, ...]:
    """Each scope of a budget, the narrowest first, whichever way they were written."""
    return (scope,) if isinstance(scope, str) else tuple(sorted(scope, key=NARROW_FIRST.index))


def scope_key(scope: Scopes) -> str:
    """The scopes as one word of a counter's subject: `step+model`."""
    return "+".join(scopes_of(scope))


def joined(holders: Sequence[str]) -> str:
    """The holders of several scopes as one, by `&`; `parted` takes it apart again."""
    return "&".join(one.replace("%", "%25").replace("&", "%26") for one in holders)


def parted(key: str, holder: str) -> Iterator[tuple[str, str]]:
    """Each scope of a counter's `scope_key` with its holder."""
    if "+" not in key:
        yield key, holder
        return
    for scope, one in zip(key.split("+"), holder.split("&"), strict=True):
        yield scope, one.replace("%26", "&").replace("%25", "%")


def only_of(scope: Scope, only: str | dict[str, str]) -> str:
    """Whom of one scope a budget holds for alone; empty: each."""
    return only if isinstance(only, str) else only.get(scope, "")


def whom(scope: Scopes, only: str | dict[str, str]) -> str:
    """Whom a budget holds for, in words: `all`, `each step and model`, `step site/hero and each model`."""
    parts = [f"{one} {only_of(one, only)}" if only_of(one, only) else f"each {one}" for one in scopes_of(scope)]
    return "all" if scopes_of(scope) == ("global",) else " and ".join(parts)


Unit = Literal["microdollars", "tokens", "requests", "gpu_milliseconds"]
"""What a budget counts; GPU time is counted on hardware of ours alone."""
Window = Literal["minute", "hour", "day", "week", "month", "total"]
"""How long a budget's limit holds, by the calendar of its time zone; weeks begin on Monday."""


class Limit(Message, channel=fact("limit", keys=("name",))):
    """A budget that was set, raised or removed while running; it takes the place of the configured one of its name."""

    name: str
    """The budget's name."""
    scope: Scopes = "global"
    """Whom it holds for: one scope, or a list of several together."""
    only: str | dict[str, str] = ""
    """Holds for this one alone (of a step: `<workflow>/<step>`); empty: for each of them. Of several scopes together, one for
    each that is given: `{"step": "site/hero"}`."""
    unit: Unit = "microdollars"
    """What it counts."""
    window: Window = "day"
    """How long the limit holds."""
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The most per window; 0 admits only what costs 0 of the unit."""
    soft_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8
    """Share of the limit from which on it warns."""
    time_zone: str = ""
    """IANA name of the zone whose calendar the windows follow; empty: as configured for all."""
    on_all_over_budget: WhenOver | None = None
    """What happens to a job when nobody can run it because of this budget; absent: as configured for all."""
    removed: bool = False
    """The budget no longer holds."""
    by: str = ""
    """Who set it; empty: it comes from the settings."""
    at: float = 0.0
    """When, in seconds since the epoch on the server's clock; 0: it comes from the settings."""


class BudgetState(Message, channel=fact("budget", keys=("budget", "holder"), compared=True)):
    """How far one budget is used by one holder in its present window: a fold of the ledger, told at most once a second."""

    budget: str
    """The budget's name."""
    holder: str
    """Whose it is: a tenant, `<tenant>/<user>`, a backend, …; `all` for a global one."""
    counter: str
    """The counter's subject in the ledger, which names the window."""
    unit: Unit
    """What it counts."""
    window: Window
    """How long the limit holds."""
    spent: int
    """Settled so far in the window."""
    reserved: int
    """Held by attempts that have not ended, each with its worst case; what is being refused counts until it is returned."""
    limit: int
    """The limit in force when it was told."""
    soft: bool = False
    """Spent and reserved together have reached the soft share."""
    began_at: float = 0.0
    """When the window began, in seconds since the epoch; 0: it has no beginning."""
    ends_at: float = 0.0
    """When the window ends, and all of this with it; 0: never."""
    through_seq: int = 0
    """Entries of the ledger up to this sequence are folded in."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class BudgetsOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.guardrail.budgets")):
    """Question: which budgets are in force, and how far are they used?"""

    name: str = ""
    """Only this one; empty: all."""


class BudgetsAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.guardrail.budgets")):
    """Answer to `BudgetsOf`."""

    limits: tuple[Limit, ...] = ()
    """Every budget in force, by name."""
    states: tuple[BudgetState, ...] = ()
    """What is known of their holders, the fullest first, at most 500; whose window has ended is left out."""


class ModelPrice(Message, channel=fact("price", keys=("seller", "model"))):
    """A price that somebody set while everything runs. Reservations that are held keep theirs; new ones use this one.

    One for a backend comes before one for its provider; a price written in the settings comes before both.
    """

    seller: str
    """A backend's name, or a provider's."""
    model: str
    """The model's name, as its backend calls it."""
    price: Price = Price()
    """What it costs from now on."""
    withdrawn: bool = False
    """It no longer holds: what was known before does again."""
    by: str = ""
    """Who set it."""
    at: float
    """When, in seconds since the epoch on the server's clock."""

    def __post_init__(self) -> None:
        """What is set says an amount, or who says that it is free."""
        if not self.withdrawn:
            msgspec.structs.force_setattr(self, "price", self.price.or_unknown())


class Deployment(Message, channel=fact("deployment", keys=("deployment",), compared=True)):
    """How all processes on this bus are arranged; checked at every start."""

    deployment: str = "turnout"
    """Always `turnout`: there is one per bus."""
    rooms: Literal["together", "apart"]
    """Whether analyzer, router and guardrail share a process and hand events on in memory, or live apart."""


class JobRow(Value):
    """One job in a list."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    ending: str
    """Empty while it runs."""
    task: str = ""
    """Kind of work; empty when it was rejected."""
    backend: str = ""
    """Where it ended; empty while it runs, or when it ran nowhere."""
    model: str = ""
    """What it ended with; empty as for `backend`."""
    attempts: int = 0
    """How many attempts it took."""
    cost_microdollars: int | None = None
    """Billed over all attempts that ended so far; null when unknown."""
    latency_seconds: float | None = None
    """From submission to end; null while it runs."""
    submitted_at: float | None = None
    """When the submission was stored, in seconds since the epoch; null when it never was accepted."""
    problem: str = ""
    """Why it did not succeed, in words."""
    head: str = ""
    """How its text begins."""
    batch: str = ""
    """Its label; empty: none."""
    state: str = ""
    """Where it is: `choosing`, `queued`, `running`, `waiting`, `held`, or how it ended."""
    since: float | None = None
    """Since when it is there, in seconds since the epoch; null when unknown."""
    n: int = 0
    """Round it is in; 0 when unknown, or once it has ended."""
    waits_for: str = ""
    """What it waits for, and what lets it go on, in words; empty unless it is waiting or held."""
    share: float | None = None
    """Part of the work that is done, 0 to 1; null when its backend does not tell."""
    step: str = ""
    """What its backend does, in words; empty when it does not tell."""


class JobsOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.telemetry.jobs")):
    """Question: the latest jobs."""

    tenant: str = ""
    """Empty: of every tenant."""
    ending: str = ""
    """Only jobs that ended so; empty: all."""
    batch: str = ""
    """Only jobs with this label; empty: all."""
    limit: int = 50
    """At most so many, 1 to 1,000."""
    states: tuple[str, ...] = ()
    """Only jobs in one of these states, endings among them; empty: all."""
    backend: str = ""
    """Only jobs that are, or ended, at this backend; empty: all."""
    after: str = ""
    """Go on behind what an earlier answer told, by its `more`; empty: from the newest on."""


class JobsAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.telemetry.jobs")):
    """Answer to `JobsOf`, newest first."""

    jobs: tuple[JobRow, ...] = ()
    """One row per job."""
    more: str = ""
    """Where to go on (`JobsOf.after`): there may be more that match. Empty: that is all."""


class Total(Value):
    """What one model did on one backend, over all attempts that the history keeps."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    attempts: int
    """How many attempts were granted there and ended."""
    succeeded: int
    """How many of them succeeded: as many jobs."""
    billed_microdollars: int
    """What they cost together; those at a price that nobody knows add nothing."""
    unpriced: int = 0
    """How many ran at a price that nobody knows."""
    input_tokens: int = 0
    """Tokens read, as far as they are known."""
    output_tokens: int = 0
    """Tokens written, as far as they are known."""


class TotalsOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.telemetry.totals")):
    """Question: what did each backend do, and what did it cost?"""

    backend: str = ""
    """Only this one; empty: all."""


class TotalsAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.telemetry.totals")):
    """Answer to `TotalsOf`, by backend and model."""

    totals: tuple[Total, ...] = ()
    """One row per backend and model."""
    since: float | None = None
    """When the earliest of these attempts ended, in seconds since the epoch; null: there is none."""


class AttemptsOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.telemetry.attempts")):
    """Question: the finished attempts of one job."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""


class AttemptsAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.telemetry.attempts")):
    """Answer to `AttemptsOf`, in order."""

    attempts: tuple[Attempted, ...] = ()
    """One event per finished attempt."""


class GpuProcess(Value):
    """A process that holds memory of a GPU."""

    pid: int
    """Its process id; inside a container often that of the host."""
    memory_mb: int | None = None
    """What it holds, in MiB; absent: the driver does not tell."""


class Gpu(Message, channel=fact("gpu", keys=("host", "index"))):
    """How a GPU is, as NVML reads it on its host. What can't be read is absent, never zero.

    Told when something of substance changes, and every 30 s while the GPU is there; an older one says nothing about now.
    """

    host: str
    """The host it sits in, by its network name."""
    index: int
    """Which of the host's GPUs, as NVML and `nvidia-smi` count them (by PCI address); -1: no GPU but the host, whose
    `problem` says why none can be read."""
    name: str = ""
    """Product name."""
    uuid: str = ""
    """`GPU-…`: stays the same when others are added or removed."""
    memory_total_mb: int | None = None
    """Its memory in MiB."""
    memory_free_mb: int | None = None
    """Free memory in MiB."""
    memory_used_mb: int | None = None
    """Used memory in MiB; what the driver keeps for itself counts as used."""
    load: float | None = None
    """Share of the last sampling period in which something ran on it, 0 to 1."""
    temperature_c: float | None = None
    """Temperature of the chip in degrees Celsius."""
    processes: tuple[GpuProcess, ...] | None = None
    """Who holds memory of it, the largest first, at most 32; empty: nobody that the driver shows."""
    driver: str = ""
    """Version of the driver."""
    problem: str = ""
    """Why it can't be read, in words; empty: fine."""
    at: float
    """When it was read, in seconds since the epoch on the server's clock."""
