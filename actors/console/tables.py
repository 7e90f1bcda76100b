"""Tables that fit the screen. Nothing in one is ever cut: what does without is left out, running text is folded, and where even
that does not help every row becomes a block of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.console.screen import err, out

GAP = 2
"""Between the columns."""
WIDE = sys.maxsize // 2
"""As wide as the table needs."""

Cells = Mapping[str, Sequence[Text | str]]
"""The columns by their names, in order; each has one cell for every row."""


class Fitted:
    """A table for so many characters of width, and what it goes without."""

    def __init__(
        self, cells: Cells, width: int, *, right: Iterable[str] = (), fold: Mapping[str, int] | None = None,
        drop: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """`right`: columns that are aligned there. `fold`: columns of text that may be folded, each with the least width that is
        still read well. `drop`: columns that a narrow screen goes without, the first first.
        """
        self._cells = {name: [_text(cell) for cell in column] for name, column in cells.items()}
        self._right, least = frozenset(right), fold or {}
        whole = {name: _widest(name, column) for name, column in self._cells.items()}
        widths = {name: min(length, max(cell_len(name), least.get(name, length))) for name, length in whole.items()}
        self.left_out: list[str] = []
        for name in drop:
            if _total(widths) <= width:
                break
            if name in widths:
                del widths[name]
                self.left_out.append(name)
        room = width - _total(widths)
        for name in least:
            if name in widths and room > 0:
                more = min(room, whole[name] - widths[name])
                widths[name], room = widths[name] + more, room - more
        self._widths = widths
        self.fits = _total(widths) <= width
        """Whether it is a table; otherwise each row is a block."""
        if not self.fits:
            self.left_out = []
        self.width = _total(widths) if self.fits else width

    def __rich__(self) -> RenderableType:
        """What is shown."""
        return self._table() if self.fits else self._blocks()

    def _table(self) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        for name, wide in self._widths.items():
            made.add_column(name, justify="right" if name in self._right else "left", width=wide, overflow="fold")
        for row in zip(*(self._cells[name] for name in self._widths), strict=True):
            made.add_row(*row)
        return made

    def _blocks(self) -> Group:
        names = max(map(cell_len, self._cells), default=0)
        blocks: list[RenderableType] = []
        for row in zip(*self._cells.values(), strict=True):
            made = Table.grid(padding=(0, GAP, 0, 0))
            made.add_column(width=names)
            made.add_column(overflow="fold")
            for name, cell in zip(self._cells, row, strict=True):
                if cell.plain:
                    made.add_row(Text(name, "dim"), cell)
            blocks += [Text(), made] if blocks else [made]
        return Group(*blocks)


def _text(cell: Text | str) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _widest(name: str, column: Sequence[Text]) -> int:
    return max([cell_len(name), *(cell_len(line) for cell in column for line in cell.plain.split("\n"))])


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + GAP * max(0, len(widths) - 1)


def show(
    cells: Cells, *, right: Iterable[str] = (), fold: Mapping[str, int] | None = None, drop: Iterable[str] = (),
    wide: bool = False,
) -> None:  # fmt: skip
    """Print it as wide as the screen, or (`wide`) as it needs; what it goes without is said beside it."""
    made = Fitted(cells, WIDE if wide else out.width, right=right, fold=fold, drop=drop)
    before = out.width
    try:
        out.width = max(before, made.width)
        out.print(made, crop=False)
    finally:
        out.width = before
    if made.left_out:
        err.print(f"left out for want of room: {', '.join(filter(None, made.left_out))}; --wide shows all", style="dim")
