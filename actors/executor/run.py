"""One attempt on one backend, from the claim to its `Attempted`: call, stream, keep what is made, check the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from actors.actor import Heard, overhears
from actors.executor import accounting, checks, results, validator
from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.claim import Claimant, InHand, Said
from actors.executor.inputs import Unusable, brought
from actors.executor.json_answer import placed
from actors.executor.judge import Judge
from actors.executor.running import Call, Limit
from actors.executor.served import Served
from actors.journal import Journal, empty
from actors.roster import Roster
from actors.succession import UNHEARD, left_behind
from bus.bus import BusClosed, BusError, BusUnavailable
from messages import (
    Attempted,
    Chunk,
    Done,
    ExecutorAlive,
    Problem,
    Result,
    Started,
    Work,
)

log = logging.getLogger(__name__)


class Runner(Claimant):
    """Runs attempts on the backends it serves, streams what comes, and keeps the silence within limits."""

    purpose = "run"
    served: Mapping[str, Served]

    def __init__(self, *, journal: Journal, roster: Roster, in_hand: InHand, clock: Callable[[], float]) -> None:
        super().__init__(journal=journal, roster=roster, in_hand=in_hand, clock=clock)
        self._calls: dict[tuple[str, str], Call] = in_hand.calls
        self._judge = Judge(journal, clock)

    def _alive(self, heard: Heard) -> ExecutorAlive:
        """What it serves and runs now: for who also attends to backends to say."""
        raise NotImplementedError

    def to_load(self, call: Call, before: str) -> str:
        """What must be put into memory before the call, in words; empty: nothing. `before`: the model that ran there last."""
        raise NotImplementedError

    async def load(self, call: Call) -> None:
        """Put it there. Raises port.BackendError."""
        raise NotImplementedError

    def settled(self, work: Work) -> None:
        """The model of the work can be called."""
        raise NotImplementedError

    def doubted(self, backend: str) -> None:
        """A call lost its connection: how the backend is must be found out now, without waiting for it."""
        raise NotImplementedError

    def leaves(self, work: Work, boot: str) -> None:
        """The call of an attempt has ended for us, and perhaps not for its backend. `boot`: of the process that made it."""
        raise NotImplementedError

    async def answers(self, backend: str) -> bool:
        """Ask the backend now how it is, and wait for its answer: whether it gave one."""
        raise NotImplementedError

    @overhears
    def done(self, done: Done, heard: Heard) -> None:
        """A job has ended. If it runs here and the end is not ours, its call is stopped (rule 6)."""
        if call := self._calls.get((done.tenant, done.job)):
            call.end("deadline" if done.ending == "expired" else "aborted")
        self._judge.hear(done)

    async def run(self, work: Work, heard: Heard) -> AsyncGenerator[Said, None]:
        """One call. Silence beyond the stall time, the deadline and too much GPU time end it; so does somebody else's `done`.

        Files are kept as they come, and removed again when the attempt fails.
        """
        loop = asyncio.get_running_loop()
        call = Call(work, loop.time(), results.Shelf(self.journal, work, self.clock))
        before, started_at = self._turn_to(call), self.clock()
        self._calls[work.tenant, work.job] = call
        failure: dict[str, Any] = {}
        try:
            try:
                served = self.served[work.backend]
                if before != call.model and served.offer.local:
                    yield self._alive(heard)  # At once: what is loaded there decides where other jobs go.
                request = await self._request(work, call, served, heard.boot)
                if loading := self.to_load(call, before):
                    yield call.course.mark("loading", loading)
                    await self._load(work, call)
                call.switched = call.switched or served.offer.cold
                served.took(call.model)
                self.settled(work)
                async with aclosing(served.adapter.run(request)) as stream:
                    yield call.course.mark("called")
                    while call.answer is None:
                        item = await self._next(stream, work, call, served)
                        for said in await self._take(item, work, call):
                            yield said
            except TimeoutError:
                failure = self._limited(work, call)
            except port.BackendError as error:
                failure = {"outcome": calls.outcome_of(error), "problem": calls.problem_of(error, work.backend),
                           "partial": error.partial or call.text, "error": error}  # fmt: skip
            except StopAsyncIteration:
                text = f"{work.backend}: the stream ended without an answer"
                failure = _failure("invalid_structure", text, partial=call.text)
            except msgspec.MsgspecError as error:
                failure = _failure("bad_request", f"the submission can no longer be read: {error}")
            except Unusable as error:
                failure = _failure("bad_request", str(error), field=error.field)
            except (BusUnavailable, BusClosed):
                raise  # Then its end can't be said either.
            except BusError as error:
                failure = _failure("executor_lost", f"the object store or a stream fails: {error}", partial=call.text)
            seconds = loop.time() - call.began
            facts: dict[str, Any] = {
                "first_token_seconds": call.first, "latency_seconds": seconds, "started_at": started_at,
                "switched": call.switched or before not in ("", call.model), "instance": heard.instance,
            }  # fmt: skip
            facts["took_up"] = call.took_up
            if call.answer is not None:
                self.served[work.backend].proven = True
                spent, facts["corrections"] = accounting.shared(work, self._made(call, seconds), call.shares)
                facts |= calls.counted(spent, begun=True)
                found = self._examined(work, call)
                if found.problem is None and validator.is_wanted(work):
                    async with aclosing(self._judge.ask(work, call, spent.microdollars)) as asking:
                        async for said in asking:
                            yield said
                    found = self._judge.judgement(work, call, found)
                yield await self._answered(work, call, found, facts)
            else:
                yield await self._failed(work, call, failure, facts, heard.boot)
        finally:
            if self._calls.get((work.tenant, work.job)) is call:
                del self._calls[work.tenant, work.job]

    def _turn_to(self, call: Call) -> str:
        """The model that ran before on the call's backend: the same when another call has it too; empty: unknown."""
        same = any((other.backend, other.model) == (call.backend, call.model) for other in self._calls.values())
        before = call.model if same else self.in_hand.models.get(call.backend, "")
        self.in_hand.models[call.backend] = call.model
        return before

    # --------------------------------------------------------------------------------------------- the stream

    async def _request(self, work: Work, call: Call, served: Served, boot: str) -> port.Call:
        """The call with all that the job brings along."""
        body = work.slip.input
        stored = await self.journal.submission(work.slip.input_seq) if empty(body) else bytes(body)
        call.submit = calls.read(stored or b"null")
        if isinstance(served.adapter, port.Keeps):
            call.left = await self._left(work)
        request = calls.call_of(
            work, call.submit, context_tokens=served.context_of(call.model), boot=boot, earlier=tuple(call.left)
        )
        return await brought(request, call.submit, self.journal, work.tenant)

    async def _left(self, work: Work) -> dict[str, int]:
        """The keys of the calls that the job's earlier attempts may have left on the backend, and their rounds."""
        found: dict[str, int] = {}
        for n in left_behind(work.attempts, work.backend):
            claim = await self.journal.read(Started, tenant=work.tenant, job=work.job, n=n)
            if claim is not None and claim.purpose == "run":
                found[calls.call_key(work.tenant, work.job, n, claim.boot)] = n
        return found

    async def _load(self, work: Work, call: Call) -> None:
        """Put into memory what the call needs; it may take all the time that the attempt has."""
        if call.ended:
            raise TimeoutError
        call.switched = True
        limits: dict[Limit, float] = {"deadline": work.slip.deadline_at - self.clock()}
        if work.longest_seconds:
            limits["gpu_time"] = work.longest_seconds
        try:
            async with call.arm(limits):
                await self.load(call)
        finally:
            call.scope = None

    async def _next(self, stream: AsyncGenerator[port.Item, None], work: Work, call: Call, served: Served) -> port.Item:
        """What comes next. Our own timer cancels; a TimeoutError in the stream is the adapter's, and no silence."""
        if call.ended:
            raise TimeoutError
        call.called = True
        call.silent_seconds = calls.patience(work, call.course.stage, served.offer)
        limits: dict[Limit, float] = {
            "deadline": work.slip.deadline_at - self.clock(), "silence": call.silent_seconds,
        }  # fmt: skip
        if work.longest_seconds:
            limits["gpu_time"] = call.began + work.longest_seconds - asyncio.get_running_loop().time()
        told = port.SENDING.set(call.sending)
        try:
            async with call.arm(limits):
                try:
                    return await anext(stream)
                except TimeoutError as error:
                    text = f"the adapter gave up waiting: {error or 'no reason given'}"
                    raise port.BackendError("timeout", text) from error
                except (port.BackendError, StopAsyncIteration):
                    raise
                except Exception as error:
                    log.exception("%s: its adapter failed", work.backend)
                    raise calls.broken(error) from error
        finally:
            port.SENDING.reset(told)
            call.scope = None

    async def _take(self, item: port.Item, work: Work, call: Call) -> Sequence[Said]:
        """Take in what came; what to say of it."""
        now = asyncio.get_running_loop().time()
        call.came = True
        if isinstance(item, port.TookUp):
            call.took_up = call.left[item.key]
            return [call.course.mark("called", f"it goes on with what attempt {call.took_up} had begun")]
        if isinstance(item, port.Step):
            step = call.course.step(item, now)
            return [step] if step else []
        call.course.alive()
        if isinstance(item, port.Artifact):
            await call.shelf.put(item)
            return []
        if isinstance(item, port.Answer):
            call.answer = placed(item) if checks.wants_json(work) else item
            return []
        if not item.text:
            return []  # A sign of life: the model thinks.
        said: list[Said] = []
        if call.first is None:
            call.first = now - call.began
            said.append(call.course.mark("first_token"))
        for text in calls.pieces(item.text):
            said.append(Chunk(tenant=work.tenant, job=work.job, n=work.n, number=len(call.pieces), text=text))
            call.pieces.append(text)
        return said

    # --------------------------------------------------------------------------------------------- the end

    def _limited(self, work: Work, call: Call) -> dict[str, Any]:
        """Which limit of ours ended it."""
        if call.limit == "aborted":
            return _failure("aborted", "the job was ended while it ran", partial=call.text)
        if call.limit == "deadline":
            return _failure("expired", f"{work.backend}: the job's deadline came while it ran", partial=call.text)
        if call.limit == "gpu_time":
            text = f"{work.backend}: ran for {work.longest_seconds:g} s, the most that time on a GPU is reserved for"
            return _failure("over_gpu_time", text, partial=call.text)
        return _failure("timeout", f"{work.backend}: silent for {call.silent_seconds:g} s", partial=call.text)

    async def _failed(
        self, work: Work, call: Call, failure: dict[str, Any], facts: dict[str, Any], boot: str
    ) -> Attempted:
        error: port.BackendError | None = failure.get("error")
        served = self.served.get(work.backend)
        begun = served is not None and call.begun(served.adapter, error)
        stopped = failure["outcome"] in calls.STOPPED
        if failure["outcome"] == "expired" and begun and not call.came and not await self.answers(work.backend):
            # Otherwise a backend that hangs is never noticed where all jobs have short deadlines.
            text = (
                f"{work.backend}: it said nothing until the job's deadline, and does not answer a health check either"
            )
            failure, stopped = _failure("timeout", text), False
        partial = str(failure.get("partial", ""))
        made = self._made(call, facts["latency_seconds"], error, partial=partial, stopped=stopped)
        end = calls.end_of(work, error, made, begun=begun, files=bool(call.shelf.made))
        await call.shelf.clear()
        if failure["outcome"] == "connection_error":
            self.doubted(work.backend)
        if failure["outcome"] in UNHEARD and begun:
            self.leaves(work, boot)
        return self.attempted(
            work, failure["outcome"], problem=failure["problem"], partial=partial[: calls.PARTIAL_CHARACTERS],
            **calls.counted(accounting.spent(work, made, end), begun=begun), **facts,
        )  # fmt: skip

    @staticmethod
    def _made(
        call: Call, seconds: float, error: port.BackendError | None = None, *, partial: str = "", stopped: bool = False
    ) -> accounting.Made:
        """What came of the call: its answer, or what had come before it failed."""
        if call.answer is not None:
            answer = call.answer
            return accounting.Made(
                text=answer.text, tool_calls=answer.tool_calls, refusal=answer.refusal, usage=answer.usage,
                seconds=seconds, worked=True, full=answer.finish_reason == "length",
            )  # fmt: skip
        usage = error.usage if error is not None and error.usage is not None else port.Usage()
        return accounting.Made(text=partial, usage=usage, seconds=seconds, stopped=stopped, worked=call.course.worked)

    def _examined(self, work: Work, call: Call) -> checks.Found:
        assert call.answer is not None
        assert call.submit is not None
        return checks.examined(call.answer, call.shelf.made, work, call.submit)

    async def _answered(self, work: Work, call: Call, found: checks.Found, facts: dict[str, Any]) -> Attempted:
        answer, wrong = call.answer, found.problem
        assert answer is not None
        if wrong:
            await call.shelf.clear()
            partial = answer.text[: calls.PARTIAL_CHARACTERS]
            return self.attempted(work, wrong.reason, problem=wrong, partial=partial, **facts)
        result: Result = results.result_of(
            answer, as_json=checks.wants_json(work), artifacts=call.shelf.artifacts(answer.seed), checks=found.checks
        )
        if results.weight(answer) * 6 > results.LARGE_RESULT_BYTES:  # JSON makes up to six bytes of one character.
            result = await results.put_aside(self.journal, work, result)
        return self.attempted(work, "ok", result=result, **facts)


def _failure(outcome: str, message: str, *, reason: str = "", field: str = "", partial: str = "") -> dict[str, Any]:
    problem = Problem(reason=reason or outcome, message=message, field=field[:200])
    return {"outcome": outcome, "problem": problem, "partial": partial}
