"""A table whose names come from outside, and which therefore has a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V], Generic[K, V]):
    """A dictionary of at most `most` rows: beyond it the one that was written longest ago goes.

    Writing a row makes it the newest, whether it was there or not; reading changes nothing. So what goes is what nobody has
    written to for longest, and a table must only hold what can be forgotten or found again. Every call takes constant time.
    """

    def __init__(self, most: int, gone: Callable[[K, V], None] | None = None) -> None:
        """`gone` is told of each row that has to go for a newer one, once it has gone; not of those that are deleted."""
        super().__init__()
        self.most = most
        """Rows that it keeps, 1 or more."""
        self._gone = gone

    def in_place(self, key: K, value: V) -> None:
        """Write a row; one that is there keeps its place in the order, so that nobody loses their turn by coming again."""
        if key in self:
            super().__setitem__(key, value)
        else:
            self[key] = value

    def __setitem__(self, key: K, value: V) -> None:
        """Write a row, and let the oldest go when there are too many."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.most:
            oldest, row = self.popitem(last=False)
            if self._gone is not None:
                self._gone(oldest, row)
