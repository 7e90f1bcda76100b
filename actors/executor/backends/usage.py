"""What an answer used, in whichever words a server says it, believed only where it is possible. Pure.

One reading for all protocols: proxies and local servers mix their words freely. Three rules hold everywhere:

- The parts must add up. Whether reasoning is part of the output or stands beside it, and likewise what the cache held of the
  input, is judged by the total; without one, a part that is larger than the whole stands beside it. What the total has and no
  part explains was made: some servers leave their thoughts out of every part.
- Counts are totals so far: a lower one, a later block of zeros above all, takes nothing back.
- What is no count (negative, a fraction, words, NaN, more than anybody can ask for) was not told. Nobody asks with no token.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from actors.executor.backends.errors import as_object
from actors.executor.backends.port import Usage

MOST_TOKENS: Final = 1_000_000_000
"""No request has more: what says so is no count."""

_INPUT: Final = (
    "prompt_tokens", "input_tokens", "prompt_token_count", "input_token_count", "total_input_tokens", "prompt_eval_count",
    "prompt_n", "tokens_evaluated", "input",
)  # fmt: skip
_OUTPUT: Final = (
    "completion_tokens", "output_tokens", "candidates_token_count", "output_token_count", "completion_token_count",
    "total_output_tokens", "generated_tokens", "eval_count", "predicted_n", "tokens_predicted", "output",
)  # fmt: skip
_TOOL_INPUT: Final = ("tool_use_prompt_token_count", "total_tool_use_tokens")
_TOTAL: Final = ("total_tokens", "total_token_count")
_REASONING: Final = ("reasoning_tokens", "thinking_tokens", "thoughts_token_count", "total_thought_tokens")
_CACHED: Final = (
    "cached_tokens", "cached_input_tokens", "cached_prompt_tokens", "cache_read_input_tokens",
    "cache_read_input_token_count", "prompt_cache_hit_tokens", "cached_content_token_count", "total_cached_tokens",
    "cache_n",
)  # fmt: skip
_WRITTEN: Final = (
    "cache_write_tokens", "cache_creation_input_tokens", "cache_write_input_tokens", "cache_write_input_token_count"
)  # fmt: skip
_DETAILS: Final = (
    "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details",
    "input_token_details", "output_token_details", "tokens", "billed_units",
)  # fmt: skip
_CACHE_BESIDE: Final = frozenset(
    {
        "cache_read_input_tokens", "cache_creation_input_tokens", "cache_write_input_tokens", "cache_n",
        "cache_read_input_token_count", "cache_write_input_token_count",
    }
)  # fmt: skip
"""Words of protocols whose input leaves out what the cache held (Anthropic, Bedrock, llama.cpp) …"""
_CACHE_INSIDE: Final = frozenset({"prompt_tokens"})
"""… unless the block has OpenAI's word for the whole too, as proxies write it."""
_REASONING_BESIDE: Final = frozenset({"thoughts_token_count", "total_thought_tokens"})
"""Google's words, whose output leaves out what was thought."""
_FLAT: Final = frozenset(
    {
        "prompt_eval_count", "eval_count", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens",
        "tokens_evaluated", "tokens_predicted",
    }
)  # fmt: skip
_BLOCKS: Final = (
    "usage", "usageMetadata", "usage_metadata", "timings", "meta", "tokenUsage", "token_usage",
    "amazon-bedrock-invocationMetrics",
)  # fmt: skip
_AROUND: Final = ("response", "message", "x_groq", "output", "interaction", "result", "delta")
"""Objects of an event that may hold a block."""

PIECE: Final = frozenset(
    {"id", "object", "created", "model", "choices", "system_fingerprint", "service_tier", "provider"}
)
PIECE_CHOICE: Final = frozenset({"index", "delta", "finish_reason", "logprobs", "native_finish_reason", "stop_reason"})
PIECE_DELTA: Final = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content", "reasoning_details"}
)
"""Fields that hold no usage, of an event, of its choices and of their pieces."""
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Tally:
    """What one answer used, by all that its events say."""

    def __init__(self) -> None:
        self.told: Usage | None = None
        """What is known so far; None: nothing is."""

    def hear(self, fields: Mapping[str, Any]) -> None:
        """Take in one event, or a whole answer."""
        if is_piece(fields):
            return
        for block in blocks_in(fields):
            self.told = higher(self.told, usage_of(block))


def usage_in(fields: Mapping[str, Any]) -> Usage | None:
    """The usage that one answer reports; None when it reports none."""
    tally = Tally()
    tally.hear(fields)
    return tally.told


