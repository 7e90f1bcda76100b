"""Having an answer judged by a validator's job, without waiting for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from actors.executor import checks
from actors.executor import validator as asking
from actors.executor.claim import Said
from actors.executor.running import Call
from actors.journal import Journal
from bus.bus import BusError
from messages import Done, JobCancel, Problem, Started, Work

_LOOK_SECONDS = 1.0
"""How often the end of a validator's job is looked for: its signal may be lost."""


class Judge:
    """Submits the jobs that judge, and hears of their ends."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        self.journal, self.clock = journal, clock
        self._judged: dict[tuple[str, str], Call] = {}
        """Calls whose answers a validator looks at, by that one's job."""

    def hear(self, done: Done) -> None:
        """A job has ended; perhaps one that judged."""
        if call := self._judged.get((done.tenant, done.job)):
            call.verdict = done
            call.news.set()

    async def ask(self, work: Work, call: Call, billed: int) -> AsyncGenerator[Said, None]:
        """Let a job in role `validator` look at the answer, and wait for its end, but not for long."""
        seconds = asking.seconds_for(work, self.clock())
        if not seconds or call.ended:
            return
        assert call.answer is not None
        assert call.submit is not None
        artifacts = [one.artifact for one in call.shelf.made]
        job = asking.job_of(work, call.submit, call.answer, artifacts, seconds=seconds, billed=billed)
        key = (work.tenant, job.id)
        self._judged[key] = call
        try:
            yield call.course.mark("working", "a validator looks at the answer")
            yield job
            if not await self._verdict(call, *key, seconds):
                yield JobCancel(tenant=work.tenant, job=job.id, reason="nobody waits for this verdict any more")
        finally:
            self._judged.pop(key, None)

    async def _verdict(self, call: Call, tenant: str, job: str, seconds: float) -> bool:
        """Whether the validator's job has ended in time. When nobody begins it soon it is not waited for."""
        loop = asyncio.get_running_loop()
        began, started = loop.time(), False
        while call.verdict is None and not call.ended:
            waited = loop.time() - began
            if waited >= seconds or (waited >= asking.START_SECONDS and not started):
                return False
            call.news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_SECONDS, seconds - waited)):
                    await call.news.wait()
            if call.verdict is None and not call.ended:
                with contextlib.suppress(BusError):  # What was made must not be lost for a question.
                    started = started or await self.journal.read(Started, tenant=tenant, job=job, n=1) is not None
                    call.verdict = await self.journal.done(tenant, job)
        return call.verdict is not None

    @staticmethod
    def judgement(work: Work, call: Call, found: checks.Found) -> checks.Found:
        """What the checks have found, the validator's word included."""
        if call.ended:
            return checks.Found(Problem(reason="aborted", message="the job was ended while its answer was judged"))
        check = asking.check_of(call.verdict, work)
        if check.verdict != "hard_fail":
            return checks.Found(checks=(*found.checks, check))
        assert call.answer is not None
        text = f"{work.backend}: the validator scores the answer {check.score:g} of 5: {check.message}"
        return checks.Found(Problem(reason="validator_hard_fail", message=text, body=call.answer.text[:2000]))
