"""A process that reads GPUs as it is told on standard input: `look`, `ask` (with patience), or `threads`."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import msgspec

from actors.registry.aside import Aside, NoAnswer
from actors.registry.gpu import Nvml

NVML = Nvml("box")
ASIDE = Aside(NVML.look, what="NVML", patience_seconds=0.2)


async def ask() -> dict[str, Any]:
    """Ask beside the loop, and count how often the loop turns meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    try:
        return {"look": await ASIDE()}
    except NoAnswer as error:
        return {"no_answer": str(error), "turns": turns}
    finally:
        turning.cancel()


def main() -> None:
    """Answer each line with a line of JSON."""
    for line in sys.stdin:
        match line.strip():
            case "look":
                answer: Any = NVML.look()
            case "ask":
                answer = asyncio.run(ask())
            case "threads":
                answer = threading.active_count()
            case other:
                raise ValueError(other)
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    print(msgspec.json.encode("pynvml" in sys.modules).decode(), flush=True)
    main()
