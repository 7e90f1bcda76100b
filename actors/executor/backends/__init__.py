"""Adapters, one per protocol, all behind the port.

`port` says what an adapter promises, `kinds` which there are, `connection` how a backend is reached. The adapters keep the
port over HTTP, through `wire`. All else is pure: `sse` cuts streams, `completion` folds answers, `errors` classifies
failures, `address` checks settings.
"""

from collections.abc import Callable, Mapping
from typing import Any

from actors.executor.backends.connection import Connection
from actors.executor.backends.kinds import kind as kind_of
from actors.executor.backends.kinds import open_kind
from actors.executor.backends.port import Backend


def open_backend(
    kind: str, url: str, *, api_key: str | None, now: Callable[[], float], headers: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None, **more: Any,
) -> Backend:  # fmt: skip
    """An adapter for the backend at `url`; it connects when it is first used, and must be closed.

    `now` tells epoch seconds, to read dates in `Retry-After`. `headers` go with every request; `options` are those of the
    kind; `more` are the other fields of `Connection`. Raises ValueError naming the field and the value.
    """
    found = kind_of(kind)
    connection = Connection(
        url=found.address(url), api_key=api_key or None, now=now, headers=headers or {}, options=options or {}, **more
    )
    return open_kind(found, connection)
