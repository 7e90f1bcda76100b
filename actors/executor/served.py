"""A backend that an executor serves: what is announced of it, how it is called, and how it is."""

from __future__ import annotations

import asyncio

import msgspec

from actors.executor.backends import port
from actors.executor.call import model_of
from messages import Offer, Work

HEALTH_PATIENCE_SECONDS = 5.0


class Served(msgspec.Struct):
    """A backend this executor serves: what it announces, and how it is called. The offer is replaced, never changed."""

    offer: Offer
    adapter: port.Backend

    async def check(self) -> None:
        """Ask the backend how it is, and put that into the offer."""
        reason = ""
        try:
            async with asyncio.timeout(HEALTH_PATIENCE_SECONDS):
                await self.adapter.health()
        except TimeoutError:
            reason = f"no answer to a health check within {HEALTH_PATIENCE_SECONDS:g} s"
        except port.BackendError as error:
            reason = error.message
        self.offer = msgspec.structs.replace(self.offer, healthy=not reason, health_reason=reason)

    def context_of(self, model: str) -> int | None:
        """The model's limit for prompt and answer together; None: unknown."""
        return next((one.context_tokens for one in self.offer.models if one.name == model), None)


def can_run(offer: Offer, work: Work) -> bool:
    """Whether who makes this offer is able to run the work now."""
    return offer.healthy and any(model.name == model_of(work) for model in offer.models)
