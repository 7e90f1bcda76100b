"""Alerts: what a person should know about budgets, latency and breakers, and whether webhooks were told of it."""

from __future__ import annotations

from typing import Literal

from messages.fleet import Unit, Window
from messages.message import Channel, Kind, Message, Value, fact

AlertKind = Literal[
    "budget_soft", "budget_hard", "burn_rate", "projection", "billing", "latency_warning", "latency_alert",
    "breaker_open", "job_held", "test",
]  # fmt: skip
"""`budget_soft`: the soft share is reached. `budget_hard`: nothing more fits. `burn_rate`: spent much faster than the budget
lasts. `projection`: at this rate the limit is reached before the window ends. `billing`: a provider's threshold is reached.
`latency_warning`: one call missed its target. `latency_alert`: too many in a row did. `breaker_open`: a backend is left
alone. `job_held`: a job waits for a person, because everybody who could run it is over budget. `test`: somebody tries the
webhooks."""
Severity = Literal["warning", "alert"]
"""`warning`: look at it today. `alert`: look at it now."""
Of = Literal["whole", "first_token"]
"""What a latency target bounds: the whole call, or the time to the first piece of the answer."""
Notice = Literal["sent", "left_out", "gave_up", "refused"]
"""`left_out`: more came than the webhook is told in a minute; they are counted for it. `gave_up`: it failed too often, or for
good. `refused`: its address may not be called, or its URL is missing or wrong."""

NOBODY = "-"
"""The tenant of what belongs to nobody in particular: whoever runs turnout."""


class Burn(Value):
    """How fast a budget was used over one stretch of time."""

    seconds: float
    """Length of the stretch, up to `at`."""
    rate: float
    """1: used up exactly when its window ends; 2: in half of that time."""


class Alert(
    Message,
    channel=Channel(
        kind=Kind.WORK, stream="EV", prefix="ev.alert", keys=("tenant", "kind", "cause"), first_writer=True
    ),
):
    """Something a person should know. One cause makes one alert, however many processes notice it."""

    tenant: str = NOBODY
    """Whose it is; `-`: it concerns whoever runs turnout."""
    kind: AlertKind
    """What happened."""
    cause: str
    """What it derives from: the budget's window, the attempt, the opening. The same cause is told once."""
    severity: Severity
    """How urgent it is."""
    text: str
    """What happened, in one sentence."""
    advice: str = ""
    """What can be done about it."""
    budget: str = ""
    """The budget's name; empty: it is not about one."""
    holder: str = ""
    """Whose use of the budget it is, as in `BudgetState`."""
    unit: Unit | None = None
    """What the budget counts."""
    window: Window | None = None
    """How long the budget's limit holds."""
    spent: int | None = None
    """Settled in the window, in the budget's unit."""
    reserved: int | None = None
    """Held by attempts that run, in the budget's unit."""
    limit: int | None = None
    """The limit in force, or the threshold that was reached, in the budget's unit."""
    projected: int | None = None
    """What will be spent when the window ends, at the present rate."""
    burns: tuple[Burn, ...] = ()
    """How fast the budget was used, over a long and a short stretch."""
    hours_left: float | None = None
    """Until the limit is reached at the present rate; absent: not before the window ends, or unknown."""
    jobs_left: int | None = None
    """Estimated prompts remaining: how many more average jobs fit; absent: unknown."""
    target: str = ""
    """The latency target's name; empty: it is not about one."""
    backend: str = ""
    """The backend's name; empty: it is not about one."""
    model: str = ""
    """The model's name, as its backend calls it."""
    workflow: str = ""
    """The workflow of the job that was late; empty: none."""
    step: str = ""
    """That workflow's step; empty: none."""
    job: str = ""
    """The job that was late; empty: it is not about one."""
    of: Of | None = None
    """What the target bounds."""
    target_seconds: float | None = None
    """The target."""
    measured_seconds: float | None = None
    """What it took instead; at least this long, when it was cut short."""
    in_row: int = 0
    """Breaches since the last call that met the target."""
    left_out: int = 0
    """Earlier warnings of the same kind that were not told, because they were too many."""
    at: float
    """When it was noticed, in seconds since the epoch on the server's clock."""