def usage_of(block: Mapping[str, Any]) -> Usage:
    """One block of usage in our terms: input with what the cache held, output with what was thought."""
    block = _plain(block)
    details = [_plain(found) for name in _DETAILS if (found := as_object(block.get(name)))]

    def told(*names: str) -> int | None:
        found = [one for part in (block, *details) for name in names if (one := tokens(part.get(name))) is not None]
        return max(found, default=None)

    read, tools = told(*_INPUT), told(*_TOOL_INPUT)
    if tools:
        read = (read or 0) + tools
    cached, written, reasoning, total = told(*_CACHED), told(*_WRITTEN), told(*_REASONING), told(*_TOTAL)
    kept = (cached or 0) + (written or 0)
    beside = bool(block.keys() & _CACHE_BESIDE) and not block.keys() & _CACHE_INSIDE
    inputs = _sums(read, kept, beside=beside)
    apart = bool(block.keys() & _REASONING_BESIDE)
    written_out = told(*_OUTPUT)
    if written_out is None and apart and reasoning is not None:
        written_out = 0  # It has only thought so far.
    outputs = _sums(written_out, reasoning or 0, beside=apart)
    read, made = _fitting(inputs, outputs, total)
    return Usage(
        input_tokens=read,
        output_tokens=made,
        cached_tokens=cached if cached is not None and read is not None and cached <= read else None,
        cache_write_tokens=written if written is not None and read is not None and kept <= read else None,
        reasoning_tokens=reasoning if reasoning is not None and made is not None and reasoning <= made else None,
    )


def tokens(value: object) -> int | None:
    """`value` if it is a possible count of tokens; None: unknown."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():  # NaN and infinities are none either.
        return None
    return int(value) if 0 <= value <= MOST_TOKENS else None


def higher(before: Usage | None, now: Usage) -> Usage:
    """What is known after one more word on the same answer: of every figure the higher."""
    if before is None:
        return now
    return _each(before, now, max)


def added(before: Usage | None, now: Usage | None) -> Usage:
    """What several requests used together; unknown as soon as one does not tell. `before`: None for the first."""
    now = now or Usage()
    if before is None:
        return now
    known: dict[str, Any] = {
        name: None if (a := getattr(before, name)) is None or (b := getattr(now, name)) is None else a + b
        for name in (*_COUNTS, "gpu_seconds")
    }
    # A part that is not told is no part: what the cache held only lowers the price, and reasoning only tells apart.
    return Usage(**known, thought_bytes=before.thought_bytes + now.thought_bytes)


_COUNTS: Final = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def _each(before: Usage, now: Usage, choose: Any) -> Usage:
    found: dict[str, Any] = {}
    for name in (*_COUNTS, "gpu_seconds"):
        known = [one for one in (getattr(before, name), getattr(now, name)) if one is not None]
        found[name] = choose(known) if known else None
    return Usage(**found, thought_bytes=choose(before.thought_bytes, now.thought_bytes))


def _sums(whole: int | None, part: int, *, beside: bool) -> Sequence[int | None]:
    """What a figure may mean, the likeliest first: with its part inside, or beside it."""
    if whole is None:
        return (None,)
    if not part:
        return (whole,)
    if part > whole:
        return (whole + part,)
    return (whole + part, whole) if beside else (whole, whole + part)


def _fitting(
    inputs: Sequence[int | None], outputs: Sequence[int | None], total: int | None
) -> tuple[int | None, int | None]:
    """Input and output that add up to the total; where none do, the likeliest, and what is left over was made."""
    read, made = inputs[0] or None, outputs[0]
    if not total:
        return read, made
    for one in inputs:
        for other in outputs:
            if one and other is not None and one + other == total:
                return one, other
    if read is None:
        return (total - made if made is not None and total > made else None), made
    return read, total - read if total > read + (made or 0) else made


def is_piece(fields: Mapping[str, Any]) -> bool:
    """Whether an event has room for a piece of an answer and nothing else: most of them, and known at a glance."""
    if not PIECE.issuperset(fields):
        return False
    for choice in _objects(fields.get("choices")):
        if not PIECE_CHOICE.issuperset(choice):
            return False
        if (delta := as_object(choice.get("delta"))) and not PIECE_DELTA.issuperset(delta):
            return False
    return True


def blocks_in(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Wherever usage may stand in an event."""
    around = [fields, *(found for name in _AROUND if (found := as_object(fields.get(name))))]
    for choice in _objects(fields.get("choices")):
        around += [choice, *(found for name in ("delta", "message") if (found := as_object(choice.get(name))))]
    for place in around:
        for name in _BLOCKS:
            said: Any = place.get(name)
            yield from (block for block in ([said] if as_object(said) else _objects(said)) if block)
    if fields.keys() & _FLAT:
        yield {name: value for name, value in fields.items() if name not in ("input", "output")}


def _objects(value: object) -> list[dict[str, Any]]:
    listed = value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
    return [one for one in listed if isinstance(one, dict)]  # pyright: ignore[reportUnknownVariableType]


def _plain(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block with its names in one spelling: some servers write `promptTokenCount`, others `prompt_token_count`."""
    return {_spelled(name): value for name, value in block.items()}


@functools.lru_cache(maxsize=1_024)
def _spelled(name: str) -> str:
    return _HUMP.sub("_", name[:64]).lower()
