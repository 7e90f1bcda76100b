"""How a command answers: in words, or for machines as JSON. One meaning for all commands.

`json` is one document, a list where there are many. `jsonl` is one object on each line, as soon as it is there. Complaints go to
the standard error in words either way, and the exit code tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from actors.console.screen import out

Format = Literal["text", "json", "jsonl"]


@Parameter(name="*", group="Output")
@dataclass(frozen=True, kw_only=True)
class Output:
    """The form of the answer."""

    output: Annotated[
        Format, Parameter(help="`text`; `json`: one document; `jsonl`: an object per line, as it comes.")
    ] = "text"
    wide: Annotated[bool, Parameter(help="Tables as wide as they need.", negative="")] = False

    @property
    def machine(self) -> bool:
        """Whether a machine reads it."""
        return self.output != "text"

    def one(self, value: object) -> None:
        """The whole answer."""
        _write(value)

    def rows(self, values: Iterable[object]) -> None:
        """The whole answer, a list."""
        if self.output == "json":
            _write(list(values))
            return
        for value in values:
            _write(value)

    def stream(self) -> Stream:
        """An answer that comes bit by bit; to be closed."""
        return Stream(self)


TEXT = Output()


@dataclass
class Stream:
    """What comes bit by bit: at once, or as one list in the end."""

    to: Output
    _kept: list[Any] = field(default_factory=list[Any])

    def put(self, value: object) -> None:
        """One more. In words it is nobody's."""
        if self.to.output == "jsonl":
            _write(value)
        elif self.to.output == "json":
            self._kept.append(value)

    def close(self) -> None:
        """That is all."""
        if self.to.output == "json":
            _write(self._kept)


def _write(value: object) -> None:
    out.file.write(msgspec.json.encode(value).decode() + "\n")
    out.file.flush()