class Notified(
    Message,
    channel=Channel(kind=Kind.RECORD, stream="EV", prefix="ev.notified", keys=("tenant", "kind", "cause", "webhook")),
):
    """What became of one alert at one webhook."""

    tenant: str = NOBODY
    """The alert's tenant."""
    kind: AlertKind
    """The alert's kind."""
    cause: str
    """The alert's cause."""
    webhook: str
    """The webhook's name."""
    notice: Notice
    """How it ended."""
    status: int | None = None
    """HTTP status of the last answer; absent: there was none."""
    tries: int = 1
    """How often it was posted, as far as this process knows."""
    reason: str = ""
    """Why it was not sent, in words; never holds the URL's path or a secret."""
    at: float
    """When, in seconds since the epoch on the server's clock."""


class LatencyRow(Message, channel=fact("latency", keys=("target", "tenant", "backend", "model"), compared=True)):
    """How many calls in a row missed a latency target on one backend and model: a fold of `attempted` in stream order."""

    target: str
    """The target's name."""
    tenant: str = NOBODY
    """Whose calls are counted; `-`: the target holds for all tenants together."""
    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    through_seq: int = 0
    """Events up to this stream sequence are folded in; older ones are ignored."""
    in_row: int = 0
    """Breaches since the last call that met the target."""
    telling: Literal["", "warning", "alert"] = ""
    """What the last breach is told as; empty: it is not told."""
    alerted_at: float = 0.0
    """When these breaches were last told as an alert, in seconds since the epoch; 0: not yet."""
    minute: int = 0
    """The minute that the two counts below belong to, since the epoch."""
    warnings: int = 0
    """Warnings told in that minute."""
    alerts: int = 0
    """Alerts told in that minute."""
    left_out: int = 0
    """Breaches not told before the last one."""
    job_tenant: str = ""
    """Tenant of the job that was late last."""
    job: str = ""
    """The job that was late last."""
    n: int = 0
    """Its round."""
    workflow: str = ""
    """Its workflow; empty: none."""
    step: str = ""
    """Its step; empty: none."""
    of: Of = "whole"
    """What the target bounds."""
    target_seconds: float = 0.0
    """The target as it was then."""
    measured_seconds: float = 0.0
    """What the late call took."""
    at: float = 0.0
    """When it ended, in seconds since the epoch on the server's clock."""


class Sample(Value):
    """How much of a budget was spent at one time."""

    at: float
    """When, in seconds since the epoch."""
    spent: int
    """Settled since the window began, in the budget's unit."""


class Spending(Message, channel=fact("spending", keys=("budget", "holder"))):
    """How a budget was used over time, and where that leads; told at most once a minute."""

    budget: str
    """The budget's name."""
    holder: str
    """Whose use it is, as in `BudgetState`."""
    counter: str
    """The counter in the ledger, which names the window."""
    samples: tuple[Sample, ...] = ()
    """In order; the older, the farther apart."""
    per_hour: float | None = None
    """Present rate, in the budget's unit per hour; absent: unknown."""
    projected: int | None = None
    """What will be spent when the window ends, at this rate; absent: unknown, or the window never ends."""
    breach_at: float = 0.0
    """When the limit is reached at this rate; 0: not before the window ends, or unknown."""
    per_job: float | None = None
    """Discounted mean of what one attempt used; absent: none has ended."""
    per_hold: float | None = None
    """Discounted mean of what was held for one attempt, its worst case; absent: none has ended."""
    jobs_left: int | None = None
    """Estimated prompts remaining: how many more of them fit; absent: unknown."""
    at: float
    """When it was said, in seconds since the epoch on the server's clock."""
