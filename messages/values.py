"""Parts that several messages share. Times are seconds since the epoch on the server's clock; money is micro-dollars."""

from __future__ import annotations

from typing import Literal

import msgspec

from messages.message import Value

Task = Literal[
    "chat", "code", "analytical", "reasoning", "creative", "high_throughput", "low_latency", "large_context"
]  # fmt: skip
Quality = Literal["draft", "standard", "final"]
Complexity = Literal["simple", "medium", "complex"]
Outcome = Literal[
    "ok", "timeout", "connection_error", "rate_limited", "server_error", "overloaded", "account", "bad_request",
    "unknown_model", "invalid_structure", "empty", "aborted", "executor_lost", "not_started",
]  # fmt: skip
"""How an attempt ended. `aborted`: somebody else's `done` came first. `executor_lost`: its process died, billed at the
worst case until known better. `not_started`: nobody called the backend, billed nothing."""


class Problem(Value):
    """Why something was refused or failed, in words a person can act on."""

    reason: str
    """Short name: `invalid`, `no_backend`, `over_budget`, `timeout`, or an attempt's outcome."""
    message: str
    """One sentence that says what is wrong and what would be right."""
    field: str = ""
    """The offending field as a path (`deadline_seconds`), when one field is to blame."""
    value: str = ""
    """The offending value as text, cut at 200 characters."""
    status: int | None = None
    """HTTP status of the backend's answer, when there was one."""
    body: str = ""
    """The backend's own error body, cut at 2,000 characters."""
    retry_after_seconds: float | None = None
    """How long the backend asked to be left alone."""


class Usage(Value):
    """Tokens of one attempt. Unknown is null, never 0."""

    input_tokens: int | None = None
    """Tokens read, cached ones included."""
    output_tokens: int | None = None
    """Tokens written, reasoning included."""
    cached_tokens: int | None = None
    """Part of the input tokens that came from the backend's cache."""
    reasoning_tokens: int | None = None
    """Part of the output tokens that was thought and not shown."""
    estimated: bool = False
    """The backend sent no usage; these are our own counts."""


class ObjectRef(Value):
    """Where a result lies that is too large for a message: its text, or all of it as JSON when it has tool calls."""

    key: str
    """Key in the object store `RESULTS`; it begins with the tenant."""
    size_bytes: int
    """How large it is."""
    sha256: str
    """Its digest, in hexadecimal."""
    media_type: str
    """What it is, as in HTTP's `Content-Type`."""


class Result(Value):
    """What a backend answered: the text itself, or where it lies."""

    text: str | None = None
    """The text itself; null when it lies elsewhere."""
    ref: ObjectRef | None = None
    """Where a large text lies; null when `text` holds it."""
    finish_reason: str = ""
    """`stop`, `length`, `tool_calls`, `content_filter`, or empty when the backend did not say."""
    tool_calls: tuple[msgspec.Raw, ...] = ()
    """Tool calls in OpenAI form, untouched."""


class Needs(Value):
    """What a job needs, as the analyzer understood it. The router sees this, never the prompt."""

    task: Task
    """Kind of work."""
    quality: Quality
    """`draft`, `standard` or `final`."""
    complexity: Complexity
    """`simple`, `medium` or `complex`."""
    complexity_score: float
    """0 to 100; the classes follow requirement A2, the parts are in `why`."""
    input_tokens: int
    """Estimated tokens of the prompt."""
    max_output_tokens: int
    """Cap sent to the backend; bounds what an attempt can cost."""
    capabilities: tuple[str, ...] = ()
    """Required capabilities, sorted: `vision`, `tools`, `json`, `code`."""
    model: str = ""
    """Required model; empty: any."""
    role: str = ""
    """Role in a larger work; empty: none."""
    product: str = ""
    """Kind of product it is for (`landing`, …); empty: none."""
    user: str = ""
    """The tenant's user it is for; empty: nobody in particular."""
    workflow: str = ""
    """The workflow the job belongs to; empty: none."""
    step: str = ""
    """The workflow's step; empty: none."""
    batch: str = ""
    """Label that groups jobs of one submission."""
    strategy: str = ""
    """Strategy asked for by name; empty: the policy's."""
    preferred_backend: str = ""
    """Used unless it is not permitted; empty: none."""
    allow_cloud: bool = True
    """False keeps the job on local backends."""
    prioritize_speed: bool = False
    """Whether speed weighs more than cost."""
    max_cost_microdollars: int | None = None
    """Limit over all attempts of the job; absent: none."""
    json_output: bool = False
    """The answer must parse as JSON, or the attempt failed with `invalid_structure`."""
    why: tuple[str, ...] = ()
    """How the analyzer came to this, a line each."""


