"""One attempt: the guardrail's verdict, the work item, the claim, the outcome, and what streams meanwhile."""

from __future__ import annotations

from typing import Literal

from messages.deciding import Parameters
from messages.message import Channel, Kind, Message, Value
from messages.policies import AnswerChecks
from messages.reading import Room
from messages.values import (
    Attempt,
    Awaited,
    Exclusion,
    Failover,
    Met,
    Outcome,
    Price,
    Problem,
    Reservation,
    Result,
    Slip,
    Task,
    Usage,
)

WhenOver = Literal["fail", "wait", "ask"]
"""When everybody is over budget: `fail` ends the job, `wait` tries again when a window begins, `ask` holds the job until
somebody resumes it."""
Verdict = Literal["candidate", "refused", "void"]
"""`candidate`: runs there. `refused`: no candidate may run now. `void`: the job had ended."""


class Skipped(Value):
    """A candidate the guardrail passed over."""

    backend: str
    """The candidate's backend."""
    model: str = ""
    """The candidate's model; empty: all of the backend."""
    reason: str
    """Why it may not run there now, in words."""
    until: float = 0.0
    """Excluded until then; 0: for this round only."""
    rooms: tuple[Room, ...] = ()
    """What the budgets in its way leave for it; empty: none of dollars or tokens stood there."""
    budget: str = ""
    """Name of the budget in its way; empty: something else was."""
    awaits: Awaited | None = None
    """What must change first; absent: nothing will, or time alone."""


class Granted(
    Message,
    channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.granted", keys=("tenant", "job", "n"), first_writer=True),
):
    """The verdict on `decided.<n>`: every decision gets exactly one."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    verdict: Verdict
    """What holds for the round."""
    backend: str = ""
    """Where it runs; empty unless a candidate was granted."""
    model: str = ""
    """What runs there; empty unless a candidate was granted."""
    reserved: tuple[Reservation, ...] = ()
    """What is held for it; settled from `attempted.<n>`."""
    skipped: tuple[Skipped, ...] = ()
    """Better candidates that were passed over, each with its reason."""
    probe: bool = False
    """This attempt is the one trial call of a half-open breaker."""
    when_over: WhenOver | None = None
    """What follows because every candidate was over budget; absent: something else stood in the way too, or it runs."""
    room_at: float = 0.0
    """When the first of the budgets in the way begins a new window, in seconds since the epoch; 0: never."""
    over: tuple[str, ...] = ()
    """Names of the budgets that stood in the way."""
    hopeless: bool = False
    """The worst case exceeds the whole limit everywhere: waiting can't help."""
    softens: bool = False
    """A shorter answer, or an exact count, may bring the worst case under a limit: the next round tries that."""
    settling: bool = False
    """Of a budget in the way there is room enough once what others hold is settled."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Work(
    Message, channel=Channel(kind=Kind.WORK, stream="WORK", prefix="work", keys=("backend", "tenant", "job", "n"))
):
    """An attempt that waits for an executor of its backend, or runs there."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    slip: Slip
    """The routing slip: all of the job that travels."""
    attempts: tuple[Attempt, ...] = ()
    """The finished attempts so far, in order."""
    excluded: tuple[Exclusion, ...] = ()
    """Backends it must not be sent to for a while."""
    reserved: tuple[Reservation, ...] = ()
    """What is held for it on budget counters."""
    failover: Failover
    """How often and how patiently the job is tried, as it was decided."""
    probe: bool = False
    """Whether it is the one trial call of a half-open breaker."""
    worst_case_microdollars: int = 0
    """The most the attempt can cost."""
    price: Price = Price()
    """The prices it is billed at: those of the decision."""
    max_output_tokens: int
    """Cap on generated tokens that is sent to the backend."""
    parameters: Parameters = Parameters()
    """How the request is adjusted for this backend."""
    required_fields: tuple[str, ...] = ()
    """Fields that the answer's JSON must have."""
    checks: AnswerChecks = AnswerChecks()
    """What else the answer must be, by the policy."""
    met: tuple[Met, ...] = ()
    """Guardrails that the job met before it came here."""
    longest_seconds: float = 0.0
    """The attempt is ended after so long, because no more GPU time is reserved for it; 0: at the job's deadline."""


