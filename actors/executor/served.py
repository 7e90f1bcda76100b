"""A backend that an executor serves: what is announced of it, how it is called, and how it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from actors.executor.backends import port
from actors.executor.call import broken, model_of
from messages import Offer, Work

log = logging.getLogger(__name__)

HEALTH_PATIENCE_SECONDS = 5.0
SLOTS = 256
"""More attempts at once than this must be asked for in the settings."""
LOOKS = 15
"""Health checks after which a model that was called should be listed as loaded."""


class Served(msgspec.Struct):
    """A backend this executor serves: what it announces, and how it is called. The offer is replaced, never changed."""

    offer: Offer
    adapter: port.Backend
    slots: int = 0
    """Attempts at once as configured: the most, which the backend's own number may cut; 0: as it says."""
    usual_slots: int = 0
    """Where neither says anything: those of the first offer."""
    vram_total_mb: int | None = None
    """GPU memory as configured, which comes before the backend's word."""
    well: bool = True
    """Whether it answered the last health check, whatever is announced of it."""
    reason: str = ""
    """Why it did not."""
    taking: str = ""
    """A model that was called and that the backend did not list as loaded since."""
    looks: int = 0
    """How often that is still looked for."""
    stated: bool = False
    """Its models stand in the settings."""
    proven: bool = False
    """A call has worked here."""

    def __post_init__(self) -> None:
        """Keep what was planned. Who serves takes one attempt at least: a kind of one's own may say that it takes none."""
        self.show(slots=max(1, self.offer.slots))
        self.usual_slots = max(1, self.usual_slots or self.offer.slots)
        self.well, self.reason = self.offer.healthy, self.offer.health_reason
        if self.vram_total_mb is None:
            self.vram_total_mb = self.offer.vram_total_mb
        self.turn_to(self.adapter)

    def turn_to(self, adapter: port.Backend) -> None:
        """Call it through this client from now on."""
        self.adapter = adapter
        self.show(switchable=isinstance(adapter, port.Switch))

    @property
    def most(self) -> int:
        """The most attempts at once that there may be; a queue that is heard is not heard with more."""
        return max(self.offer.slots, self.slots or self.usual_slots)

    async def check(
        self, own: Callable[[], int] = lambda: 0, patience_seconds: float = HEALTH_PATIENCE_SECONDS
    ) -> None:
        """Ask the backend how it is, and put that into the offer. `own` tells how many requests there are this executor's."""
        before = own()
        vitals = await self._ask(patience_seconds)
        if vitals is None:
            self.show(healthy=False, health_reason=self.reason, foreign=0)
            return
        there = [count for count in (vitals.waiting, vitals.running) if count is not None]
        told = self.vram_total_mb if self.vram_total_mb is not None else vitals.vram_total_mb
        self.show(
            healthy=True, health_reason="", version=vitals.version or self.offer.version,
            foreign=max(0, sum(there) - max(before, own())), loaded=self._loaded(vitals.loaded), vram_free_mb=vitals.vram_free_mb,
            vram_total_mb=told, cold=vitals.cold, notes=vitals.notes,
            slots=max(1, min(self.slots or SLOTS, vitals.slots or self.slots or self.usual_slots)),
        )  # fmt: skip

    async def answers(self) -> bool:
        """Whether it answers now; what is announced stays."""
        return await self._ask(HEALTH_PATIENCE_SECONDS) is not None

    async def _ask(self, patience_seconds: float) -> port.Vitals | None:
        try:
            async with asyncio.timeout(patience_seconds):
                vitals = await self.adapter.health()
        except TimeoutError:
            self.well, self.reason = False, f"no answer to a health check within {patience_seconds:g} s"
            return None
        except port.BackendError as error:
            if not (isinstance(error, port.NoList) and self._does_without(error)):
                self.well, self.reason = False, why_not(error)
                return None
            note = f"it does not list its models ({error.message}), which is taken as no illness"
            vitals = port.Vitals(notes=(note,))
        except Exception as error:
            if self.well:  # Once: it is asked often.
                log.exception("%s: its adapter failed at a health check", self.offer.backend)
            self.well, self.reason = False, broken(error).message
            return None
        self.well, self.reason = True, ""
        return vitals

    def _does_without(self, error: port.NoList) -> bool:
        """Whether it is no illness that there is no list of models, or none for us to see.

        It says nothing where the models are stated, or where calls work: gateways and services leave the list out.
        """
        hidden = error.kind == "account"  # The key may be wrong for calls, too.
        return self.proven or (self.stated and not hidden)

    def took(self, model: str) -> None:
        """A model is called. If it was not in memory, nobody knows what else still is until the backend is asked again."""
        if self.offer.cold:
            self.show(cold=False)
        loaded = self.offer.loaded
        if loaded is not None and model not in loaded:
            self.taking, self.looks = model, LOOKS
            self.show(loaded=(model,))

    def _loaded(self, told: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """What is in memory: as told, but for a model that is just being loaded."""
        if told is None or not self.taking:
            return told
        self.looks -= 1
        if self.taking in told or self.looks <= 0:
            self.taking = ""
            return told
        return (self.taking,)

    def show(self, **changes: object) -> None:
        """Announce something else from now on."""
        offer = msgspec.structs.replace(self.offer, **changes)
        if offer != self.offer:
            self.offer = offer

    def context_of(self, model: str) -> int | None:
        """The model's limit for prompt and answer together; None: unknown."""
        return next((one.context_tokens for one in self.offer.models if one.name == model), None)


def why_not(error: port.BackendError) -> str:
    """Why a backend can't be used, and for a path that is not there what that may mean."""
    if error.status != HTTPStatus.NOT_FOUND:
        return error.message
    return f"{error.message}; is it another kind of server? `turnout backends add URL` says what is there"


def own_calls(served: Mapping[str, Served], name: str, running: Mapping[Any, Any]) -> int:
    """How many of the running calls (with a `backend` each) go to the same server as backend `name`."""
    adapter = served[name].adapter
    return sum(call.backend in served and served[call.backend].adapter is adapter for call in running.values())


def can_run(offer: Offer, work: Work) -> bool:
    """Whether who makes this offer is able to run the work now."""
    return offer.healthy and any(model.name == model_of(work) for model in offer.models)
