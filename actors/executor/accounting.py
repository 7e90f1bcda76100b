"""What an attempt has used, in every unit that is counted. Pure.

Four ways to end, and what follows for what the backend did not tell:

- The request never began: nothing.
- The backend refused it, before it made anything: nothing, but for what it told.
- The answer is whole: everything that was sent and made is here, so what is not told is estimated from it.
- It began and did not end (cut, silent, stopped): nobody knows what was made, so it counts as the most it can be, which is what
  was reserved; of what is known in part, the rest counts as the most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from actors.executor.backends import port
from actors.executor.backends.errors import as_object
from actors.executor.backends.usage import tokens
from messages import Correction, Price, Usage, Work, adjusted

End = Literal["unsent", "refused", "whole", "unfinished"]
"""How a call ended, as far as what it used goes."""
BYTES_PER_TOKEN: Final = 4
"""Of an estimate: so many bytes of UTF-8 for a token. For English a token is four letters; other scripts need more bytes."""
MOST_BYTES_PER_TOKEN: Final = 256
"""No vocabulary has a longer token: a count that says so is none."""
STOPPING_SECONDS: Final = 1.0
"""A backend whose call we stop works on for so long at most: what the guardrail reserves for it."""
_MOST_SECONDS: Final = 1e9


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt has used. In the amounts that budgets count None is: not known, so all that was reserved."""

    usage: Usage = Usage()
    """Tokens as they are known or estimated."""
    microdollars: int = 0
    tokens: int | None = 0
    gpu_milliseconds: int | None = 0


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call, and what is told of it."""

    text: str = ""
    """What it wrote; of a call that did not end, what had come."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    refusal: str = ""
    """Why the model would not answer, which it wrote as well."""
    usage: port.Usage = port.Usage()
    seconds: float = 0.0
    """From the call to its end."""
    stopped: bool = False
    """We ended it, and its backend stopped working for us. Otherwise nobody knows for how long it went on."""
    worked: bool = False
    """It had begun to make something, as far as it says."""
    full: bool = False
    """It says that it wrote as much as it was allowed to."""

    @property
    def bytes(self) -> int:
        """How much was written, as UTF-8: text, a refusal, calls of tools, and reasoning that came beside them."""
        functions = [as_object(one.get("function")) or {} for one in self.tool_calls]
        told = [str(part) for one in functions for part in one.values() if part]
        return sum(map(_size, (self.text, self.refusal, *told))) + max(0, self.usage.thought_bytes)


def spent(work: Work, made: Made, end: End) -> Spent:
    """What an attempt that ended so has used."""
    if end == "unsent":
        return Spent()
    told = believed(made)
    if end == "refused":
        return _refused(work, made, told)
    return _whole(work, made, told) if end == "whole" else _unfinished(work, made, told)


def shared(work: Work, made: Made, rounds: Sequence[int]) -> tuple[Spent, tuple[Correction, ...]]:
    """What an attempt has used that brought to its end what earlier ones had begun, and what those have used after all.

    One call is billed once: its time before this attempt to the first of `rounds`, which began it, and all else to this one.
    Where the backend does not tell how long it worked, what was counted for the others stays.
    """
    whole, told = spent(work, made, "whole"), believed(made).gpu_seconds
    if told is None or not rounds:
        return whole, ()
    usage = msgspec.structs.replace(made.usage, gpu_seconds=min(told, made.seconds))
    own = spent(work, msgspec.structs.replace(made, usage=usage), "whole")
    first = Correction(
        n=rounds[0], billed_microdollars=max(0, whole.microdollars - own.microdollars),
        counted_gpu_milliseconds=max(0, (whole.gpu_milliseconds or 0) - (own.gpu_milliseconds or 0)),
    )  # fmt: skip
    return own, (first, *(Correction(n=n) for n in rounds[1:]))


def believed(made: Made) -> Usage:
    """What the backend told, as far as it is possible: nobody reads nothing, or writes more than so many tokens can hold."""
    usage, size = made.usage, made.bytes
    read, written = tokens(usage.input_tokens), tokens(usage.output_tokens)
    if written is not None and written * MOST_BYTES_PER_TOKEN < size:
        written = None
    read = read or None
    cached, put, thought = (
        tokens(one) for one in (usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens)
    )
    parts = (cached or 0) + (put or 0)
    fits = read is not None and parts <= read
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=cached if fits else None,
        cache_write_tokens=put if fits else None,
        reasoning_tokens=thought if written is not None and thought is not None and thought <= written else None,
        gpu_seconds=_seconds(usage.gpu_seconds),
    )


def estimated_output(made: Made) -> int:
    """Tokens that were written, from how much is here."""
    return made.bytes // BYTES_PER_TOKEN + 1 if made.bytes else 0