class Queued(
    Message, channel=Channel(kind=Kind.SIGNAL, prefix="queued", keys=("tenant", "job", "n"), handed_on=True)
):  # fmt: skip
    """Where the work of a round lies, for whoever counts what lies before a backend. Between rooms of one process it never leaves
    that process.
    """

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job."""
    backend: str = ""
    """In whose queue it is; empty: in none, since nobody may run it."""
    seq: int = 0
    """Its sequence in the stream of all work; 0: there is none."""


class Started(
    Message,
    channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.started", keys=("tenant", "job", "n"), first_writer=True),
):
    """The claim on attempt `n`: whoever wrote it may run, move or give up the attempt."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    backend: str
    """The backend's name."""
    instance: str
    """The process that wrote it, by its name on the bus."""
    boot: str
    """That process's boot; changes with every start of it."""
    run: str
    """The handler run that wrote it; a claim is won only by this run."""
    purpose: Literal["run", "drain"] = "run"
    """`run`: to call the backend. `drain`: only to give it up, because nobody serves the backend."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Correction(Value):
    """What an earlier attempt of the job used after all, known since another brought its call to an end."""

    n: int
    """The round of that attempt."""
    billed_microdollars: int = 0
    """What it costs after all."""
    counted_tokens: int = 0
    """The same in tokens."""
    counted_gpu_milliseconds: int = 0
    """The same in time on hardware of ours."""


class Attempted(
    Message,
    channel=Channel(kind=Kind.WORK, stream="EV", prefix="ev.attempted", keys=("tenant", "job", "n"), first_writer=True),
):
    """How attempt `n` ended: the only source for the successor, the settlement, the breaker and the averages."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    task: Task
    """Kind of work."""
    workflow: str = ""
    """The workflow the job belongs to; empty: none."""
    step: str = ""
    """The workflow's step; empty: none."""
    input_estimate: int = 0
    """Input tokens as the analyzer estimated them."""
    switched: bool = False
    """Another model ran on this backend before, as far as its executor knows."""
    request: str = ""
    """Fingerprint of what was asked, as in `Slip`; empty: unknown."""
    outcome: Outcome
    """How it ended; see `Outcome`."""
    result: Result | None = None
    """The answer; absent when it did not succeed."""
    partial: str = ""
    """What had streamed before the attempt failed, cut at 4,000 characters."""
    problem: Problem | None = None
    """The error as the backend gave it; absent when it succeeded."""
    usage: Usage = Usage()
    """Tokens that were used, as far as they are known or can be estimated."""
    begun: bool = True
    """Bytes of its request were written, so that the backend may have worked; otherwise it used nothing."""
    billed_microdollars: int = 0
    """What it costs; what is not known counts as the most it can be."""
    unpriced: bool = False
    """Nobody knows the price, nor was one assumed: `billed_microdollars` says nothing, and is no `free`."""
    counted_tokens: int | None = None
    """The same in tokens; absent: not known, so all that was reserved."""
    counted_gpu_milliseconds: int | None = None
    """The same in time on hardware of ours; absent: not known, so all that was reserved."""
    reserved: tuple[Reservation, ...] = ()
    """What is held for it on budget counters."""
    probe: bool = False
    """Whether it is the one trial call of a half-open breaker."""
    instance: str = ""
    """The executor that ran it, by its name on the bus; empty when none did."""
    started_at: float | None = None
    """When the backend was called; absent when it was not."""
    first_token_seconds: float | None = None
    """From the call to the first piece of the answer; null when unknown."""
    latency_seconds: float | None = None
    """From the call to its end; null when nobody called."""
    took_up: int = 0
    """The earlier attempt whose call it went on with, which its backend still had; 0: it made a call of its own."""
    corrections: tuple[Correction, ...] = ()
    """What the attempts before it used of that call, instead of what was counted for them."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Chunk(Message, channel=Channel(kind=Kind.SIGNAL, prefix="job.chunk", keys=("tenant", "job", "n"))):
    """A piece of the answer while it is generated. Numbered from 0; a gap is mended from `done`."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    number: int
    """Counts the pieces of an attempt, from 0."""
    text: str
    """The piece itself."""


class Progress(Message, channel=Channel(kind=Kind.SIGNAL, prefix="job.progress", keys=("tenant", "job", "n"))):
    """How far an attempt is."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    number: int
    """Counts the progress events of an attempt, from 0."""
    stage: Literal["called", "queued", "loading", "working", "first_token"]
    """`called`: the backend has the request. `queued`: it waits there. `loading`: the model is loaded, or a worker starts.
    `working`: it is being made. `first_token`: its answer begins."""
    backend: str
    """The backend's name."""
    share: float | None = None
    """Part of the work that is done, 0 to 1; absent: unknown."""
    text: str = ""
    """What it does, for people: `step 12 of 30`."""
    preview: str = ""
    """A small picture of what is being made, JPEG or PNG in base64; empty: none."""


class Held(Message, channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.held", keys=("tenant", "job", "n"))):
    """Everybody who could run the job is over budget, and it waits for a person: `JobResume`, or its deadline."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """The round that was refused; a resumed job goes into the next one."""
    user: str = ""
    """Whose job it is within the tenant; empty: nobody in particular."""
    workflow: str = ""
    """The workflow the job belongs to; empty: none."""
    problem: Problem
    """Why, naming each candidate and its budget."""
    budgets: tuple[str, ...] = ()
    """Names of the budgets in the way."""
    cost_microdollars: int = 0
    """The most it would cost on the candidate that ranks first."""
    tokens: int = 0
    """The most tokens it would take there."""
    until: float
    """The job's deadline: when it ends by itself, in seconds since the epoch."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class LedgerEntry(Message, channel=Channel(kind=Kind.RECORD, stream="LEDGER", prefix="ledger")):
    """One increment of a budget counter. Travels in a header, since the server keeps the total as the body."""

    step: Literal["reserve", "release", "settle", "correct"]
    """`reserve` holds the amount, `release` gives it back, `settle` replaces it by what was used, and `correct` replaces that by
    what turned out to be right."""
    budget: str
    """Name of the limit that asked for it."""
    counter: str
    """The counter's subject: `ledger.<scope>.<unit>.<window>`."""
    amount: int
    """What was reserved, always positive."""
    unit: str
    """What the counter counts: `microdollars`, `tokens`, `requests` or `gpu_milliseconds`."""
    hold: str = ""
    """Which of the attempt's holds on the counter it is, as in `Reservation`."""
    limit: int = 0
    """What the total was compared with when it was reserved; 0 for the other steps."""
    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    backend: str
    """The candidate it is held for."""
    model: str
    """The candidate's model."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""
