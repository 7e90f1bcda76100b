"""From a routing slip to a backend's request, and what a call cost. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.executor.backends import port
from actors.executor.degrade import degraded
from actors.executor.inputs import placed
from messages import JobSubmit, Offer, Problem, Usage, Work, adjusted, token
from messages.values import Asset

PARTIAL_CHARACTERS = 4_000
PIECE_CHARACTERS = 32_768
PATIENCE: Final[dict[Asset, float]] = {"text": 1.0, "embedding": 3.0, "image": 6.0, "audio": 6.0, "video": 15.0}
"""How much longer than the policy's `stall_seconds` (20 s unless it says otherwise) a backend may be silent, by what it makes.
Text streams. Embeddings of many texts come all at once. An image, and a sound, is seconds to two minutes of work that some
servers do without a word; a video is minutes of it, and one step of it may take half of one."""
LOADING: Final = 6.0
"""The same while it says that it loads a model, starts a worker or has the call in its queue: two minutes."""


def model_of(work: Work) -> str:
    """The model that really runs: the variant that the quality level names, else the granted one."""
    return work.parameters.model or work.model


def key_of(work: Work) -> str:
    """Names an attempt: what it makes lies under it, and a repeated run of it has the same."""
    return f"{token(work.tenant)}/{token(work.job)}/{work.n}"  # A `/` in a name must not lead to another's.


def read(body: bytes) -> JobSubmit:
    """A submission from its body. Raises msgspec.MsgspecError when it is none."""
    return msgspec.json.decode(body, type=JobSubmit)


def call_of(work: Work, submit: JobSubmit, *, context_tokens: int | None = None) -> port.Call:
    """The request of one attempt, degraded as it was decided; only places for the files that the job brings along are in it.

    `context_tokens` is the model's limit for prompt and answer together; None: unknown.
    """
    needs = work.slip.needs
    embeds = needs.asset == "embedding"
    call = port.Call(
        key=key_of(work),
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
        context_tokens=needs.input_tokens + work.max_output_tokens,
        media=adjusted(needs.media, work.parameters),
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


def usage_of(usage: port.Usage | None) -> Usage:
    """The backend's usage as a message carries it."""
    if usage is None:
        return Usage()
    return Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens, reasoning_tokens=usage.reasoning_tokens, estimated=usage.estimated,
        gpu_seconds=usage.gpu_seconds,
    )  # fmt: skip


def counted(work: Work, usage: Usage, text: str) -> Usage:
    """The backend's usage; where it sent none, our own counts, by which the attempt is billed. What has no tokens has none."""
    asset, price = work.slip.needs.asset, work.price
    told = usage.input_tokens is not None or usage.output_tokens is not None
    if told or not (asset in ("text", "embedding") or price.input_per_mtok or price.output_per_mtok):
        return usage
    read, written = _tokens(work, usage, text)
    return msgspec.structs.replace(usage, input_tokens=read, output_tokens=written, estimated=True)


def _tokens(work: Work, usage: Usage, text: str) -> tuple[int, int]:
    """Tokens read and written: as reported, else as the analyzer estimated them and by the text's length."""
    needs = work.slip.needs
    guessed = len(text) // 4 + 1 if text or needs.asset == "text" else 0
    read = needs.input_tokens if usage.input_tokens is None else usage.input_tokens
    return read, guessed if usage.output_tokens is None else usage.output_tokens


def cost(work: Work, usage: Usage, text: str, seconds: float) -> int:
    """What an attempt of `seconds` costs in micro-dollars; tokens the backend did not report are estimated from the text.

    Time on a GPU is what the backend says, else `seconds`. At an unknown price it is all that was admitted for it.
    """
    price, needs = work.price, work.slip.needs
    if price.unknown:
        return work.worst_case_microdollars
    read, written = _tokens(work, usage, text)
    return price.cost(
        read, written, None if needs.asset == "text" else adjusted(needs.media, work.parameters), quality=needs.rated,
        seconds=usage.gpu_seconds if usage.gpu_seconds is not None else seconds,
        cached_tokens=usage.cached_tokens or 0, cache_write_tokens=usage.cache_write_tokens or 0,
    )  # fmt: skip


def problem_of(error: port.BackendError, backend: str) -> Problem:
    """A backend's error as the job's history keeps it: class, status and body whole."""
    return Problem(
        reason=error.kind, message=f"{backend}: {error.message}", status=error.status, body=error.body[:2000],
        retry_after_seconds=error.retry_after_seconds,
    )  # fmt: skip


def broken(error: Exception) -> port.BackendError:
    """What an adapter's own fault means: it must not take the executor and its other backends along."""
    return port.BackendError("invalid_structure", f"its adapter failed: {type(error).__name__}: {error}"[:500])


def outcome_of(error: port.BackendError) -> str:
    """The attempt's outcome for a backend's error; a stream that broke off is a lost connection."""
    return "connection_error" if error.kind == "cut_stream" else error.kind
