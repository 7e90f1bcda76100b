"""RunPod endpoints of vLLM workers, which speak OpenAI's protocol beside the endpoint's queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from actors.executor.backends.port import Backend, Call, Item, Offer, Vitals


class VllmWorker:
    """An endpoint of vLLM workers: calls go by OpenAI's protocol beside the queue, its health is the queue's."""

    def __init__(self, calls: Backend, queue: Backend) -> None:
        self._calls, self._queue = calls, queue

    def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the chunks, then the answer. A worker that has to start first is silent for as long."""
        return self._calls.run(call)

    async def health(self) -> Vitals:
        """How the endpoint is."""
        return await self._queue.health()

    async def discover(self) -> tuple[Offer, ...]:
        """The models that its workers list; nothing while there is none, since asking would start one, which costs."""
        return () if (await self.health()).cold else await self._calls.discover()

    async def close(self) -> None:
        """Close all connections."""
        await self._calls.close()
        await self._queue.close()
