"""The fleet of seed 002 (`002_be4394d5e206ede2.txt`), and a view of any fleet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.router.view import View
from messages import Backend, Breaker, Model, Policy, Price
from tests.messages.samples import T0, backend


def of_002(capability: str = "text") -> tuple[Backend, ...]:
    """Seed 002, `Backend Configuration`: local free 10 s, cloud $0.007 20 s, gemini $0.08 5 s."""
    figures = (("local", True, 1, 0, 10.0), ("cloud", False, 2, 7_000, 20.0), ("gemini", False, 3, 80_000, 5.0))
    return tuple(
        backend(
            name, local=local, priority=priority, slots=1,
            models=(Model(name="sdxl", capabilities=(capability,), price=Price(per_request=price), seconds_per_job=seconds),),
        )
        for name, local, priority, price, seconds in figures
    )  # fmt: skip


def view_of(*backends: Backend, policies: tuple[Policy, ...] = ()) -> View:
    view = View(policies)
    for one in backends:
        view.learn_backend(one)
    return view


def paused() -> View:
    """A view of one backend whose breaker is open."""
    view = view_of(backend("a"))
    view.learn_breaker(Breaker(backend="a", model="m", open_until=T0 + 30, reason="3 failures", through_seq=1))
    return view


NOBODY: tuple[tuple[Callable[[], View], dict[str, Any], str], ...] = (
    (View, {}, "no backend is known"),
    (paused, {}, "a/m has an open breaker for 30 s: 3 failures"),
    (lambda: view_of(backend("a")), {"capabilities": ("vision",)}, "a/m lacks vision"),
)
"""Views, what a job needs, and why nobody there may run it."""
