"""Where things stand in a TOML document: the standard library's reader gives values without positions. Pure."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

Path = tuple[str | int, ...]
"""Keys and list positions from the root: `("rules", 0, "match", "task")`."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'  # The closing quotes may follow one or two that belong to the text.
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")  # A date may hold a blank; what follows on the line is a comment.


def lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every table, key and list element of a document that `tomllib` accepts.

    A table that is made by several headers or dotted keys stands at its own header, else where it was first named.
    Raises ValueError for a text that is no TOML.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.found


def line_of(found: dict[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest thing around it that is written down."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {(): 1}
        self.counts: dict[Path, int] = {}  # Arrays of tables, and how many tables each has so far.
        self.ends = [newline.start() for newline in re.finditer("\n", text)]

    @property
    def line(self) -> int:
        return bisect_left(self.ends, self.at) + 1

    def document(self) -> None:
        here: Path = ()
        self._take(_SPACE)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                here = self._header("[[", "]]")
            elif self.text[self.at] == "[":
                here = self._header("[", "]")
            else:
                self._pair(here)
            self._take(_SPACE)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"line {self.line}: not TOML")
        self.at = match.end()
        return match.group()

    def _expect(self, mark: str) -> None:
        if not self.text.startswith(mark, self.at):
            raise ValueError(f"line {self.line}: not TOML: {mark} is missing")
        self.at += len(mark)

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _header(self, opening: str, closing: str) -> Path:
        line = self.line
        self._expect(opening)
        parts = self._key()
        self._expect(closing)
        path: Path = ()
        for part in parts[:-1]:
            path = (*path, part)
            self.found.setdefault(path, line)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        path = (*path, parts[-1])
        if opening == "[":
            self.found[path] = line
            return path
        self.found.setdefault(path, line)
        self.counts[path] = self.counts.get(path, 0) + 1
        path = (*path, self.counts[path] - 1)
        self.found[path] = line
        return path

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._take(_BLANK)
            if self._next() in {'"', "'"}:
                parts.append(tomllib.loads(f"key = {self._take(_STRING)}")["key"])
            else:
                parts.append(self._take(_BARE))
            self._take(_BLANK)
            if self._next() != ".":
                return parts
            self.at += 1

    def _pair(self, here: Path) -> None:
        line, path = self.line, here
        for part in self._key():
            path = (*path, part)
            self.found.setdefault(path, line)
        self._expect("=")
        self._take(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self._next()
        if first in {'"', "'"}:
            self._take(_STRING)
        elif first == "[":
            self._list(path)
        elif first == "{":
            self._inline(path)
        else:
            self._take(_SCALAR)

    def _list(self, path: Path) -> None:
        self._expect("[")
        index = 0
        while self._more("]"):
            self.found[*path, index] = self.line
            self._value((*path, index))
            index += 1

    def _inline(self, path: Path) -> None:
        self._expect("{")
        while self._more("}"):
            self._pair(path)

    def _more(self, closing: str) -> bool:
        """Whether another element follows before the closing mark."""
        self._take(_SPACE)
        if self._next() == ",":
            self.at += 1
            self._take(_SPACE)
        if self._next() == closing:
            self.at += 1
            return False
        return True
