"""Kind of work and quality from the words of a request, and its complexity with the parts shown. Pure."""

from __future__ import annotations

import math

from messages import AnalysisRules
from messages.values import Complexity, Media, Quality, Task

TELLING_CHARACTERS = 4_000
"""Of a long text its beginning tells what is wanted; the rest is material."""


def _words(text: str) -> frozenset[bytes]:
    return frozenset(word.encode() for word in text.split())


_TASKS: tuple[tuple[Task, frozenset[bytes], tuple[bytes, ...]], ...] = (
    (
        "code",
        _words(
            "def class import function const select regex python javascript typescript rust sql bug stacktrace refactor "
            "code"
        ),
        (b" stack trace ", b" unit test ", b" unit tests "),
    ),
    (
        "creative",
        _words("story poem haiku slogan lyrics novel tagline screenplay creative"),
        (),
    ),
    (
        "reasoning",
        _words("prove derive puzzle logic"),
        (b" step by step ", b" why does ", b" reason through "),
    ),
    (
        "analytical",
        _words("analyze analyse compare summarize summarise evaluate trend trends extract classify"),
        (b" pros and cons ",),
    ),
)  # fmt: skip
_FINAL = _words("final production publish polished")
_CLIENT_READY = b" client ready "
_DRAFT = _words("draft quick rough sketch brainstorm")


def _plain() -> bytes:
    """ASCII letters in lower case, digits, `_` and all other scripts as they are; the rest becomes space."""
    table = bytearray(b" " * 128 + bytes(range(128, 256)))
    for code in range(128):
        if chr(code).isalnum() or chr(code) == "_":
            table[code] = ord(chr(code).lower())
    return bytes(table)


_PLAIN = _plain()


def telling(text: str) -> tuple[str, frozenset[bytes], bytes]:
    """The beginning of a text as it is, as a set of plain words, and as a line of them."""
    head = text[:TELLING_CHARACTERS]
    words = head.encode("utf-8", "surrogatepass").translate(_PLAIN).split()
    return head, frozenset(words), b" ".join((b"", *words, b""))


Telling = tuple[str, frozenset[bytes], bytes]
NOTHING_TOLD: Telling = ("", frozenset(), b"  ")


def task_of(told: Telling) -> Task:
    """The kind of work, from words that give it away; `chat` when nothing does."""
    head, words, line = told
    if "```" in head:
        return "code"
    for task, names, phrases in _TASKS:
        if not names.isdisjoint(words) or any(phrase in line for phrase in phrases):
            return task
    return "chat"


def quality_of(told: Telling) -> Quality:
    """The quality level the text asks for; `standard` when it does not say."""
    _, words, line = told
    if not _FINAL.isdisjoint(words) or _CLIENT_READY in line:
        return "final"
    return "standard" if _DRAFT.isdisjoint(words) else "draft"


def complexity_of(
    tokens: int, *, task: Task, quality: Quality, asked_tokens: int, counted: bool, rules: AnalysisRules
) -> Complexity:
    """The class of requirement A2.

    `tokens` is what there is to read, `asked_tokens` the output cap that the job stated (0: none), `counted` whether
    there was anything to count. Creative work is `high` when it is final or longer than `long_above`, else `standard`.
    """
    if not counted:
        return "unknown"
    if task == "creative":
        return "high" if quality == "final" or max(tokens, asked_tokens) > rules.long_above else "standard"
    if tokens < rules.simple_below:
        return "simple"
    return "complex" if tokens > rules.complex_above else "medium"


# A task that is recognised first weighs at least as much as one that is recognised later, so that more text can't lower
# the score by making the task another one.
_TASK_POINTS: dict[Task, float] = {
    "code": 20.0, "creative": 15.0, "reasoning": 15.0, "analytical": 10.0, "large_context": 10.0,
}  # fmt: skip
_QUALITY_POINTS: dict[Quality, float] = {"draft": 0.0, "standard": 5.0, "final": 10.0}


def parts_of(
    *, tokens: int, capabilities: int, task: Task, quality: Quality, work: float, media: Media
) -> dict[str, float]:
    """The parts of the complexity score, in points; together at most 100.

    Tokens earn a point for every 40 up to 40, capabilities 5 each up to 15, the task 5 to 20, the quality 0 to 10. Media earn
    3 for each doubling of their work (`actors.analyzer.media`) and 1 for each LoRA, up to 15.
    """
    parts = {
        "tokens": min(40.0, tokens / 40.0),
        "capabilities": min(15.0, 5.0 * capabilities),
        "task": _TASK_POINTS.get(task, 5.0),
        "quality": _QUALITY_POINTS[quality],
    }
    if work:
        parts["media"] = min(15.0, 3.0 * math.log2(1.0 + work) + len(media.loras))
    return parts
