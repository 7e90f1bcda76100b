"""One deployment for all of these tests: each brings its own backends and its own jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.system import System, running


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("e2e")) as made:
        yield made