def _whole(work: Work, made: Made, told: Usage) -> Spent:
    usage = told
    if counts_tokens(work) and (told.input_tokens is None or told.output_tokens is None):
        usage = msgspec.structs.replace(
            told,
            input_tokens=work.slip.needs.input_tokens if told.input_tokens is None else told.input_tokens,
            output_tokens=_output(work, made) if told.output_tokens is None else told.output_tokens,
            estimated=True,
        )
    known = usage.input_tokens is not None and usage.output_tokens is not None
    price = work.price
    return Spent(
        usage=usage,
        microdollars=work.worst_case_microdollars if price.unknown else _cost(work, usage, made.seconds),
        tokens=(usage.input_tokens or 0) + (usage.output_tokens or 0) if known else None,
        gpu_milliseconds=_milliseconds(made.seconds if told.gpu_seconds is None else told.gpu_seconds),
    )


def _refused(work: Work, made: Made, told: Usage) -> Spent:
    """What it told counts; so does the time that it worked on hardware that is paid by time."""
    worked = told.gpu_seconds is not None or made.worked
    seconds = made.seconds if told.gpu_seconds is None else told.gpu_seconds
    price = work.price
    billed = price.cost(
        told.input_tokens or 0, told.output_tokens or 0, seconds=seconds if worked else 0.0,
        cached_tokens=told.cached_tokens or 0, cache_write_tokens=told.cache_write_tokens or 0,
    )  # fmt: skip
    return Spent(
        usage=told,
        microdollars=0 if price.unknown else billed - price.per_request,
        tokens=(told.input_tokens or 0) + (told.output_tokens or 0),
        gpu_milliseconds=_milliseconds(seconds) if worked else 0,
    )


def _unfinished(work: Work, made: Made, told: Usage) -> Spent:
    """Output that was told is what there was so far: the rest may have come after it. No estimate exceeds what was reserved."""
    read, least = told.input_tokens, told.output_tokens or 0
    seen = max(least, estimated_output(made))
    most = max(work.max_output_tokens, seen)
    usage = told
    if counts_tokens(work) and (made.bytes or read is not None or told.output_tokens is not None):
        needed = work.slip.needs.input_tokens if read is None else read
        usage = msgspec.structs.replace(told, input_tokens=needed, output_tokens=seen, estimated=True)
    until = made.seconds + STOPPING_SECONDS if made.stopped else None
    seconds = until if told.gpu_seconds is None else told.gpu_seconds
    time = None if seconds is None else _milliseconds(seconds)
    if time is not None and told.gpu_seconds is None:
        time = max(_milliseconds(made.seconds), min(time, _reserved(work, "gpu_milliseconds")))
    return Spent(
        usage=usage,
        microdollars=_most(work, told, most, seconds),
        tokens=None if read is None else max(read + least, min(read + most, _reserved(work, "tokens"))),
        gpu_milliseconds=time,
    )


def _most(work: Work, told: Usage, most: int, seconds: float | None) -> int:
    """What it may cost: no more than was reserved, unless more is known. `seconds`: None is unknown."""
    price, worst = work.price, work.worst_case_microdollars
    if price.unknown:
        return worst
    known = _cost(work, told, 0.0) if told != Usage() else 0
    if (by_tokens(price) and told.input_tokens is None) or (price.per_gpu_second and seconds is None):
        return max(known, worst)
    return max(known, min(worst, _cost(work, msgspec.structs.replace(told, output_tokens=most), seconds or 0.0)))


def _cost(work: Work, usage: Usage, seconds: float) -> int:
    """Micro-dollars for so much. Time on a GPU is what the backend says, else `seconds`."""
    needs = work.slip.needs
    return work.price.cost(
        usage.input_tokens or 0, usage.output_tokens or 0,
        None if needs.asset == "text" else adjusted(needs.media, work.parameters), quality=needs.rated,
        seconds=seconds if usage.gpu_seconds is None else usage.gpu_seconds,
        cached_tokens=usage.cached_tokens or 0, cache_write_tokens=usage.cache_write_tokens or 0,
    )  # fmt: skip


def _output(work: Work, made: Made) -> int:
    """Estimated output of a whole answer; a text that holds nothing had its end at least, and one that was stopped at its
    longest has used what it was allowed to.
    """
    return max(
        estimated_output(made) or int(work.slip.needs.asset == "text"), work.max_output_tokens if made.full else 0
    )


def counts_tokens(work: Work) -> bool:
    """Whether what it makes is counted in tokens: what is neither text nor paid by them has none."""
    return work.slip.needs.asset in ("text", "embedding") or by_tokens(work.price)


def by_tokens(price: Price) -> bool:
    """Whether a price depends on tokens."""
    return bool(
        price.input_per_mtok or price.output_per_mtok or price.cached_input_per_mtok or price.cache_write_per_mtok
        or price.long_input_per_mtok or price.long_output_per_mtok or price.long_cached_input_per_mtok
        or price.long_cache_write_per_mtok
    )  # fmt: skip


def _reserved(work: Work, unit: str) -> int:
    """The most that a budget holds of a unit for the attempt; so much that it bounds nothing when none does."""
    return max((one.amount for one in work.reserved if one.unit == unit), default=2**62)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MOST_SECONDS else None  # NaN is not.


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
