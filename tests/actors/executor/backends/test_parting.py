import asyncio
from typing import Any

import pytest

from actors.executor.backends import parting
from actors.executor.backends.parting import Parting
from actors.executor.backends.port import BackendError


def test_a_word_is_said_to_its_end_although_its_sender_is_cancelled() -> None:
    said: list[str] = []

    async def word() -> None:
        said.append("began")
        await asyncio.sleep(0.05)
        said.append("ended")

    async def main() -> None:
        words = Parting()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await words.say(word)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.01)
        task.cancel()  # Whoever is impatient cancels twice.
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert said == ["began"]
        await words.settled()
        assert said == ["began", "ended"]
        await words.settled()

    asyncio.run(main())


def test_a_backend_that_is_gone_is_no_trouble() -> None:
    async def word() -> None:
        raise BackendError("connection_error", "nobody listens there")

    async def late() -> None:
        raise TimeoutError

    async def main() -> None:
        await Parting().say(word)
        await Parting().say(late)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_backend_that_does_not_answer_holds_nobody_up(monkeypatch) -> None:
    monkeypatch.setattr(parting, "CANCEL_SECONDS", 0.01)

    async def main() -> None:
        await Parting().say(asyncio.Event().wait)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("fate", ["late", "refused", "never"])
def test_what_begins_while_its_caller_is_cancelled_is_undone(fate: str, monkeypatch) -> None:
    monkeypatch.setattr(parting, "CANCEL_SECONDS", 0.1)
    undone: list[str] = []

    async def ask() -> str:
        await asyncio.sleep(60 if fate == "never" else 0.02)
        if fate == "refused":
            raise BackendError("overloaded", "no place")
        return "job-1"

    async def undo(job: str) -> None:
        undone.append(job)

    async def main() -> None:
        task: asyncio.Task[Any] = asyncio.create_task(Parting().begin(ask, undo))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1, "nothing is left behind"

    asyncio.run(main())
    assert undone == (["job-1"] if fate == "late" else [])


def test_what_has_begun_is_given_and_not_undone() -> None:
    async def ask() -> str:
        return "job-1"

    async def refused() -> str:
        raise BackendError("overloaded", "no place")

    async def undo(job: str) -> None:
        raise AssertionError(job)

    async def main() -> None:
        assert await Parting().begin(ask, undo) == "job-1"
        with pytest.raises(BackendError, match="no place"):
            await Parting().begin(refused, undo)

    asyncio.run(main())
