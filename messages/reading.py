"""How much a model may have to read: what the bytes of a request bound, and what stands around them."""

from __future__ import annotations

from typing import Final

from messages.message import Value

LEAST_OUTPUT_TOKENS: Final = 64
"""A shorter answer helps nobody."""


class Bound(Value):
    """What a request gives to read, in figures that no tokenizer can exceed. The counts are charged by `Framing`."""

    tokens: int = 0
    """Of all texts, tools, schemas and tool calls: a token for every byte, in the longest form in which servers render them."""
    messages: int = 0
    """Messages of the conversation, and texts to embed: each has its marks."""
    tools: bool = False
    """Whether tools or a form of the answer are asked for, which servers introduce with words of their own."""
    images: int = 0
    """Images to look at."""
    unbounded: str = ""
    """What no bytes bound, in words (`a video`); empty: everything is bounded."""


class Framing(Value):
    """What a model may read beside the bytes it is given, in tokens at most."""

    template: int = 512
    """Once in every request: what its chat template puts in front, a system prompt of its own included."""
    message: int = 32
    """For every message: the marks around it and the name of its role."""
    tools: int = 1_024
    """Once in a request with tools, or with a form of the answer: the words that introduce them."""
    image: int | None = None
    """For every image, whatever its size; absent: unknown, so that only the context limit bounds it."""
    unbounded: int | None = None
    """A request that nothing bounds counts as so many; absent: it does not run where dollars or tokens are limited."""

    def most(self, bound: Bound, context_tokens: int | None) -> tuple[int | None, str]:
        """The most input tokens of a request, and empty; or None, and what nothing bounds.

        `context_tokens`: what prompt and answer may take together, which bounds everything; None: unknown.
        """
        open_end = bound.unbounded
        if bound.images and self.image is None:
            open_end = open_end or "an image"
        if open_end:
            most = context_tokens if context_tokens is not None else self.unbounded
            return most, "" if most is not None else open_end
        total = bound.tokens + self.template + bound.messages * self.message + bound.images * (self.image or 0)
        if bound.tools:
            total += self.tools
        return total if context_tokens is None or total < context_tokens else context_tokens, ""


class Counted(Value):
    """The input tokens of a job at one model, counted exactly before it is called."""

    backend: str
    """Who counted."""
    model: str
    """For which of its models."""
    tokens: int
    """All that it would read."""
    by: str = ""
    """How, in words: `/tokenize of vLLM`."""


class Room(Value):
    """What one budget leaves for a candidate that was over it."""

    backend: str
    """Who was refused."""
    model: str
    """With which model."""
    budget: str
    """The budget's name."""
    unit: str
    """`microdollars` or `tokens`."""
    left: int
    """What is left of it in its present window; 0 or more."""
    limit: int
    """The whole limit: so much there is in the next window."""
    ends_at: float = 0.0
    """When the present window ends, in seconds since the epoch; 0: never."""

    def at(self, now: float) -> int:
        """What an attempt may take at this time."""
        return self.limit if 0 < self.ends_at <= now else self.left


def least_output(tokens: int) -> int:
    """The shortest cap that an answer gets which was to have `tokens`, so that a limit is kept: a quarter, and 64."""
    return min(tokens, max(LEAST_OUTPUT_TOKENS, tokens // 4))
