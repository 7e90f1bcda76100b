"""What the outside may say, and the life of a job from submission to its one end."""

from __future__ import annotations

from typing import Any, Literal

from messages.deciding import Candidate, Plan
from messages.message import Channel, Kind, Message, Value
from messages.reading import Counted, Room
from messages.values import (
    Asset,
    Attempt,
    Awaited,
    Exclusion,
    Failover,
    Input,
    Met,
    Needs,
    ObjectRef,
    Problem,
    Quality,
    Result,
    Slip,
    Task,
    Usage,
)

Ending = Literal["succeeded", "failed", "cancelled", "expired", "rejected"]


class JobSubmit(
    Message,
    channel=Channel(kind=Kind.WORK, stream="IN", prefix="job.submit", keys=("tenant",)),
    forbid_unknown_fields=True,
):
    """A client wants something generated. Publish it on `job.submit.<tenant>`; only `prompt` or `messages` is required.

    This is the outside door, so an unknown field is refused: a mistyped limit must not be ignored.
    """

    tenant: str = ""
    """Whose job it is; may be left out, and must equal the subject's tenant otherwise."""
    id: str = ""
    """The client's own id, at most 128 characters; the same id again joins the existing job. Empty: made from the
    stream's sequence."""
    prompt: str = ""
    """The user's text; short for one message of role `user`."""
    system: str = ""
    """Text put before the messages with role `system`."""
    messages: tuple[dict[str, Any], ...] = ()
    """A conversation in OpenAI form: `role` and `content` (text or parts)."""
    task: Task | None = None
    """Kind of work; absent: inferred from the text."""
    asset: Asset | None = None
    """What is to be made; absent: inferred, `text` when nothing tells otherwise."""
    quality: Quality | None = None
    """`draft`, `standard` or `final`; absent: inferred."""
    model: str = ""
    """Model that must be used, by name or stable id; empty: any that fits."""
    preferred_model: str = ""
    """Model that is used unless it is unhealthy or not permitted."""
    capabilities: tuple[str, ...] = ()
    """Capabilities a backend must have, beyond those inferred from the request."""
    preferred_capabilities: tuple[str, ...] = ()
    """Capabilities it should have; where they are missing the request is degraded (an image left out), and says so."""
    role: str = ""
    """Role in a larger work: `classifier`, `writer`, `expander`, `validator`, `style_refiner`."""
    mode: str = ""
    """Mode of the role: `full_mimic` for `style_refiner`."""
    style: str = ""
    """The wanted style in words: takes the place of a style image where a model can't see one."""
    product: str = ""
    """Kind of product it is for: `landing`, `card`, `ecommerce`, …"""
    user: str = ""
    """Your user it is for; budgets may hold for each."""
    workflow: str = ""
    """Workflow it belongs to; averages are kept per workflow, budgets may hold for each."""
    step: str = ""
    """The workflow's step."""
    batch: str = ""
    """Free label; jobs submitted together share it."""
    max_output_tokens: int | None = None
    """Cap on generated tokens, 1 or more; absent: chosen from the quality."""
    temperature: float | None = None
    """0 to 2."""
    seed: int | None = None
    """Passed on to backends that take one; absent: none."""
    stop: tuple[str, ...] = ()
    """Texts at which the answer ends."""
    response_format: dict[str, Any] | None = None
    """OpenAI form: `{"type": "json_object"}` or `json_schema`."""
    tools: tuple[dict[str, Any], ...] = ()
    """Tools in OpenAI form."""
    count: int | None = None
    """How many images, 1 or more."""
    width: int | None = None
    """Pixels of an image or video, 1 or more."""
    height: int | None = None
    """Pixels of an image or video, 1 or more."""
    steps: int | None = None
    """Sampling steps, 1 or more; absent: chosen from the quality."""
    frames: int | None = None
    """Frames of a video, 1 or more; absent: chosen from the quality, or from `seconds` and `fps`."""
    fps: float | None = None
    """Frames per second, more than 0."""
    seconds: float | None = None
    """Length of a video or sound, more than 0."""
    loras: tuple[str, ...] = ()
    """LoRAs to use, by name."""
    negative_prompt: str = ""
    """What must not be in the picture."""
    recipe: str = ""
    """Workflow to run, by name (`text-to-image`, `upscale`, …); empty: the usual one for what is made."""
    inputs: tuple[Input, ...] = ()
    """Files it brings along: images to start from, masks, sounds. Large ones are put into the object store first."""
    texts: tuple[str, ...] = ()
    """What is to be embedded; the prompt is one more."""
    dimensions: int | None = None
    """Length of the embeddings, 1 or more; absent: the model's own."""
    graph: dict[str, Any] | None = None
    """A ComfyUI graph in API form; its checkpoints, LoRAs, node classes and frames become needs."""
    deadline_seconds: float | None = None
    """Seconds from submission until the job must have ended, greater than 0; absent: the configured default."""
    max_cost_microdollars: int | None = None
    """Limit over all attempts, 0 or more (1,000,000 = one dollar); absent: none."""
    strategy: str = ""
    """Strategy by name; empty: the policy's."""
    preferred_backend: str = ""
    """Used unless it is unhealthy or not permitted: a backend, a kind (`local`, `cloud`), or a provider (`gemini`)."""
    allow_cloud: bool | None = None
    """False keeps the job on local backends; absent: as preferred, else true."""
    prioritize_speed: bool | None = None
    """True lets speed weigh more than cost; absent: as preferred, else false."""
    value_per_hour_microdollars: int | None = None
    """What an hour of waiting for it costs you, 0 or more, for `expected_cost`; absent: as preferred, else the policy's."""

    @property
    def conversation(self) -> tuple[dict[str, Any], ...]:
        """The job's messages in OpenAI form, whichever way it was written: system text first, the prompt last."""
        first = ({"role": "system", "content": self.system},) if self.system else ()
        last = ({"role": "user", "content": self.prompt},) if self.prompt else ()
        return (*first, *self.messages, *last)


