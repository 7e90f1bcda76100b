"""Runs a test's coroutine and checks that it leaves no task behind."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.actors.executor.backends.conformance import checked


@pytest.fixture(name="run")
def run_without_leaks() -> Callable[[Coroutine[Any, Any, None]], None]:
    return checked
