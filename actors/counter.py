"""Asks over the bus how many tokens a model would read for a job."""

from __future__ import annotations

import logging
from typing import Final

from bus import codec
from bus.bus import Bus, BusError
from messages import Counted, CountIs, CountOf

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 3.0
"""For all questions about one job together."""


class BusCounter:
    """Whoever serves the backend answers; the others stay silent."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def count(self, question: CountOf) -> Counted | None:
        """The count; None when nobody tells one in time."""
        try:
            data = await self._bus.ask(CountOf.channel.prefix, codec.encode(question), timeout_seconds=PATIENCE_SECONDS)
            answer = codec.decode(CountIs, data)
        except (BusError, codec.Undecodable) as error:
            log.info("nobody counts the tokens of %s/%s: %s", question.backend, question.model, error)
            return None
        if answer.problem is not None:
            log.info("%s/%s: %s", question.backend, question.model, answer.problem.message)
        return answer.counted
