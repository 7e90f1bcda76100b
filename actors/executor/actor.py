"""The executor: runs one attempt on one backend."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from actors.actor import Heard, Says, every, overhears
from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.claim import Claimant, InHand
from actors.journal import Journal, empty
from actors.roster import Roster
from bus.topology import Queue, work_queue
from messages import Attempted, Chunk, Done, ExecutorAlive, ObjectRef, Offer, Problem, Progress, Result, Work, token

LARGE_RESULT_BYTES = 262_144
"""A result above this size lies in the object store, and events carry a reference."""
HEALTH_PATIENCE_SECONDS = 5.0


class Served(msgspec.Struct):
    """A backend this executor serves: what it announces, and how it is called. The offer is replaced, never changed."""

    offer: Offer
    adapter: port.Backend


class _Call(msgspec.Struct, eq=False):
    """One running call: how to stop it when somebody else ends the job."""

    scope: asyncio.Timeout | None = None
    ended: bool = False


def _can_run(offer: Offer, work: Work) -> bool:
    return offer.healthy and any(model.name == work.model for model in offer.models)


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
        heartbeat_seconds: float = 2.0,
        health_seconds: float = 30.0,
        recovery_seconds: float = 2.0,
    ) -> None:
        super().__init__(journal=journal, roster=roster, in_hand=in_hand, clock=clock)
        self.served = served
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
            instance=heard.instance, boot=heard.boot, number=self.in_hand.beats, leaving=self.leaving, at=self.clock(),
            offers=tuple(served.offer for _, served in sorted(self.served.items())),
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
        served = self.served[name]
        reason = ""
        try:
            async with asyncio.timeout(HEALTH_PATIENCE_SECONDS):
                await served.adapter.health()
        except TimeoutError:
            reason = f"no answer to a health check within {HEALTH_PATIENCE_SECONDS:g} s"
        except port.BackendError as error:
            reason = error.message
        served.offer = msgspec.structs.replace(served.offer, healthy=not reason, health_reason=reason)

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
        return _can_run(served.offer, work) or not any(_can_run(offer, work) for _, offer in others)

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

    async def run(self, work: Work, heard: Heard) -> AsyncIterator[Chunk | Progress | Attempted]:
        """One call. Silence beyond the stall time and the deadline end it; so does somebody else's `done`."""
        call = _Call()
        self._calls[work.tenant, work.job] = call
        loop = asyncio.get_running_loop()
        began, started_at = loop.time(), self.clock()
        pieces: list[str] = []
        first: float | None = None
        answer: port.Answer | None = None
        failure: dict[str, Any] = {}
        try:
            request = calls.call_of(work, await self._body(work))
            async with aclosing(self.served[work.backend].adapter.run(request)) as stream:  # type: ignore[type-var]
                yield self._progress(work, "called", 0)
                while answer is None:
                    if call.ended:
                        raise TimeoutError
                    left = work.slip.deadline_at - self.clock()
                    patience = min(work.failover.stall_seconds, max(left, 0.0))
                    try:
                        async with asyncio.timeout(patience) as call.scope:
                            item = await anext(stream)
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
                       "partial": error.partial, "usage": calls.usage_of(error.usage)}  # fmt: skip
        except StopAsyncIteration:
            problem = Problem(reason="invalid_structure", message=f"{work.backend}: the stream ended without an answer")
            failure = {"outcome": "invalid_structure", "problem": problem, "partial": "".join(pieces)}
        except msgspec.MsgspecError as error:
            problem = Problem(reason="bad_request", message=f"the submission can no longer be read: {error}")
            failure = {"outcome": "bad_request", "problem": problem}
        finally:
            if self._calls.get((work.tenant, work.job)) is call:
                del self._calls[work.tenant, work.job]
        seconds = {"first_token_seconds": first, "latency_seconds": loop.time() - began, "started_at": started_at}
        if answer is None:
            yield self._failed(work, failure, heard, seconds)
        else:
            yield await self._answered(work, answer, heard, seconds)

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

    def _failed(self, work: Work, failure: dict[str, Any], heard: Heard, seconds: dict[str, Any]) -> Attempted:
        partial = str(failure.get("partial", ""))
        usage = failure.get("usage") or calls.usage_of(None)
        produced = bool(partial) or failure["outcome"] == "aborted" or bool(usage.input_tokens or usage.output_tokens)
        billed = (
            calls.cost(usage, work.price, input_estimate=work.slip.needs.input_tokens, text=partial) if produced else 0
        )
        return self.attempted(
            work, failure["outcome"], problem=failure["problem"], partial=partial[: calls.PARTIAL_CHARACTERS],
            usage=usage, billed_microdollars=billed, instance=heard.instance, **seconds,
        )  # fmt: skip

    async def _answered(self, work: Work, answer: port.Answer, heard: Heard, seconds: dict[str, Any]) -> Attempted:
        usage = calls.usage_of(answer.usage)
        billed = calls.cost(usage, work.price, input_estimate=work.slip.needs.input_tokens, text=answer.text)
        wrong = calls.fault(answer, work)
        if wrong:
            return self.attempted(
                work, wrong.reason, problem=wrong, partial=answer.text[: calls.PARTIAL_CHARACTERS], usage=usage,
                billed_microdollars=billed, instance=heard.instance, **seconds,
            )  # fmt: skip
        result = calls.result_of(answer)
        if calls.weight(answer) * 6 > LARGE_RESULT_BYTES:  # JSON makes up to six bytes of one character.
            result = await self._put_aside(work, result)
        return self.attempted(
            work, "ok", result=result, usage=usage, billed_microdollars=billed, instance=heard.instance, **seconds
        )

    async def _put_aside(self, work: Work, result: Result) -> Result:
        encoded = msgspec.json.encode(result)
        if len(encoded) <= LARGE_RESULT_BYTES:
            return result
        data, media_type = (result.text or "").encode(), "text/plain; charset=utf-8"
        if result.tool_calls:
            data, media_type = encoded, "application/json"
        key = f"{token(work.tenant)}/{token(work.job)}/{work.n}"  # A `/` in a name must not lead to another's.
        await self.journal.keep(key, data)
        digest = hashlib.sha256(data).hexdigest()
        ref = ObjectRef(key=key, size_bytes=len(data), sha256=digest, media_type=media_type)
        return Result(ref=ref, finish_reason=result.finish_reason)

    async def closing(self) -> None:
        """Close the adapters' connections."""
        for served in self.served.values():
            await served.adapter.close()
