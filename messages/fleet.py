"""The backends, as executors announce them and as everybody sees them; breakers, figures, policies."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from messages.attempts import Attempted
from messages.message import Channel, Kind, Message, Value, fact
from messages.values import Failover, Price


class Model(Value):
    """A model a backend serves."""

    name: str
    """As its backend calls it."""
    capabilities: tuple[str, ...] = ("text",)
    """What it can do: `text`, `vision`, `tools`, `json`, `code`."""
    context_tokens: int | None = None
    """Prompt and answer together; absent: unknown."""
    max_output_tokens: int | None = None
    """The most it generates per answer; absent: no own limit."""
    price: Price = Price()
    """What it costs; free when not stated."""
    quality_tier: int = 1
    """1 (small) to 5 (best)."""
    tokens_per_second: float | None = None
    """Stated speed; replaced by measurements."""
    first_token_seconds: float | None = None
    """Stated time to the first token; replaced by measurements."""


class Offer(Value):
    """A backend as its executor announces it."""

    backend: str
    """The backend's name."""
    protocol: Literal["openai", "ollama", "inprocess"]
    """How it is spoken to."""
    local: bool
    """Runs on hardware of ours: costs nothing per call, and its data stay here."""
    provider: str = ""
    """Who sells it (`openai`, …); empty: nobody."""
    priority: int = 1
    """1 is the most preferred."""
    slots: int = 1
    """Attempts this executor runs at once on it."""
    models: tuple[Model, ...] = ()
    """What it serves."""
    healthy: bool = True
    """Whether its last health check went well."""
    health_reason: str = ""
    """Why it is not healthy, in words."""


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
    healthy: bool
    """Whether it is so for at least one executor."""
    health_reason: str = ""
    """Why it is not healthy, in words."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Load(Message, channel=fact("load", keys=("backend",))):
    """How much work lies before a backend."""

    backend: str
    """The backend's name."""
    waiting: int
    """Attempts in its queue that nobody runs."""
    running: int
    """Attempts that executors have in hand."""
    at: float
    """Decisions after this time are not counted in it."""


class Breaker(Message, channel=fact("breaker", keys=("backend", "model"), compared=True)):
    """The circuit breaker of one backend and model: a fold of `attempted` in stream order.

    Open means `now < open_until`; after that it is half-open until a probe succeeds. No timer can be lost.
    """

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    opened_at: float = 0.0
    """When it opened last; an attempt that began before says nothing about the backend since."""
    through_seq: int = 0
    """Events up to this stream sequence are folded in; older ones are ignored."""
    failures_in_row: int = 0
    """Counted failures since the last success."""
    times_opened: int = 0
    """Openings since the last success; doubles the time."""
    open_until: float = 0.0
    """Nobody gets through before this time, in seconds since the epoch."""
    reason: str = ""
    """Why it opened last, in words."""
    probe_tenant: str = ""
    """Tenant of the job that holds the probe lease."""
    probe_job: str = ""
    """The job whose attempt holds the probe lease; empty: nobody."""
    probe_n: int = 0
    """Round of that job."""
    probe_until: float = 0.0
    """When the lease ends by itself, in seconds since the epoch."""


def workflow_key(tenant: str, workflow: str) -> str:
    """Under which name a workflow's averages stand: tenants do not share them; `-` for none."""
    return f"{tenant}/{workflow}" if workflow else "-"


class Stats(Message, channel=fact("stats", keys=("backend", "model", "workflow"))):
    """Rolling averages of one backend, model and workflow."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    workflow: str
    """`<tenant>/<workflow>`, or `-` for all jobs of the model."""
    attempts: int
    """Attempts that count: all but those nobody started, aborted, or asked wrongly."""
    successes: int
    """Attempts with outcome `ok`."""
    latency_seconds: float | None = None
    """Discounted mean over successful attempts."""
    first_token_seconds: float | None = None
    """Discounted mean over successful attempts."""
    tokens_per_second: float | None = None
    """Discounted mean of generated tokens per second of the whole call."""
    cost_microdollars: float | None = None
    """Discounted mean per successful attempt."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


Positive = Annotated[float, msgspec.Meta(gt=0)]


class Weights(Value):
    """Points per part of the weighted score, and the anchors its fractions are taken against (requirement C1)."""

    priority: float = 40.0
    """Points for the most preferred backend."""
    cost: float = 30.0
    """Points for a free one."""
    speed: float = 20.0
    """Points for one at least as quick as `fast_seconds`."""
    queue: float = 10.0
    """Points for one with nobody waiting."""
    fast_seconds: Positive = 5.0
    """Expected time that earns all speed points."""
    slow_seconds: Positive = 20.0
    """Expected time that earns none."""
    dear_microdollars: Positive = 80_000.0
    """Price per job that earns no cost points."""
    long_queue: Positive = 10.0
    """Waiting jobs that earn no queue points."""


class Policy(Message, channel=fact("policy", keys=("policy",))):
    """How the router decides; replaced through the bus without a restart."""

    policy: str = "default"
    """Its name."""
    version: int = 1
    """Counts its changes, from 1."""
    strategy: str = "weighted_score"
    """Strategy for jobs that ask for none, by name."""
    failover: Failover = Failover()
    """How often and how patiently jobs are tried."""
    weights: Weights = Weights()
    """Numbers of the weighted score."""


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
    """Billed over all attempts; null when unknown."""
    latency_seconds: float | None = None
    """From submission to end; null while it runs."""
    submitted_at: float | None = None
    """When the submission was stored, in seconds since the epoch; null when it never was accepted."""
    problem: str = ""
    """Why it did not succeed, in words."""


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


class JobsAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.telemetry.jobs")):
    """Answer to `JobsOf`, newest first."""

    jobs: tuple[JobRow, ...] = ()
    """One row per job."""


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
