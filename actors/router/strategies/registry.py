"""The strategies by name: ours, and those that users add through an entry point."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, cast

import msgspec

from actors.router.case import Case, Row, Scored, Strategy
from actors.router.strategies.adaptive import adaptive
from actors.router.strategies.classes import adaptive_weighted, complexity_based, quality_based
from actors.router.strategies.cost import EXPECTED_COST_PARTS, expected_cost
from actors.router.strategies.load import cost_first, fastest_response, latency_first, least_loaded
from actors.router.strategies.order import context_based, direct, manual, most_capacity, pool_order
from actors.router.strategies.points import WEIGHTED_PARTS, weighted_score
from actors.router.strategies.shares import SHARE_PARTS, usage_based

GROUP = "turnout.strategies"
"""The entry-point group of users' strategies."""

_OURS = (
    Strategy("weighted_score", weighted_score, WEIGHTED_PARTS, summary="A balance of priority, cost, speed and queue."),
    Strategy("expected_cost", expected_cost, EXPECTED_COST_PARTS, summary="The least cost in all: time, price, risk, queue."),
    Strategy("cost_first", cost_first, summary="The cheapest."),
    Strategy("latency_first", latency_first, summary="The one expected to finish first."),
    Strategy("fastest_response", fastest_response, summary="The one whose first token is expected first."),
    Strategy("least_loaded", least_loaded, summary="The one with the fewest jobs per slot, for throughput."),
    Strategy("most_capacity", most_capacity, summary="The largest context, then the most free slots."),
    Strategy("context_based", context_based, summary="Context enough for the job, in the order of the pool."),
    Strategy("manual", manual, summary="The pool in its order, then by priority; nothing measured counts."),
    Strategy("pool_order", pool_order, summary="The pool in its order; among equals the weighted score."),
    Strategy("direct", direct, summary="The first of the pool whatever its load; others only as fallbacks."),
    Strategy("usage_based", usage_based, relative=True, summary="Who was used least, relative to its share."),
    Strategy("complexity_based", complexity_based, relative=True, summary="The members of the job's class, with overflow."),
    Strategy(
        "adaptive_weighted", adaptive_weighted, SHARE_PARTS, relative=True,
        summary="The members of the job's class, with overflow; target shares where the class is unknown.",
    ),
    Strategy("quality_based", quality_based, SHARE_PARTS, relative=True, summary="The best quality: tier, rating, then time."),
    Strategy("adaptive", adaptive, relative=True, summary="The quickest by rolling averages, with a little exploration."),
)  # fmt: skip

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({strategy.name: strategy for strategy in _OURS})
"""Our strategies by name (requirement C2)."""


class StrategyError(ValueError):
    """A user's strategy can't be used, or answered what is no score; the message names it and its distribution."""


def load_strategies(entry_points: Iterable[metadata.EntryPoint] | None = None) -> Mapping[str, Strategy]:
    """Ours and the users' own, by name; those of the installed distributions unless `entry_points` are given.

    An entry point of the group `turnout.strategies` names a `Strategy`, or a callable `(rows, case)` that returns one number
    per row; its strategy bears the entry point's name. Raises StrategyError when it can't be imported, is neither, or has the
    name of another one.
    """
    points = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
    found, origins = dict(STRATEGIES), dict.fromkeys(STRATEGIES, "turnout")
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        origin = _origin(point)
        if point.name in found:
            message = (
                f"{origin} adds the strategy {point.name!r}, but {origins[point.name]} has one of that name; rename it"
            )
            raise StrategyError(message)
        found[point.name], origins[point.name] = _loaded(point, origin), origin
    return MappingProxyType(found)


def _origin(point: metadata.EntryPoint) -> str:
    """The distribution an entry point comes from, for people."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else f"the entry point {point.value}"


def _loaded(point: metadata.EntryPoint, origin: str) -> Strategy:
    what = f"strategy {point.name!r} of {origin}"
    try:
        made: object = point.load()
    except Exception as error:
        raise StrategyError(f"{what} can't be imported from {point.value}: {type(error).__name__}: {error}") from error
    if isinstance(made, Strategy):
        return msgspec.structs.replace(made, name=point.name, score=guarded(what, made.score, made.parts))
    if not callable(made):
        raise StrategyError(f"{what} is {type(made).__name__}, neither a Strategy nor callable as (rows, case)")
    if inspect.iscoroutinefunction(made):
        raise StrategyError(f"{what} is asynchronous; a strategy is a plain function")
    try:
        inspect.signature(made).bind((), None)
    except TypeError as error:
        raise StrategyError(f"{what} can't be called as (rows, case): {error}") from error
    except ValueError:
        pass  # Compiled code may have no signature; the first call tells.
    summary = (inspect.getdoc(made) or "").partition("\n")[0]
    # Nobody knows whether it compares candidates, so the careful answer.
    return Strategy(point.name, guarded(what, made), relative=True, summary=summary)


def guarded(
    what: str, score: Callable[[Sequence[Row], Case], object], names: Sequence[str] = ()
) -> Callable[[Sequence[Row], Case], Scored]:
    """`score`, with every answer checked: one finite number per row, parts as named, an explored row that exists.

    The result raises StrategyError, beginning with `what`, when the answer is none, or when `score` raises.
    """

    def checked(rows: Sequence[Row], case: Case) -> Scored:
        if not rows:
            return Scored([])
        try:
            answer = score(tuple(rows), case)  # A copy: sorting it must not sort the caller's.
        except Exception as error:
            raise StrategyError(f"{what} failed on job {case.job}: {type(error).__name__}: {error}") from error
        scored = answer if isinstance(answer, Scored) else Scored(cast("Any", answer))
        scores = _numbers(what, "score", scored.scores, len(rows))
        parts = scored.parts
        if parts:
            if len(parts) != len(rows):
                raise StrategyError(f"{what} returned the parts of {len(parts)} scores for {len(rows)} rows")
            parts = [tuple(_numbers(what, "part", part, len(names))) for part in parts]
        explored, number = scored.explored, scored.number
        if explored is not None and explored not in range(len(rows)):
            raise StrategyError(f"{what} explored row {explored!r} of {len(rows)}")
        if number is not None:
            (number,) = _numbers(what, "number for exploration", [number], 1)
        return Scored(scores, parts, number, explored)

    return checked


def _numbers(what: str, kind: str, given: object, count: int) -> list[float]:
    """`given` as finite floats, or StrategyError."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise StrategyError(f"{what} returned {type(given).__name__} instead of a list of {kind}s")
    values = cast("Sequence[object]", given)
    if len(values) != count:
        raise StrategyError(f"{what} returned {len(values)} {kind}s where {count} are due")
    found: list[float] = []
    for value in values:
        if value is True or value is False or not isinstance(value, numbers.Real):
            raise StrategyError(f"{what} returned {value!r} as a {kind}, which is no number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise StrategyError(f"{what} returned {number} as a {kind}; every {kind} must be finite")
        found.append(number)
    return found