class JobCancel(
    Message,
    channel=Channel(kind=Kind.WORK, stream="IN", prefix="job.cancel", keys=("tenant", "job")),
    forbid_unknown_fields=True,
):
    """A client no longer wants a job; it ends as `cancelled` unless it has ended before, which `refused` says then."""

    tenant: str = ""
    """May be left out: the subject says it, and they must be equal."""
    job: str = ""
    """May be left out: the subject says it, and they must be equal."""
    reason: str = ""
    """Why, in words, for the job's end; at most 2,000 characters."""


class JobRate(
    Message,
    channel=Channel(kind=Kind.WORK, stream="IN", prefix="job.rate", keys=("tenant", "job")),
    forbid_unknown_fields=True,
):
    """A person's or validator's opinion of a job's result. It counts once the job has succeeded."""

    tenant: str = ""
    """May be left out: the subject says it, and they must be equal."""
    job: str = ""
    """May be left out: the subject says it, and they must be equal."""
    score: float
    """1 (useless) to 5 (excellent)."""
    rater: str = ""
    """Who rates: a person or a validator, by name; at most 128 characters. Its last word about a job counts."""


class JobResume(
    Message,
    channel=Channel(kind=Kind.WORK, stream="IN", prefix="job.resume", keys=("tenant", "job")),
    forbid_unknown_fields=True,
):
    """A person lets a held job try again: after a limit was raised, or because there may be room now."""

    tenant: str = ""
    """May be left out: the subject says it, and they must be equal."""
    job: str = ""
    """May be left out: the subject says it, and they must be equal."""
    by: str = ""
    """Who resumes it, for the record; at most 128 characters."""


