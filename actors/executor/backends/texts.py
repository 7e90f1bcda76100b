"""The text of an answer in the making, with the model's thoughts told apart from it. Pure, and indifferent to cuts.

Servers without a parser for thoughts send them as text, between marks. Only marks at the very beginning count, as models that
think write them, or a closing mark alone, whose opening one stood in the prompt; a mark in quotes or in code is text. Marks that
only open the answer, as some models have them, are left out.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

MARKS: Final[tuple[tuple[str, str], ...]] = (
    ("<think>", "</think>"),
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<mm:think>", "</mm:think>"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
)
"""In lower case, as models of DeepSeek and Qwen, Gemini, Nova, Seed, LongCat, MiniMax, Mistral, Kimi, Cohere, OpenThinker,
Apertus and Gemma write them; gpt-oss has headers.
"""
OPENERS: Final = ("<|start_response|>", "<|begin_of_solution|>", "<|begin_of_box|>")
"""Marks that open the answer itself."""
NEVER_ENDED: Final = "the thoughts before it never ended: it is told with them"

FINAL: Final = "<|channel|>final<|message|>"
_WITH_ATTRIBUTES: Final = re.compile(r"<((?:\w{1,10}[:_])?(?:think|thought|thinking))\s[^<>]{0,200}(>)?")
_HEADER: Final = re.compile(
    r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*(analysis|commentary|final)\b[^<>]{0,80}"
    r"(?:<\|constrain\|>[^<>]{0,20})?<\|message\|>"
)
"""What opens a message of gpt-oss."""
_TO_FINAL: Final = re.compile(
    r"(?:<\|(?:end|return|call)\|>)?\s*(?:<\|start\|>\s*assistant)?\s*<\|channel\|>\s*final\b[^<>]{0,80}"
    r"(?:<\|constrain\|>[^<>]{0,20})?<\|message\|>",
    re.IGNORECASE,
)
_HEADER_CHARACTERS: Final = 240
_STARTS: Final = (*(mark for mark, _ in MARKS), *OPENERS, "<|start|>", "<|channel|>")
_TRAIL: Final = re.compile(r"(?:\s*(?:<\|\w{1,30}\|>|<\w{1,20}\|>))+\s*\Z")
_TAIL: Final = 300
_QUOTES: Final = "`'\"“”"


class Texts:
    """Text that comes in pieces. What may belong to a mark is held back until it is clear."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._thought: list[str] = []
        self._held = ""
        self._close = ""  # The mark that ends the thoughts we are in.
        self._begun = False  # The answer itself has begun.
        self._tokens = False  # It came with marks of the model's own grammar, which may stand at its end too.
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
        rest = rest.lstrip() if self._told else rest
        self._shown.append(rest)
        self._split_at_a_lone_mark(whole=whole)
        if self._tokens:
            self._without_tokens()
        return rest

    def _without_tokens(self) -> None:
        """Take the marks that end an answer off a text that began with such."""
        text = self.text
        if found := _TRAIL.search(text, max(0, len(text) - _TAIL)):
            self._shown = [text[: found.start()]]

    def _enter(self) -> bool:
        """Whether a mark opens what is held; when it is clear that none does the answer begins."""
        start = self._held.lstrip()
        lower = start.lower()
        if len(lower) != len(start):  # Letters that grow have no part in any mark.
            lower = start
        for mark, close in MARKS:
            if lower.startswith(mark):
                return self._entered(close, start[len(mark) :], tokens="|" in mark)
        for mark in OPENERS:
            if lower.startswith(mark):
                return self._entered("", start[len(mark) :].lstrip(), tokens=True)
        if found := _HEADER.match(lower):
            return self._entered("" if found[1] == "final" else FINAL, start[found.end() :], tokens=True)
        found = _WITH_ATTRIBUTES.match(lower)
        if found and found[2]:
            return self._entered(f"</{found[1]}>", start[found.end() :], tokens=False)
        if not self._may_open(lower, attributes=found is not None and found.end() == len(lower)):
            self._begun = True
            if self._told:
                self._held = start
        return False

    def _entered(self, close: str, rest: str, *, tokens: bool) -> bool:
        self._close, self._held = close, rest
        self._tokens = self._tokens or tokens
        if not close:
            self._told = True
        return True

    @staticmethod
    def _may_open(lower: str, *, attributes: bool) -> bool:
        """Whether it may become a mark with what follows."""
        if attributes or any(mark.startswith(lower) for mark in _STARTS):
            return True
        headed = lower.startswith(("<|start|>", "<|channel|>")) and "<|message|>" not in lower
        return headed and len(lower) < _HEADER_CHARACTERS

    def _leave(self) -> bool:
        """Whether the thoughts end in what is held."""
        if self._close == FINAL:
            found = _TO_FINAL.search(self._held)
            at, end, kept = (found.start(), found.end(), 0) if found else (-1, 0, _HEADER_CHARACTERS)
        else:
            lower = self._held.lower()
            at = lower.find(self._close) if len(lower) == len(self._held) else self._held.find(self._close)
            end, kept = at + len(self._close), len(self._close) - 1
        if at >= 0:
            self._thought.append(self._held[:at])
            self._held = self._held[end:]
            self._close, self._told = "", True
            return True
        if kept < len(self._held):
            self._thought.append(self._held[: len(self._held) - kept])
            self._held = self._held[len(self._held) - kept :]
        return False

    def _split_at_a_lone_mark(self, *, whole: bool) -> None:
        """Take what stands before a closing mark out of the text: its opening one stood in the prompt, or in the thoughts."""
        text = self.text
        if text.lstrip()[:1] in ("{", "[") and (not whole or _is_json(text)):  # A value in JSON that holds the mark.
            return
        for start, close in MARKS:
            if self._told and start not in self.reasoning.lower():
                continue
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


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return True