class Slip(Value):
    """The routing slip: all of a job that travels with it, so that no room keeps state about jobs."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    submitted_at: float
    """When the submission was stored, in seconds since the epoch."""
    deadline_at: float
    """One deadline over all attempts."""
    input_seq: int
    """Sequence of the submission in the stream `IN`, where the body lies."""
    input: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    """The submission's body when it is small; `null` when it must be read from `IN`."""
    needs: Needs
    """What the job needs."""


class Exclusion(Value):
    """A backend this job must not be sent to for a while."""

    backend: str
    """Which one."""
    until: float
    """No longer excluded at this time; 0 means: for the whole job."""
    reason: str
    """Why, in words."""


class Attempt(Value):
    """One finished attempt in a job's history."""

    n: int
    """Round of the job, from 1."""
    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    outcome: Outcome
    """How it ended."""
    billed_microdollars: int
    """What it costs us."""
    latency_seconds: float | None = None
    """From the call to its end; null when nobody called."""
    problem: Problem | None = None
    """The error as the backend gave it; absent when the attempt succeeded."""


class Reservation(Value):
    """An amount held on one budget counter for an attempt."""

    budget: str
    """Name of the limit that asked for it."""
    subject: str
    """The counter: `ledger.<scope>.<unit>.<window>`."""
    amount: int
    """In the counter's unit: micro-dollars, tokens, requests or GPU milliseconds."""
    unit: str
    """What the counter counts: `microdollars`, `tokens` or `requests`."""


class Failover(Value):
    """How often and how patiently a job is tried again. Comes with the policy, travels with the work."""

    max_attempts: int = 3
    """Attempts that may be spent on one job."""
    waits_seconds: tuple[float, ...] = (1.0, 3.0)
    """Wait before the 2nd, 3rd, … attempt; the last one repeats."""
    max_extra_rounds: int = 8
    """Rounds beyond the attempts (refusals, lost claims) before the job fails."""
    stall_seconds: float = 20.0
    """A backend that is silent this long has failed: the time to the first token and between tokens."""

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt` (2 = the first repetition)."""
        if not self.waits_seconds or attempt <= 1:
            return 0.0
        return self.waits_seconds[min(attempt - 2, len(self.waits_seconds) - 1)]


class Price(Value):
    """What a model costs, in micro-dollars per million tokens; 0 is free."""

    input_per_mtok: int = 0
    """For a million tokens read."""
    output_per_mtok: int = 0
    """For a million tokens written."""
    unknown: bool = False
    """It may cost money, and nobody said how much: not for jobs or budgets that limit dollars."""

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Micro-dollars for so many tokens, rounded up."""
        total = input_tokens * self.input_per_mtok + output_tokens * self.output_per_mtok
        return -(-total // 1_000_000)


class Candidate(Value):
    """One backend and model as the router saw it for one decision, with everything that was used."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    permitted: bool
    """Whether it may run the job."""
    reason: str
    """Why it got its place, or why it was excluded."""
    score: float = 0.0
    """The strategy's score; higher is better. 0 when excluded."""
    features: dict[str, float] = {}
    """The figures the score was made from: priority, price, expected seconds, waiting jobs, own recent decisions, …"""
    worst_case_microdollars: int = 0
    """The most this attempt can cost at the prices of the decision; this is what gets reserved."""
    worst_case_tokens: int = 0
    """Input estimate plus output cap."""
    max_output_tokens: int = 0
    """Output cap for this backend, at most its own limit."""
    price: Price = Price()
    """The prices of the decision; the attempt is billed at them, whatever changes meanwhile."""
    local: bool = False
    """Runs on hardware of ours."""
    changes: tuple[str, ...] = ()
    """What differs from what was asked, or from the attempt before, in words."""
