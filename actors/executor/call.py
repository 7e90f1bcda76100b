"""From a routing slip to a backend's request, and what a call cost. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec

from actors.executor.accounting import End, Made, Spent
from actors.executor.backends import port
from actors.executor.degrade import degraded
from actors.executor.inputs import placed
from actors.succession import needed
from messages import JobSubmit, Offer, Problem, Work, adjusted, token, untoken
from messages.values import Asset

PARTIAL_CHARACTERS = 4_000
_DIGITS: Final = 10
PIECE_CHARACTERS = 32_768
PATIENCE: Final[dict[Asset, float]] = {"text": 1.0, "embedding": 3.0, "image": 6.0, "audio": 6.0, "video": 15.0}
"""How much longer than the policy's `stall_seconds` (20 s unless it says otherwise) a backend may be silent, by what it makes.
Text streams. Embeddings of many texts come all at once. An image, and a sound, is seconds to two minutes of work that some
servers do without a word; a video is minutes of it, and one step of it may take half of one."""
_FIELDS: Final = {
    "images": "count", "width": "width", "height": "height", "steps": "steps", "frames": "frames", "fps": "fps",
    "seconds": "seconds",
}  # fmt: skip
"""Fields of a job's media, and the field of its submission that says them."""
LOADING: Final = 6.0
"""The same while it says that it loads a model, starts a worker or has the call in its queue: two minutes."""

STOPPED: Final = ("aborted", "expired", "over_gpu_time", "executor_lost")
"""Outcomes of calls that we ended: the backend was told so by the end of its connection, and did nothing wrong."""


def model_of(work: Work) -> str:
    """The model that really runs: the variant that the quality level names, else the granted one."""
    return work.parameters.model or work.model


def key_of(work: Work) -> str:
    """Names an attempt: what it makes lies under it."""
    return f"{token(work.tenant)}/{token(work.job)}/{work.n}"  # A `/` in a name must not lead to another's.


def call_key(tenant: str, job: str, n: int, boot: str) -> str:
    """Names an attempt's call for its backend. Others may use that too, with jobs of the same names; `boot` is random."""
    return "/".join((token(tenant), token(job), str(n), token(boot)))


def of_key(key: str) -> tuple[str, str, int, str] | None:
    """Tenant, job, round and boot of a call's key; None: it is none."""
    match key.split("/"):
        case [tenant, job, n, boot] if tenant and job and boot and n.isascii() and n.isdecimal() and len(n) < _DIGITS:
            found = untoken(tenant), untoken(job), int(n), untoken(boot)
            return found if call_key(*found) == key else None
        case _:
            return None


def read(body: bytes) -> JobSubmit:
    """A submission from its body. Raises msgspec.MsgspecError when it is none."""
    return msgspec.json.decode(body, type=JobSubmit)


def call_of(
    work: Work, submit: JobSubmit, *, context_tokens: int | None = None, boot: str = "", earlier: tuple[str, ...] = ()
) -> port.Call:
    """The request of one attempt, degraded as it was decided; only places for the files that the job brings along are in it.

    `context_tokens` is the model's limit for prompt and answer together; None: unknown. `boot`: of the process that calls;
    empty: nobody does. `earlier`: keys of calls that the backend may still have.
    """
    needs = work.slip.needs
    embeds = needs.asset == "embedding"
    call = port.Call(
        key=call_key(work.tenant, work.job, work.n, boot) if boot else "",
        earlier=earlier,
        model=model_of(work),
        asset=needs.asset,
        quality=needs.quality,
        messages=placed(submit.conversation, submit) if needs.asset == "text" else submit.conversation,
        max_output_tokens=work.max_output_tokens,
        temperature=submit.temperature,
        stop=submit.stop,
        seed=submit.seed,
        response_format=submit.response_format,
        tools=submit.tools,
        context_tokens=needed(needs, work.attempts).input_tokens + work.max_output_tokens,
        media=adjusted(needs.media, work.parameters),
        unsaid=tuple(name for name, field in _FIELDS.items() if getattr(submit, field) is None),
        negative_prompt=submit.negative_prompt,
        recipe=needs.recipe,
        graph=submit.graph,
        texts=(*submit.texts, *((submit.prompt,) if submit.prompt else ())) if embeds else (),
        dimensions=submit.dimensions or 0,
    )
    return degraded(call, work.parameters.degrade, style=submit.style, context_tokens=context_tokens)


def patience(work: Work, stage: port.Stage | None, offer: Offer) -> float:
    """For how many seconds the backend may be silent now.

    `stage` is what it said last that it does; None: nothing yet. Then it counts as loading when it is known that the model is
    not in its memory, or that no worker runs.
    """
    absent = offer.loaded is not None and model_of(work) not in offer.loaded
    loads = stage in ("queued", "loading") or (stage is None and (offer.cold or absent))
    usual = PATIENCE[work.slip.needs.asset]
    return work.failover.stall_seconds * (max(usual, LOADING) if loads else usual)


def pieces(text: str) -> list[str]:
    """A piece of an answer in parts that fit into a message, however it is written."""
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]


def counted(spent: Spent, *, begun: bool) -> dict[str, Any]:
    """What an attempt has used, as the fields of its record."""
    return {
        "usage": spent.usage, "begun": begun, "billed_microdollars": spent.microdollars, "counted_tokens": spent.tokens,
        "counted_gpu_milliseconds": spent.gpu_milliseconds,
    }  # fmt: skip


def end_of(work: Work, error: port.BackendError | None, made: Made, *, begun: bool, files: bool) -> End:
    """How a call that failed ended, as far as what it used goes. `files`: it had made some."""
    if not begun:
        return "unsent"
    if error is None or not error.refused:
        return "unfinished"
    if error.kind == "empty":  # It came to its end, and there is nothing.
        paid = error.status is not None and error.status < HTTPStatus.BAD_REQUEST and work.slip.needs.asset == "text"
        return "whole" if paid else "refused"
    return "unfinished" if files or made.bytes or made.usage.output_tokens else "refused"


def problem_of(error: port.BackendError, backend: str) -> Problem:
    """A backend's error as the job's history keeps it: class, status and body whole."""
    return Problem(
        reason=error.kind, message=f"{backend}: {error.message}", status=error.status, body=error.body[:2000],
        retry_after_seconds=error.retry_after_seconds, input_tokens=error.input_tokens, limit_tokens=error.limit_tokens,
    )  # fmt: skip


def broken(error: Exception) -> port.BackendError:
    """What an adapter's own fault means: it must not take the executor and its other backends along."""
    return port.BackendError("invalid_structure", f"its adapter failed: {type(error).__name__}: {error}"[:500])


def outcome_of(error: port.BackendError) -> str:
    """The attempt's outcome for a backend's error; a stream that broke off is a lost connection, and a model that takes less than
    the request holds is one that can't serve it.
    """
    return {"cut_stream": "connection_error", "too_large": "unknown_model"}.get(error.kind, error.kind)
