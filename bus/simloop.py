"""A deterministic event loop with virtual time: the same program and seed take the same steps, every time.

- `time()` is virtual: when nothing is ready it jumps to the next timer. Nothing sleeps.
- No sockets, threads or signals: using them raises, so a simulation can't turn nondeterministic unnoticed.
- Tasks and futures hash by creation number: asyncio iterates over sets of them, by default in the order of addresses.
- Nothing ready and no timer left is a deadlock and raises, and so does being busy for ever while no time passes.
- A seed shuffles what is ready at the same moment, which explores interleavings; without one the order is first come,
  first served.

What a program must still avoid: iterating over sets of strings, wall clocks, `random`, `uuid`.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import importlib
import itertools
import logging
import random
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Never, TypeVar, cast

T = TypeVar("T")
log = logging.getLogger(__name__)

_STILL = 1_000_000
"""How many loop steps may follow each other at the same moment."""
_CANCELS = 5
"""How often a task is asked to end before it is given up."""
_STEPS = 10_000
"""How many loop steps all tasks have to end after each of these requests."""


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: the program waits for ever."""


class Livelock(RuntimeError):
    """The program is busy without end while no time passes: virtual time stands still as long as something is ready."""


class StubbornTasks(RuntimeError):
    """Some tasks swallowed every cancellation and were still running at the end."""


class _Numbered:
    """Hashes by number, so that sets have the same order in every run."""

    _number: int

    def __hash__(self) -> int:
        try:
            return self._number
        except AttributeError:
            self._number = next(cast("Any", self).get_loop().numbers)
            return self._number


