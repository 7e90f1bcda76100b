"""Live tests run when they are asked for by their marker, never because a key or a server happens to be there."""

from __future__ import annotations

import pytest

ASKED_BY = {"live": "asks real providers: make live", "local": "asks servers of this machine: make live-local"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, reason in ASKED_BY.items():
            if item.get_closest_marker(marker) and config.getoption("markexpr") != marker:
                item.add_marker(pytest.mark.skip(reason=reason))
