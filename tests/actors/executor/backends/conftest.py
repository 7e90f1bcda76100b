"""Runs a test's coroutine and checks that it leaves no task behind."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


@pytest.fixture(name="run")
def run_without_leaks() -> Callable[[Coroutine[Any, Any, None]], None]:
    async def guarded(main: Coroutine[Any, Any, None]) -> None:
        await asyncio.wait_for(main, 30)
        gc.collect()
        for _ in range(20):  # Let closed sockets and finalizers end.
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    return lambda main: asyncio.run(guarded(main))
