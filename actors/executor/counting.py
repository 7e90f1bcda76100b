"""Counting what a model would read for a job, where its backend can: the very request that a run would send."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.inputs import Unusable, brought
from actors.executor.served import Served
from actors.journal import Journal, empty
from bus.bus import BusError
from messages import Counted, CountIs, CountOf, Failover, Problem, Work

PATIENCE_SECONDS: Final = 1.0
"""A job waits for the answer, and is refused without one."""


async def counted(question: CountOf, served: Served, journal: Journal) -> CountIs:
    """The input tokens of a job at a backend that is served here, or why they can't be counted."""
    adapter = served.adapter
    if not isinstance(adapter, port.Counts):
        return _not(question, f"{question.backend} counts no tokens")
    slip = question.slip
    work = Work(
        tenant=slip.tenant, job=slip.job, n=1, backend=question.backend, model=question.model, slip=slip, failover=Failover(),
        max_output_tokens=question.max_output_tokens, parameters=question.parameters,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            stored = await journal.submission(slip.input_seq) if empty(slip.input) else bytes(slip.input)
            submit = calls.read(stored or b"null")
            model = calls.model_of(work)
            request = calls.call_of(work, submit, context_tokens=served.context_of(model))
            tokens = await adapter.count(await brought(request, submit, journal, slip.tenant))
    except TimeoutError:
        return _not(question, f"{question.backend} did not count within {PATIENCE_SECONDS:g} s")
    except (port.BackendError, Unusable, msgspec.MsgspecError, BusError) as error:
        return _not(question, f"{question.backend}: {error}")
    if tokens is None:
        return _not(question, f"{question.backend} can't count this request")
    by = f"counted by {served.offer.protocol}"
    return CountIs(counted=Counted(backend=question.backend, model=model, tokens=tokens, by=by))


def _not(question: CountOf, why: str) -> CountIs:
    return CountIs(problem=Problem(reason="not_counted", message=why[:500], field="model", value=question.model))
