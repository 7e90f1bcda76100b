"""Derive a decision again from its stored event alone, and say where the two differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from actors.router.case import Row, Strategy
from actors.router.decide import Choice, choose
from actors.router.strategies import STRATEGIES
from messages import Candidate, Decided


class Underivable(Exception):
    """A decision can't be derived here: something it was made from is missing. The text says what."""


def check(
    stored: Decided, everything: Sequence[Candidate] = (), *, strategies: Mapping[str, Strategy] = STRATEGIES
) -> str:
    """The first place where a decision, or the candidates kept beside it, is not what follows from what it says was seen.

    Empty when all is identical. Raises Underivable.
    """
    choice = _again(stored, everything, strategies)
    found = difference(stored, msgspec.structs.replace(choice.decided, everything=stored.everything))
    return found or (_differ_in(everything, choice.everything(), "everything") if everything else "")


def derive(
    stored: Decided, everything: Sequence[Candidate] = (), *, strategies: Mapping[str, Strategy] = STRATEGIES
) -> Decided:
    """The decision as it must come out, from what the event says was seen.

    `everything`: all candidates, if some were omitted. Raises Underivable.
    """
    choice = _again(stored, everything, strategies)
    return msgspec.structs.replace(choice.decided, everything=stored.everything)


def _again(stored: Decided, everything: Sequence[Candidate], strategies: Mapping[str, Strategy]) -> Choice:
    name = stored.plan.strategy
    if name == stored.strategy and name not in strategies:
        raise Underivable(f"the strategy {name!r} is not installed here")
    if stored.omitted and not everything:
        raise Underivable(f"{stored.omitted} candidates are kept beside the event, and they are not there")
    seen = everything or (*stored.ranking, *stored.others)
    rows = [Row(c.backend, c.model, c.known, c.features) for c in sorted(seen, key=lambda c: (c.backend, c.model))]
    return choose(
        stored.slip,
        n=stored.n,
        attempts=stored.attempts,
        excluded=stored.excluded,
        rows=rows,
        plan=stored.plan,
        failover=stored.failover,
        policy=stored.policy,
        now=stored.at,
        cause=stored.cause,
        rooms=stored.rooms,
        counted=stored.counted,
        strategies=strategies,
    )


def difference(stored: Decided, derived: Decided) -> str:
    """The first place where the two differ, as `path: stored X, derived Y`; empty when they are identical, byte for byte."""
    return _differ_in(stored, derived, "")


def _differ_in(stored: Any, derived: Any, at: str) -> str:
    mine, theirs = msgspec.json.encode(stored), msgspec.json.encode(derived)
    return "" if mine == theirs else _differ(msgspec.json.decode(mine), msgspec.json.decode(theirs), at)


def _differ(stored: Any, derived: Any, at: str) -> str:
    if isinstance(stored, dict) and isinstance(derived, dict):
        mine, theirs = cast("dict[str, Any]", stored), cast("dict[str, Any]", derived)
        for key in (*mine, *(key for key in theirs if key not in mine)):
            found = _differ(mine.get(key), theirs.get(key), f"{at}.{key}" if at else key)
            if found:
                return found
        return ""
    if isinstance(stored, list) and isinstance(derived, list):
        ours, others = cast("list[Any]", stored), cast("list[Any]", derived)
        for number, (one, other) in enumerate(zip(ours, others, strict=False)):
            found = _differ(one, other, f"{at}[{number}]")
            if found:
                return found
        if len(ours) != len(others):
            return f"{at}: stored {len(ours)} entries, derived {len(others)}"
        return ""
    return "" if stored == derived else f"{at}: stored {_shown(stored)}, derived {_shown(derived)}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:80]