class Analyzed(
    Message,
    channel=Channel(
        kind=Kind.RECORD, stream="EV", prefix="ev.analyzed", keys=("tenant", "job"), first_writer=True, handed_on=True
    ),
):
    """What a job needs, or why it can't be accepted. The first one under an id is the job; a rejection ends it."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    fingerprint: str
    """Hash of the submitted body: the same id with another body is refused."""
    slip: Slip | None = None
    """Absent when rejected."""
    rejected: Problem | None = None
    """Why it can't be accepted; absent when it is."""
    head: str = ""
    """How its text begins, on one line, for lists; at most 80 characters."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Refused(Message, channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.refused", keys=("tenant", "job"))):
    """A word about a job was turned away, and changed nothing: a submission with another body under a used id, or a
    cancel, a rating or a resume that could not be followed.
    """

    tenant: str
    """Whose word it was."""
    job: str
    """The job it was about."""
    word: Literal["submit", "cancel", "rate", "resume"] = "submit"
    """What was turned away."""
    problem: Problem
    """Why, with the field that is to blame."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class DeadLetter(Message, channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.dead", keys=("tenant", "job"))):
    """Something could not be decoded or handled. It is out of the way, and this says why."""

    tenant: str
    """Whose message it was, as its subject tells."""
    job: str
    """The job it was about, or a stand-in made from its sequence."""
    stream: str
    """Stream it lies in."""
    seq: int
    """Its sequence there."""
    subject_heard: str
    """Its subject."""
    problem: Problem
    """Why it could not be handled."""
    head: str
    """The first 200 bytes as text."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Expired(Message, channel=Channel(kind=Kind.WORK, stream="EV", prefix="ev.expired", keys=("tenant", "job"))):
    """The job's deadline has come. Scheduled when it is accepted; without effect once it has ended."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    at: float
    """The deadline, in seconds since the epoch."""


class Retry(
    Message,
    channel=Channel(kind=Kind.WORK, stream="EV", prefix="ev.retry", keys=("tenant", "job", "n"), first_writer=True),
):
    """The job goes into round `n`: a routing slip with everything a router needs, so any instance can take it."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round to decide, 2 or more."""
    slip: Slip
    """The routing slip: all of the job that travels."""
    attempts: tuple[Attempt, ...] = ()
    """The finished attempts so far, in order."""
    excluded: tuple[Exclusion, ...] = ()
    """Backends it must not be sent to for a while."""
    not_before: float = 0.0
    """When the round begins unless it is woken before, in seconds since the epoch; 0: at once."""
    awaiting: tuple[Awaited, ...] = ()
    """What it waits for: a change of any of these begins the round early; empty: for the time alone."""
    cause: Problem
    """What ended the round before."""
    rooms: tuple[Room, ...] = ()
    """What budgets left for the candidates that they refused."""
    counted: tuple[Counted, ...] = ()
    """What was counted for earlier rounds."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Due(Message, channel=Channel(kind=Kind.WORK, stream="EV", prefix="ev.due", keys=("tenant", "job", "n"))):
    """The wait of `retry.<n>` is over: scheduled by the router, or said early by who knows that the job may go on."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round to decide, 2 or more."""
    retry: Retry
    """What is due."""
    woken_by: Awaited | None = None
    """What ended the wait early; absent: its time has come."""


class Decided(
    Message,
    channel=Channel(
        kind=Kind.RECORD,
        stream="EV",
        prefix="ev.decided",
        keys=("tenant", "job", "n"),
        first_writer=True,
        handed_on=True,
    ),
):
    """The ranking for round `n`, with the scored features of every candidate: enough to derive it again."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    slip: Slip
    """The routing slip: all of the job that travels."""
    attempts: tuple[Attempt, ...] = ()
    """The finished attempts so far, in order."""
    excluded: tuple[Exclusion, ...] = ()
    """Backends it must not be sent to for a while."""
    cause: Problem | None = None
    """What ended the round before; absent in the first."""
    rooms: tuple[Room, ...] = ()
    """What budgets had left for the candidates that they refused: answers nobody gave a length are made to fit."""
    counted: tuple[Counted, ...] = ()
    """Input tokens that were counted, because the bound by bytes did not fit."""
    ranking: tuple[Candidate, ...] = ()
    """Permitted candidates, best first."""
    others: tuple[Candidate, ...] = ()
    """Candidates that were excluded, each with its reason."""
    omitted: int = 0
    """Candidates that are not in this event, because there were more than 16; all of them lie at `everything`."""
    everything: ObjectRef | None = None
    """Where all candidates lie when some were omitted."""
    strategy: str
    """Strategy the candidates were scored with, by name."""
    parts: tuple[str, ...] = ()
    """Names of the parts of the scores."""
    plan: Plan = Plan()
    """What the policies say about this job."""
    policy: str
    """The policy and rule that decided it: `name@version rule`."""
    number: float | None = None
    """The exploration number, 0 to 1, a hash of the job's id; absent when none was used."""
    explored: bool = False
    """The first of the ranking leads by the exploration number, not by its score."""
    failover: Failover
    """How often and how patiently the job is tried, by the policy in force."""
    reason: str
    """One sentence: why the first of the ranking leads."""
    wait_seconds: float = 0.0
    """Nothing may run now but something may later: look again after this time at the latest. 0: no need."""
    awaiting: tuple[Awaited, ...] = ()
    """What keeps candidates away for a time."""
    gave_up: Problem | None = None
    """Present when there is nothing left to try; `done` (failed) follows."""
    at: float
    """The clock reading the decision used."""


