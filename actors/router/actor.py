"""The router: which backend should do it, and which next?"""

from __future__ import annotations

from actors.actor import Actor, Heard, Later, Says, hears
from actors.router.decide import decide
from actors.router.view import View
from messages import (
    Analyzed,
    Backend,
    Breaker,
    Decided,
    Done,
    Due,
    Expired,
    JobCancel,
    Load,
    Policy,
    Problem,
    Retry,
    Stats,
    untoken,
)


class Router(Actor):
    """Sends each job to the best backend and, when that fails, to the next. Keeps no state about jobs."""

    room = "router"

    def __init__(self) -> None:
        self.view = View()

    # ------------------------------------------------------------------------------------------- the view

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        self.view.backends[backend.backend] = backend

    @hears
    def load(self, load: Load, heard: Heard) -> None:
        self.view.loads[load.backend] = load

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        self.view.breakers[breaker.backend, breaker.model] = breaker

    @hears
    def stats(self, stats: Stats, heard: Heard) -> None:
        self.view.stats[stats.backend, stats.model, stats.workflow] = stats

    @hears
    def policy(self, policy: Policy, heard: Heard) -> None:
        self.view.policy = policy

    # ------------------------------------------------------------------------------------------- deciding

    @hears
    def analyzed(self, analyzed: Analyzed, heard: Heard) -> Says[Decided]:
        if analyzed.slip is None:
            return []  # Rejected; the analyzer ends it.
        return [decide(analyzed.slip, n=1, attempts=(), excluded=(), view=self.view, now=heard.now)]

    @hears
    def retry(self, retry: Retry, heard: Heard) -> Says[Decided | Due]:
        if retry.not_before > heard.now:
            return [Later(Due(tenant=retry.tenant, job=retry.job, n=retry.n, retry=retry), at=retry.not_before)]
        return self._again(retry, heard)

    @hears
    def due(self, due: Due, heard: Heard) -> Says[Decided]:
        return self._again(due.retry, heard)

    def _again(self, retry: Retry, heard: Heard) -> Says[Decided]:
        decided = decide(
            retry.slip,
            n=retry.n,
            attempts=retry.attempts,
            excluded=retry.excluded,
            view=self.view,
            now=heard.now,
            cause=retry.cause,
        )
        return [decided]

    @hears
    def decided(self, decided: Decided, heard: Heard) -> Says[Done]:
        """The stored decision, ours or another's: count it as load, or end the job."""
        if decided.gave_up is not None:
            cost = sum(attempt.billed_microdollars for attempt in decided.attempts)
            ending = "expired" if heard.now >= decided.slip.deadline_at else "failed"
            return [
                Done(
                    tenant=decided.tenant,
                    job=decided.job,
                    ending=ending,
                    problem=decided.gave_up,
                    attempts=decided.attempts,
                    cost_microdollars=cost,
                    submitted_at=decided.slip.submitted_at,
                    at=heard.now,
                )
            ]
        if decided.ranking:
            self.view.sent(decided.ranking[0].backend, decided.at)
        return []

    # --------------------------------------------------------------------------------- ends from outside

    @hears
    def expired(self, expired: Expired, heard: Heard) -> Says[Done]:
        problem = Problem(reason="expired", message="the job's deadline passed before it was done")
        return [Done(tenant=expired.tenant, job=expired.job, ending="expired", problem=problem, at=heard.now)]

    @hears
    def job_cancel(self, cancel: JobCancel, heard: Heard) -> Says[Done]:
        tokens = heard.subject.split(".")
        tenant, job = untoken(tokens[2]), untoken(tokens[3])
        problem = Problem(reason="cancelled", message=cancel.reason or "cancelled by the client")
        return [Done(tenant=tenant, job=job, ending="cancelled", problem=problem, at=heard.now)]
