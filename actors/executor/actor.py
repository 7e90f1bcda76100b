"""The executor: runs one attempt on one backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from actors.actor import Heard, Says, every, overhears
from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.claim import Claimant, InHand
from actors.executor.results import LARGE_RESULT_BYTES, put_aside
from actors.executor.served import Served, can_run
from actors.journal import Journal, empty
from actors.roster import Roster
from bus.topology import Queue, work_queue
from messages import Attempted, Chunk, Done, ExecutorAlive, Problem, Progress, Work


class _Call(msgspec.Struct, eq=False):
    """One running call: what runs, and how to stop it when somebody else ends the job."""

    backend: str
    model: str
    scope: asyncio.Timeout | None = None
    ended: bool = False


class Executor(Claimant):
    """Runs attempts on the backends it serves, streams what comes, and keeps the silence within limits."""

    room = "executor"
    purpose = "run"

    def __init__(
        self,
        *,
        journal: Journal,
        roster: Roster,
        in_hand: InHand,
        clock: Callable[[], float],
        served: Mapping[str, Served],
        host: str = "",
        heartbeat_seconds: float = 2.0,
        health_seconds: float = 30.0,
        recovery_seconds: float = 2.0,
    ) -> None:
        super().__init__(journal=journal, roster=roster, in_hand=in_hand, clock=clock)
        self.served, self.host = served, host
        self.heartbeat_seconds, self.health_seconds = heartbeat_seconds, health_seconds
        self.recovery_seconds = recovery_seconds
        self._calls: dict[tuple[str, str], _Call] = in_hand.calls
        self._checked: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------ announcing

    @every("heartbeat_seconds")
    def beat(self, heard: Heard) -> Says[ExecutorAlive]:
        return [self._alive(heard)]

    def _alive(self, heard: Heard) -> ExecutorAlive:
        self.in_hand.beats += 1
        return ExecutorAlive(
            instance=heard.instance, boot=heard.boot, number=self.in_hand.beats, leaving=self.leaving, host=self.host,
            at=self.clock(), offers=tuple(served.offer for _, served in sorted(self.served.items())),
            running=tuple(self.in_hand.values()),
        )  # fmt: skip

    def leave(self, heard: Heard) -> ExecutorAlive:
        """The last heartbeat of a clean stop."""
        self.in_hand.leaving = True
        return self._alive(heard)

    @every("recovery_seconds")
    async def check(self, heard: Heard) -> Says[ExecutorAlive]:
        """Look after the backends: the healthy ones at their interval, the others at every tick."""
        due = [
            name
            for name, served in sorted(self.served.items())
            if not served.offer.healthy or heard.now - self._checked.get(name, 0.0) >= self.health_seconds
        ]
        before = [self.served[name].offer for name in due]
        await asyncio.gather(*(self._check(name, heard.now) for name in due))
        changed = before != [self.served[name].offer for name in due]
        return [self._alive(heard)] if changed else []

    async def _check(self, name: str, now: float) -> None:
        self._checked[name] = now
        await self.served[name].check()

    def pulls(self) -> dict[Queue, int]:
        """The queues this process wants to hear, with its slots on each."""
        if self.leaving:
            return {}
        return {work_queue(name, 1): served.offer.slots for name, served in self.served.items()}

    @property
    def leaving(self) -> bool:
        """Whether it takes no more work."""
        return self.in_hand.leaving

    def ready(self, work: Work) -> bool:
        """Whether to run it here: not when only another executor of the backend can."""
        served = self.served.get(work.backend)
        if served is None or self.leaving:
            return False
        others = self.roster.offers(self.clock()).get(work.backend, ())
        return can_run(served.offer, work) or not any(can_run(offer, work) for _, offer in others)

    # --------------------------------------------------------------------------------------------- running

    @overhears
    def done(self, done: Done, heard: Heard) -> None:
        """A job has ended. If it runs here and the end is not ours, its call is stopped (rule 6)."""
        call = self._calls.get((done.tenant, done.job))
        if call is None:
            return
        call.ended = True
        if call.scope is not None and not call.scope.expired():  # Expired: it is ending already.
            call.scope.reschedule(asyncio.get_running_loop().time())

    async def run(self, work: Work, heard: Heard) -> AsyncGenerator[ExecutorAlive | Chunk | Progress | Attempted, None]:
        """One call. Silence beyond the stall time and the deadline end it; so does somebody else's `done`."""
        call = _Call(backend=work.backend, model=calls.model_of(work))
        before = self._turn_to(call)
        self._calls[work.tenant, work.job] = call
        loop = asyncio.get_running_loop()
        began, started_at = loop.time(), self.clock()
        pieces: list[str] = []
        first: float | None = None
        answer: port.Answer | None = None
        failure: dict[str, Any] = {}
        try:
            served = self.served[work.backend]
            if before != call.model and served.offer.local:
                yield self._alive(heard)  # At once: what is loaded there decides where other jobs go.
            context_tokens = served.context_of(call.model)
            request = calls.call_of(work, await self._body(work), context_tokens=context_tokens)
            async with aclosing(served.adapter.run(request)) as stream:  # type: ignore[type-var]
                yield self._progress(work, "called", 0)
                while answer is None:
                    if call.ended:
                        raise TimeoutError
                    left = work.slip.deadline_at - self.clock()
                    patience = min(work.failover.stall_seconds, max(left, 0.0))
                    try:
                        async with asyncio.timeout(patience) as call.scope:
                            item = await self._next(stream)
                    finally:
                        call.scope = None
                    if isinstance(item, port.Answer):
                        answer = item
                        continue
                    if not item.text:
                        continue  # A sign of life: the model thinks.
                    if first is None:
                        first = loop.time() - began
                        yield self._progress(work, "first_token", 1)
                    for text in calls.pieces(item.text):
                        yield Chunk(tenant=work.tenant, job=work.job, n=work.n, number=len(pieces), text=text)
                        pieces.append(text)
        except TimeoutError:
            failure = self._silence(work, call, pieces)
        except port.BackendError as error:
            failure = {"outcome": calls.outcome_of(error), "problem": calls.problem_of(error, work.backend),
                       "partial": error.partial or "".join(pieces), "usage": calls.usage_of(error.usage)}  # fmt: skip
        except StopAsyncIteration:
            problem = Problem(reason="invalid_structure", message=f"{work.backend}: the stream ended without an answer")
            failure = {"outcome": "invalid_structure", "problem": problem, "partial": "".join(pieces)}
        except msgspec.MsgspecError as error:
            problem = Problem(reason="bad_request", message=f"the submission can no longer be read: {error}")
            failure = {"outcome": "bad_request", "problem": problem}
        finally:
            if self._calls.get((work.tenant, work.job)) is call:
                del self._calls[work.tenant, work.job]
        facts = {"first_token_seconds": first, "latency_seconds": loop.time() - began, "started_at": started_at,
                 "switched": before not in ("", call.model)}  # fmt: skip
        if answer is None:
            yield self._failed(work, failure, heard, facts)
        else:
            yield await self._answered(work, answer, heard, facts)

    def _turn_to(self, call: _Call) -> str:
        """The model that ran before on the call's backend: the same when another call has it too; empty: unknown."""
        same = any((other.backend, other.model) == (call.backend, call.model) for other in self._calls.values())
        before = call.model if same else self.in_hand.models.get(call.backend, "")
        self.in_hand.models[call.backend] = call.model
        return before

    @staticmethod
    async def _next(stream: AsyncGenerator[port.Chunk | port.Answer, None]) -> port.Chunk | port.Answer:
        """What comes next. Our own timer cancels; a TimeoutError in here is the adapter's, and no silence."""
        try:
            return await anext(stream)
        except TimeoutError as error:
            raise port.BackendError("timeout", f"the adapter gave up waiting: {error or 'no reason given'}") from error

    async def _body(self, work: Work) -> bytes:
        if not empty(work.slip.input):
            return bytes(work.slip.input)
        return await self.journal.submission(work.slip.input_seq) or b"null"

    def _progress(self, work: Work, stage: Any, number: int) -> Progress:
        return Progress(tenant=work.tenant, job=work.job, n=work.n, number=number, stage=stage, backend=work.backend)

    def _silence(self, work: Work, call: _Call, pieces: list[str]) -> dict[str, Any]:
        partial = "".join(pieces)
        if call.ended:
            problem = Problem(reason="aborted", message="the job was ended while it ran")
            return {"outcome": "aborted", "problem": problem, "partial": partial}
        if self.clock() >= work.slip.deadline_at:
            problem = Problem(reason="expired", message=f"{work.backend}: the job's deadline came while it ran")
        else:
            text = f"{work.backend}: silent for {work.failover.stall_seconds:g} s"
            problem = Problem(reason="timeout", message=text)
        return {"outcome": "timeout", "problem": problem, "partial": partial}

    def _failed(self, work: Work, failure: dict[str, Any], heard: Heard, facts: dict[str, Any]) -> Attempted:
        partial = str(failure.get("partial", ""))
        usage = failure.get("usage") or calls.usage_of(None)
        produced = bool(partial) or failure["outcome"] == "aborted" or bool(usage.input_tokens or usage.output_tokens)
        return self.attempted(
            work, failure["outcome"], problem=failure["problem"], partial=partial[: calls.PARTIAL_CHARACTERS],
            usage=usage, billed_microdollars=calls.cost(work, usage, partial, facts["latency_seconds"]) if produced else 0,
            instance=heard.instance, **facts,
        )  # fmt: skip

    async def _answered(self, work: Work, answer: port.Answer, heard: Heard, facts: dict[str, Any]) -> Attempted:
        usage = calls.usage_of(answer.usage)
        billed = calls.cost(work, usage, answer.text, facts["latency_seconds"])
        wrong = calls.fault(answer, work)
        if wrong:
            return self.attempted(
                work, wrong.reason, problem=wrong, partial=answer.text[: calls.PARTIAL_CHARACTERS], usage=usage,
                billed_microdollars=billed, instance=heard.instance, **facts,
            )  # fmt: skip
        result = calls.result_of(answer, as_json=calls.wants_json(work))
        if calls.weight(answer) * 6 > LARGE_RESULT_BYTES:  # JSON makes up to six bytes of one character.
            result = await put_aside(self.journal, work, result)
        return self.attempted(
            work, "ok", result=result, usage=usage, billed_microdollars=billed, instance=heard.instance, **facts
        )

    async def closing(self) -> None:
        """Close the adapters' connections."""
        for served in self.served.values():
            await served.adapter.close()
