"""The text of an answer in the making, with the model's thoughts told apart from it. Pure, and indifferent to cuts.

Servers without a parser for thoughts send them as text, between marks. Only marks at the very beginning count, as models that
think write them, or a closing mark alone, whose opening one stood in the prompt; a mark in quotes or in code is text.
"""

from __future__ import annotations

import re
from typing import Final

MARKS: Final[tuple[tuple[str, str], ...]] = (
    ("<think>", "</think>"),
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""In lower case, as models of DeepSeek and Qwen, Gemini, Nova, Seed, Mistral, Kimi and gpt-oss write them."""
NEVER_ENDED: Final = "the thoughts before it never ended: it is told with them"

_LONE: Final = tuple(close for start, close in MARKS if "channel" not in start)
_HARMONY_REST: Final = re.compile(r"(?:<\|end\|>)?(?:<\|start\|>assistant)?\s*\Z")
_QUOTES: Final = "`'\"“”"


class Texts:
    """Text that comes in pieces. What may belong to a mark is held back until it is clear."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._thought: list[str] = []
        self._held = ""
        self._close = ""  # The mark that ends the thoughts we are in.
        self._begun = False  # The answer itself has begun.
        self._told = False  # Some thoughts have ended: white space between them and the answer belongs to neither.
        self.never_ended = False
        """Thoughts were told as text because no answer followed them."""

    @property
    def text(self) -> str:
        """What counts as the answer so far."""
        return "".join(self._shown)

    @property
    def reasoning(self) -> str:
        """What was thought so far."""
        return "".join(self._thought)

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._held or self._close)

    def think(self, piece: str) -> None:
        """Add thoughts that the protocol itself tells apart."""
        self._thought.append(piece)

    def add(self, piece: str) -> str:
        """Add a piece; what of it, and of what was held back, may be shown."""
        if self._begun:
            self._shown.append(piece)
            return piece
        self._held += piece
        while True:
            if self._close:
                if not self._leave():
                    return ""
            elif not self._enter():
                break
        if not self._begun:
            return ""
        shown, self._held = self._held, ""
        self._shown.append(shown)
        return shown

    def end(self, *, whole: bool) -> str:
        """What was held back and turns out to be text, once nothing more comes. `whole`: the answer ended by itself, so
        thoughts that nothing follows are all it has to say. Call it once; `text` is final then.
        """
        rest, self._held = self._held, ""
        if self._close:
            self._thought.append(rest)
            if not whole or self.text.strip():
                return ""
            self.never_ended = True
            rest, self._thought = self.reasoning, []
            self._shown.append(rest)
            return rest
        if rest and not self._told:
            self._shown.append(rest)
        else:
            rest = ""
        self._split_at_a_lone_mark()
        return rest

    def _enter(self) -> bool:
        """Whether a mark opens what is held; when it is clear that none does the answer begins."""
        start = self._held.lstrip()
        lower = start.lower()
        for mark, close in MARKS:
            if lower.startswith(mark):
                self._close, self._held = close, start[len(mark) :]
                return True
        if not any(mark.startswith(lower) for mark, _ in MARKS):
            self._begun = True
            if self._told:
                self._held = start
        return False

    def _leave(self) -> bool:
        """Whether the thoughts end in what is held."""
        lower = self._held.lower()
        at = lower.find(self._close) if len(lower) == len(self._held) else self._held.find(self._close)
        if at >= 0:
            self._thought.append(_HARMONY_REST.sub("", self._held[:at]) if "|" in self._close else self._held[:at])
            self._held = self._held[at + len(self._close) :]
            self._close, self._told = "", True
            return True
        kept = len(self._held) if "|" in self._close else len(self._close) - 1
        if kept < len(self._held):
            self._thought.append(self._held[: len(self._held) - kept])
            self._held = self._held[len(self._held) - kept :]
        return False

    def _split_at_a_lone_mark(self) -> None:
        """Take what stands before a closing mark out of the text: its opening one stood in the prompt."""
        text = self.text
        if self._told or text.lstrip()[:1] in ("{", "["):  # A value in JSON that holds the mark.
            return
        for close in _LONE:
            at = text.find(close)
            if at >= 0 and not _is_quoted(text, at, at + len(close)):
                self._thought.append(text[:at].strip())
                self._shown = [text[at + len(close) :].lstrip()]
                return


def split(text: str) -> tuple[str, str]:
    """A whole text without its thoughts, and the thoughts."""
    texts = Texts()
    texts.add(text)
    texts.end(whole=True)
    return texts.text, texts.reasoning


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether it stands in quotes, or in code."""
    before = text[:start]
    if before.count("```") % 2:
        return True
    line = before.rpartition("\n")[2]
    beside = before[-1:] + text[end : end + 1]
    return line.count("`") % 2 == 1 or any(mark in _QUOTES for mark in beside)
