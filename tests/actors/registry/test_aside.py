from __future__ import annotations

import asyncio
import threading

import pytest

from actors.registry.aside import Aside, NoAnswer


def test_what_the_call_answers_is_answered_and_what_it_raises_is_raised() -> None:
    answers = iter([1, 2])

    def call() -> int:
        return next(answers, 0) or 1 // 0

    async def story() -> None:
        aside = Aside(call, what="the card")
        assert [await aside(), await aside()] == [1, 2]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await aside()

    asyncio.run(story())


def test_one_that_hangs_is_called_once_and_its_late_answer_is_thrown_away() -> None:
    go, ended = threading.Event(), threading.Event()
    calls: list[str] = []

    def call() -> int:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            go.wait()
        return len(calls)

    async def story() -> None:
        aside = Aside(call, what="the card", patience_seconds=0.01)
        for _ in range(5):
            with pytest.raises(NoAnswer, match=r"^the card has not answered within 0.01 s$"):
                await aside()
        assert calls == ["the card"]
        go.set()
        hung = next(thread for thread in threading.enumerate() if thread.name == "the card")
        hung.join()
        aside.patience_seconds = 60.0
        assert await aside() == 2
        ended.set()

    asyncio.run(story())
    assert ended.is_set()


def test_who_stops_waiting_stops_nothing() -> None:
    go = threading.Event()
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        go.wait()
        return len(calls)

    async def story() -> None:
        aside = Aside(call, what="the card", patience_seconds=60.0)
        first = asyncio.create_task(aside())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(aside())
        await asyncio.sleep(0)
        go.set()
        assert await second == 1, "the call that was under way"

    asyncio.run(story())
    assert calls == [1]