class Rerouted(
    Message, channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.rerouted", keys=("tenant", "job", "n"))
):
    """Said to the user before the next attempt starts: what failed, where the job goes, what changes."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round that goes elsewhere, 2 or more."""
    from_backend: str
    """Where the last attempt failed."""
    to_backend: str
    """Where the next one is to go."""
    cause: Problem
    """How the last attempt failed."""
    changes: tuple[str, ...] = ()
    """What differs from the attempt before, in words."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class Reason(Value):
    """One ground of a decision, in figures and in words."""

    kind: Literal[
        "score", "speed", "price", "queue", "quality", "filter", "adjusted", "attempt", "need", "rule", "explored"
    ]
    """What it is about."""
    about: str = ""
    """`backend/model` it speaks of; empty: the job."""
    value: float | None = None
    """Its figure: points, seconds, micro-dollars, jobs or a tier, by `kind`."""
    rival: str = ""
    """`backend/model` it is compared with."""
    rival_value: float | None = None
    """The rival's figure."""
    window_runs: int = 0
    """Over how many runs the figure was measured; 0: it is stated, not measured."""
    text: str
    """The same as one sentence."""


class Explained(
    Message, channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.explained", keys=("tenant", "job", "n"))
):
    """Why round `n` went where it went, in words a person can use."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    n: int
    """Round of the job, from 1."""
    chosen: str
    """`backend/model` that leads; empty when nothing may run."""
    summary: str
    """One readable paragraph."""
    reasons: tuple[Reason, ...] = ()
    """Every ground, the weightiest first."""
    alternatives: tuple[Reason, ...] = ()
    """The others, each with why it lost: the filter, or the difference of scores."""
    adjusted: tuple[str, ...] = ()
    """What differs from what was asked."""
    suggestions: tuple[str, ...] = ()
    """What one could do about it."""


class Done(
    Message,
    channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.done", keys=("tenant", "job"), first_writer=True),
):
    """The one end of a job."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    ending: Ending
    """How it ended."""
    result: Result | None = None
    """The answer; present exactly when it succeeded."""
    problem: Problem | None = None
    """Why it did not succeed: the first attempt's own error, kept whole, with the rest in `attempts`. Of a job that was cancelled
    or expired the sentence says so, what it waited for, and the first error."""
    attempts: tuple[Attempt, ...] = ()
    """All finished attempts, in order."""
    backend: str = ""
    """Where the last attempt ran; empty when none did."""
    model: str = ""
    """What the last attempt ran; empty when none did."""
    usage: Usage | None = None
    """Tokens of the attempt that succeeded."""
    guardrails: tuple[Met, ...] = ()
    """Guardrails that were met in the last round, and who was passed over for them."""
    cost_microdollars: int | None = None
    """Billed over `attempts`; null when nobody knows what one of them cost. An attempt that still ran when the end came from
    outside (cancelled, expired) is not among them: its own `attempted` follows."""
    submitted_at: float | None = None
    """When the submission was stored, in seconds since the epoch."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""


class NeedsOf(Message, channel=Channel(kind=Kind.ASK, prefix="ask.analyzer.needs")):
    """Question: what would this job need? Answered by the analyzer without running anything."""

    submit: JobSubmit
    """The job, as it would be submitted."""


class NeedsAre(Message, channel=Channel(kind=Kind.ASK, prefix="answer.analyzer.needs")):
    """Answer to `NeedsOf`."""

    needs: Needs | None = None
    """What it would need; absent when it would be rejected."""
    problem: Problem | None = None
    """Why it would be rejected."""
