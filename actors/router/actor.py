"""The router: which backend should do it, and which next?"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from actors import door
from actors.actor import Actor, Heard, Later, Says, Steps, Stored, answers, hears
from actors.course import Course
from actors.met import met_of
from actors.router.case import Strategy
from actors.router.counting import worth_counting
from actors.router.decide import Choice, decide
from actors.router.ending import ended
from actors.router.estimates import estimate
from actors.router.in_flight import OnItsWay
from actors.router.quote import quote
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from actors.succession import cost_of
from messages import (
    Analyzed,
    Attempt,
    Backend,
    Breaker,
    Counted,
    CountOf,
    Decided,
    Done,
    Due,
    Epoch,
    EstimateIs,
    EstimateOf,
    Exclusion,
    Expired,
    JobCancel,
    Load,
    Message,
    ModelPrice,
    ObjectRef,
    PoliciesAre,
    PoliciesOf,
    Policy,
    PreviewIs,
    PreviewOf,
    Problem,
    Queued,
    QuoteIs,
    QuoteOf,
    Refused,
    Retry,
    Room,
    Slip,
    Stats,
    token,
)

PREVIEW_SECONDS = 600.0
"""Deadline that a preview assumes."""


class Keeper(Protocol):
    """Where large things lie beside the events, and what is stored of a job."""

    async def course(self, tenant: str, job: str) -> Course:
        """How far a job has come that has not ended."""
        ...

    async def keep_once(self, key: str, data: bytes) -> None:
        """Keep it under a key that names its content."""
        ...


class Counter(Protocol):
    """Asks those who serve a backend."""

    async def count(self, question: CountOf) -> Counted | None:
        """The tokens that a model would read; None: nobody can tell, or not in time."""
        ...


class Router(Actor):
    """Sends each job to the best backend and, when that fails, to the next. Keeps no state about jobs."""

    room = "router"

    def __init__(
        self,
        *,
        keeper: Keeper,
        counter: Counter,
        policies: Iterable[Policy] = (),
        strategies: Mapping[str, Strategy] = STRATEGIES,
        price_ceiling: int | None = None,
        input_ceiling: int | None = None,
    ) -> None:
        self.keeper, self.counter = keeper, counter
        self.view = View(policies, price_ceiling=price_ceiling, input_ceiling=input_ceiling)
        self.strategies = strategies

    # ------------------------------------------------------------------------------------------- the view

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        self.view.learn_backend(backend)

    @hears
    def load(self, load: Load, heard: Heard) -> None:
        self.view.learn_load(load)

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        self.view.learn_breaker(breaker)

    @hears
    def stats(self, stats: Stats, heard: Heard) -> None:
        self.view.learn_stats(stats)

    @hears
    def epoch(self, epoch: Epoch, heard: Heard) -> None:
        self.view.learn_epoch(epoch)

    @hears
    def model_price(self, price: ModelPrice, heard: Heard) -> None:
        self.view.learn_price(price)

    @hears
    def queued(self, queued: Queued, heard: Heard) -> None:
        """Work lies in a queue: it counts as load until the load fact has counted it."""
        self.view.queued((queued.tenant, queued.job, queued.n), queued.backend, queued.seq, heard.now)

    @hears
    def policy(self, policy: Policy, heard: Heard) -> None:
        self.view.learn_policy(policy)

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too, unless that is newer."""
        match message:
            case Backend():
                self.view.forget_backend(message)
            case Breaker():
                self.view.forget_breaker(message)
            case Stats():
                self.view.forget_stats(message)
            case ModelPrice():
                self.view.forget_price(message)
            case _:
                pass

    # ------------------------------------------------------------------------------------------- deciding

    @hears
    async def analyzed(self, analyzed: Analyzed, heard: Heard) -> Steps[Decided]:
        slip = analyzed.slip
        if slip is None:
            return  # Rejected; the analyzer ends it.
        with self.view.on_its_way(slip.tenant, slip.job, 1) as way:
            yield await self._decide(slip, heard, way, n=1)

    @hears
    async def retry(self, retry: Retry, heard: Heard) -> Steps[Decided | Due]:
        if retry.not_before > heard.now:
            yield Later(Due(tenant=retry.tenant, job=retry.job, n=retry.n, retry=retry), at=retry.not_before)
            return
        with self.view.on_its_way(retry.tenant, retry.job, retry.n) as way:
            yield await self._again(retry, heard, way)

    @hears
    async def due(self, due: Due, heard: Heard) -> Steps[Decided]:
        with self.view.on_its_way(due.tenant, due.job, due.n) as way:
            yield await self._again(due.retry, heard, way)

    async def _again(self, retry: Retry, heard: Heard, way: OnItsWay) -> Decided:
        return await self._decide(
            retry.slip, heard, way, n=retry.n, attempts=retry.attempts, excluded=retry.excluded, cause=retry.cause,
            rooms=retry.rooms, counted=retry.counted,
        )  # fmt: skip

    async def _decide(
        self,
        slip: Slip,
        heard: Heard,
        way: OnItsWay,
        *,
        n: int,
        attempts: tuple[Attempt, ...] = (),
        excluded: tuple[Exclusion, ...] = (),
        cause: Problem | None = None,
        rooms: tuple[Room, ...] = (),
        counted: tuple[Counted, ...] = (),
    ) -> Decided:
        """The decision; of a large fleet, what the event leaves out is kept before it is said.

        Before a job is refused for the most it might have to read, what it has is counted where that can be done. Whatever is
        waited for, those who decide meanwhile know where this job goes.
        """

        def decision(counted: tuple[Counted, ...]) -> Choice:
            way.nowhere()  # It must not stand in its own way.
            choice = decide(
                slip, n=n, attempts=attempts, excluded=excluded, view=self.view, now=heard.now, cause=cause, rooms=rooms,
                counted=counted, strategies=self.strategies,
            )  # fmt: skip
            if choice.ranking:
                self.view.decided(way, choice.ranking[0].backend, choice.ranking[0].model, heard.now)
            return choice

        choice = decision(counted)
        questions = worth_counting(choice)
        if questions:
            found = await asyncio.gather(*(self.counter.count(question) for question in questions))
            if any(found):
                choice = decision((*counted, *(one for one in found if one is not None)))
        if not choice.decided.omitted:
            return choice.decided
        data = msgspec.json.encode(choice.everything())
        digest = hashlib.sha256(data).hexdigest()
        key = f"{token(slip.tenant)}/{token(slip.job)}/{n}-{digest[:16]}"  # Routers that decide otherwise keep theirs apart.
        await self.keeper.keep_once(key, data)  # First of all: what the event refers to must be there.
        ref = ObjectRef(key=key, size_bytes=len(data), sha256=digest, media_type="application/json")
        return msgspec.structs.replace(choice.decided, everything=ref)

    @hears
    def decided(self, decided: Decided, heard: Heard) -> Says[Done]:
        """The stored decision, ours or another's: count it as load in place of what we decided, or end the job."""
        key = decided.tenant, decided.job, decided.n
        if decided.ranking and decided.gave_up is None:
            first = decided.ranking[0]
            self.view.sent(key, first.backend, first.model, decided.at)
        else:
            self.view.in_flight.abandon(key)
        if decided.gave_up is not None:
            cost = cost_of(decided.attempts)
            ending = "expired" if heard.now >= decided.slip.deadline_at else "failed"
            return [
                Done(
                    tenant=decided.tenant,
                    job=decided.job,
                    ending=ending,
                    problem=decided.gave_up,
                    attempts=decided.attempts,
                    guardrails=met_of(decided),
                    cost_microdollars=cost,
                    submitted_at=decided.slip.submitted_at,
                    at=heard.now,
                )
            ]
        return []

    # --------------------------------------------------------------------------------- ends from outside

    @hears
    async def expired(self, expired: Expired, heard: Heard) -> Says[Done]:
        course = await self.keeper.course(expired.tenant, expired.job)
        return [ended(expired.tenant, expired.job, "expired", "", course, heard.now)]

    @hears
    async def job_cancel(self, cancel: JobCancel, heard: Heard) -> Steps[Done | Refused]:
        """A job that nobody has heard of yet ends as well: its submission may still be on its way."""
        fault = door.fault(cancel, heard)
        if fault is not None:
            yield door.refused(cancel, fault, heard)
            return
        tenant, job = door.job_at(heard)
        reason = cancel.reason or "cancelled by the client"
        course = await self.keeper.course(tenant, job)
        stored: Stored = yield ended(tenant, job, "cancelled", reason, course, heard.now)
        done: Done = stored.message  # pyright: ignore[reportAssignmentType]
        if done.ending != "cancelled":
            yield door.refused(cancel, door.over(done, "nothing is left to cancel."), heard)

    # ----------------------------------------------------------------------------------------- questions

    @answers
    def preview(self, question: PreviewOf, heard: Heard) -> PreviewIs:
        slip = Slip(
            tenant=question.tenant, job=question.job, submitted_at=heard.now, deadline_at=heard.now + PREVIEW_SECONDS,
            input_seq=0, needs=question.needs,
        )  # fmt: skip
        choice = decide(slip, n=1, attempts=(), excluded=(), view=self.view, now=heard.now, strategies=self.strategies)
        return PreviewIs(decided=choice.decided)

    @answers
    def policies(self, question: PoliciesOf, heard: Heard) -> PoliciesAre:
        held = self.view.rulebook.held
        return PoliciesAre(policies=tuple(p for p in held if question.name in ("", p.policy)))

    @answers
    def estimate(self, question: EstimateOf, heard: Heard) -> EstimateIs:
        return estimate(question, self.view, heard.now, strategies=self.strategies)

    @answers
    def quote(self, question: QuoteOf, heard: Heard) -> QuoteIs:
        return quote(question, self.view, heard.now, strategies=self.strategies)
