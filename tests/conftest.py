"""How properties are searched: never by the wall clock, and with the same examples for everybody. EXAMPLES=random draws others,
as `make soak` does.

And how several processes share the tests out, as `make test` has it: file by file, in the order of a run in one process, but
those first that take longest. Whatever starts many processes of its own stays together, so that one storm blows at a time.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

LONGEST = (
    "tests/chaos/",
    "tests/install/",
    "tests/simulation/",
    "tests/actors/console/",
    "tests/e2e/",
    "tests/scenarios/",
)
TOGETHER = "tests/chaos/"
OURS = ("messages", "bus", "actors", "scenarios")

# Pipes are as wide here as for everybody, whatever a terminal, or whoever runs several processes, says of its width.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

settings.register_profile(
    "random", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)  # A busy machine is no fault of the code.
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("random" if os.environ.get("EXAMPLES") == "random" else "same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(isinstance(item, pytest.Function) and is_hypothesis_test(item.obj) for item in items):
        load_all()
    if hasattr(config, "workerinput"):
        items.sort(
            key=lambda item: next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))
        )


def load_all() -> None:
    """Hypothesis mixes constants of our loaded modules into its examples, which must not depend on what else runs."""
    for name in OURS:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)

    return Files(config, log)
