"""`turnout rebalance`: forget what was measured."""

from __future__ import annotations

import asyncio
import getpass
from typing import Annotated

from cyclopts import Parameter

from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import OK, Complaint, clean, count, out
from bus import codec
from bus.bus import Bus, Signal
from messages import Epoch, Rebalance, Rebalanced

PATIENCE_SECONDS = 5.0


def rebalance(
    *,
    by: Annotated[str, Parameter(help="Who asks, for the record. [your user name]")] = "",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Forget what was measured: every backend gets an equal share until it is measured again."""
    return play(_rebalance(by or user(), where, output))


def user() -> str:
    """The name of who runs the command; `unknown` where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container may run under a number that nobody has.
        return "unknown"


async def _rebalance(by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        answer = await reset(bus, by)
    if output.machine:
        output.one(answer)
    else:
        out.print(summary(answer, by), soft_wrap=True)
    return OK


def summary(answer: Rebalanced, by: str) -> str:
    """What has happened, in one line."""
    return (
        f"epoch {answer.epoch} by {clean(by)}: {count(answer.forgotten, 'average')} forgotten, "
        "shares are equal until the backends are measured again"
    )


async def reset(bus: Bus, by: str) -> Rebalanced:
    """Ask for it and wait until it is stored. Raises Complaint when it does not come to that."""
    stored: asyncio.Queue[int] = asyncio.Queue()

    async def on_epoch(signal: Signal) -> None:
        stored.put_nowait(codec.decode(Epoch, signal.data, signal.headers).epoch)

    hearing = await bus.subscribe(Epoch.channel.public, on_epoch)
    try:
        answer = await ask(bus, Rebalance(by=by), Rebalanced)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await stored.get() < answer.epoch:
                pass
    except TimeoutError:
        text = f"telemetry began to forget, but nothing was stored within {PATIENCE_SECONDS:g} s"
        raise Complaint(text, hint="once more: turnout rebalance") from None
    finally:
        await hearing.stop()
    return answer