class SimTask(_Numbered, asyncio.Task[Any]):
    """A task that knows its creation number."""

    def __init__(self, coro: Any, *, loop: SimLoop, **options: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(coro, loop=loop, **options)

    __hash__ = _Numbered.__hash__

    @property
    def number(self) -> int:
        """1 for the first task of a loop."""
        return self._number


class SimFuture(_Numbered, asyncio.Future[Any]):
    """A future that is numbered when it is first hashed."""

    __hash__ = _Numbered.__hash__


class SimHandle(asyncio.Handle):
    """A planned call, made without what asyncio's debug mode needs: there are hundreds of thousands of them.

    Sets what `asyncio.Handle` sets itself, private names included.
    """

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled = False
        self._repr = self._source_traceback = None


class SimTimer(asyncio.TimerHandle):
    """The same for a later time."""

    __slots__ = ()

    def __init__(self, when: float, callback: Any, args: Any, loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled = False
        self._repr = self._source_traceback = None
        self._when, self._scheduled = when, True


class SimLoop(asyncio.AbstractEventLoop):
    """The loop. Use it through `run`."""

    def __init__(self, seed: int | None = None) -> None:
        self.numbers = itertools.count(1)
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_numbers = itertools.count()  # First come, first served among timers of one moment.
        self._cancelled_timers = 0
        self._still = 0
        self._rng = random.Random(seed) if seed is not None else None  # noqa: S311 (interleavings, not secrets)
        self._running = self._closed = self._stopping = False
        self._agens: weakref.WeakValueDictionary[int, AsyncGenerator[Any, Any]] = weakref.WeakValueDictionary()
        self._on_exception: Callable[[Any, dict[str, Any]], object] | None = None
        self._task_factory: Any = None

    # Time.

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        """Run `callback` in the next step."""
        handle = SimHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run `callback` after `delay` virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        """Run `callback` at virtual time `when`."""
        handle = SimTimer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:  # noqa: ARG002 (asyncio calls it)
        self._cancelled_timers += 1
        if self._cancelled_timers > 100 and self._cancelled_timers * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    def _step(self) -> None:
        """Run everything that is ready, after moving the clock to the next timer if nothing is."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
            self._cancelled_timers -= 1
        if not self._ready:
            if not timers:
                raise Deadlock(f"deadlock at {self._now:.6f} s: nothing will wake {self._names()}")
            if timers[0][0] > self._now:
                self._now = timers[0][0]
                self._still = 0
        self._still += 1
        if self._still > _STILL:
            raise Livelock(f"busy at {self._now:.6f} s without end: {self._names()}")
        ready, self._ready = self._ready, []
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        if self._rng is not None and len(ready) > 1:
            self._rng.shuffle(ready)
        for handle in ready:
            if not handle.cancelled():
                handle._run()  # pyright: ignore[reportPrivateUsage]

    def _names(self) -> str:
        tasks = self.tasks()
        more = f" and {len(tasks) - 8} more" if len(tasks) > 8 else ""
        return ", ".join(f"{task.get_name()} ({_place(task)})" for task in tasks[:8]) + more

    # Running.

    def run_forever(self) -> None:
        """Run until `stop`."""
        self._run_while(lambda: not self._stopping)
        self._stopping = False

    def run_until_complete(self, future: Any) -> Any:
        """Run until `future`, which may be a coroutine, is done; its result."""
        made: asyncio.Future[Any] = asyncio.ensure_future(future, loop=self)
        self._run_while(lambda: not made.done())
        return made.result()

    def _run_while(self, condition: Callable[[], bool]) -> None:
        if self._closed or self._running:
            raise RuntimeError("the loop is closed" if self._closed else "the loop is already running")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._agen_started, finalizer=self._agen_dropped)
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while condition():
                self._step()
        finally:
            self._running = False
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def end_tasks(self) -> list[SimTask]:
        """Cancel every task and let it end, in order of creation; those that would not."""
        self._still = 0
        for _ in range(_CANCELS):
            for task in self.tasks():
                task.cancel()
            steps = itertools.count()
            try:
                self._run_while(lambda steps=steps: bool(self.tasks()) and next(steps) < _STEPS)
            except Deadlock:
                continue
            if not self.tasks():
                return []
        return self.tasks()

    def tasks(self) -> list[SimTask]:
        """The tasks that are not done, in order of creation."""
        return sorted((t for t in asyncio.all_tasks(self) if isinstance(t, SimTask)), key=lambda task: task.number)

    def stop(self) -> None:
        """End `run_forever` after this step."""
        self._stopping = True

    def close(self) -> None:
        """Forget everything that is planned."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def is_running(self) -> bool:
        """Whether it runs now."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    # Tasks and futures.

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return SimFuture(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Any = None, **options: Any
    ) -> asyncio.Task[Any]:
        """A task of this loop."""
        if self._task_factory is not None:
            return self._task_factory(self, coro, name=name, context=context, **options)
        return SimTask(coro, loop=self, name=name, context=context, **options)

    def set_task_factory(self, factory: Any) -> None:
        """Replace what makes tasks; such tasks must make sure of their own determinism."""
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """What makes tasks, when replaced."""
        return self._task_factory

    def _agen_started(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._agens[next(self.numbers)] = agen

    def _agen_dropped(self, agen: AsyncGenerator[Any, Any]) -> None:
        if not self._closed:
            self.call_soon(self.create_task, agen.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close the async generators that are left, in order of their start."""
        for _, agen in sorted(self._agens.items()):
            await agen.aclose()

    # Errors.

    def set_exception_handler(self, handler: Any) -> None:
        """Replace what hears of errors nobody awaits."""
        self._on_exception = handler

    def get_exception_handler(self) -> Any:
        """What hears of errors nobody awaits, when replaced."""
        return self._on_exception

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log it."""
        log.error("%s at %.6f s", context.get("message", "error"), self._now, exc_info=context.get("exception"))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Hand an error that nobody awaits to the handler."""
        if self._on_exception is None:
            self.default_exception_handler(context)
        else:
            self._on_exception(self, context)

    def get_debug(self) -> bool:
        """Never: asyncio's debug mode measures real time."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Ignored."""

    # What a simulation must not do: this raises, and every call that needs a network raises NotImplementedError.

    def call_soon_threadsafe(self, callback: Any, *_: Any, context: Context | None = None) -> Never:
        """Refused."""
        del context
        raise RuntimeError(f"call from another thread or a signal in a simulation: {callback!r}")

    def run_in_executor(self, executor: Any, func: Any, *_: Any) -> Never:
        """Refused."""
        del executor
        raise RuntimeError(f"thread in a simulation: {func!r}")

    async def shutdown_default_executor(self) -> None:
        """Nothing to do: there are no threads."""


def _place(task: SimTask) -> str:
    stack = task.get_stack(limit=1)
    return f"{stack[0].f_code.co_qualname}:{stack[0].f_lineno}" if stack else "?"


class _OrderedSet(dict[Any, None]):
    """As much of a set as anyio uses, iterated in order of insertion."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def copy(self) -> _OrderedSet:
        return _OrderedSet(self)


def _order_anyio() -> None:
    """Let anyio cancel child scopes in order of creation, not of addresses; only where anyio was imported."""
    if "anyio" not in sys.modules:
        return
    backend: Any = importlib.import_module("anyio._backends._asyncio")
    if getattr(backend.CancelScope, "_ordered", False):
        return
    plain = backend.CancelScope.__init__

    def ordered(self: Any, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        self._child_scopes = _OrderedSet()

    backend.CancelScope.__init__ = ordered
    backend.CancelScope._ordered = True


def run(main: Coroutine[Any, Any, T], seed: int | None = None) -> T:
    """Run `main` in a loop of its own, end every task it left, and give its result.

    Raises Deadlock when it can't go on, StubbornTasks when it leaves a task that swallows cancellation for ever.
    """
    _order_anyio()
    loop = SimLoop(seed)
    collecting = gc.isenabled()
    gc.disable()  # Finalizers would run at moments that depend on the memory in use.
    try:
        try:
            result = loop.run_until_complete(main)
        finally:
            stubborn = loop.end_tasks()
        loop.run_until_complete(loop.shutdown_asyncgens())
        if stubborn:
            raise StubbornTasks(", ".join(f"{task.get_name()} ({_place(task)})" for task in stubborn))
        return result
    finally:
        loop.close()
        if collecting:
            gc.enable()
