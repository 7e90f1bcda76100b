from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.host import Host
from actors.registry.actor import Registry
from actors.registry.seats import STALE_SECONDS, gpu_of, seat
from actors.roster import Roster
from bus import codec
from bus.bus import QueueState
from messages import Backend, ExecutorAlive, Gpu, Load, Offer
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0


def offer(**changes: Any) -> Offer:
    given: dict[str, Any] = {"backend": "a", "protocol": "ollama", "local": True, "here": True, **changes}
    return Offer(**given)


def gpu(index: int = 0, host: str = "box", **changes: Any) -> Gpu:
    given: dict[str, Any] = {"memory_total_mb": 24_000, "memory_free_mb": 9_000 + index, "at": T0, **changes}
    return Gpu(host=host, index=index, **given)


def alive(instance: str, host: str) -> ExecutorAlive:
    return ExecutorAlive(instance=instance, boot="b", number=1, host=host, at=T0)


@pytest.mark.parametrize(
    ("one", "gpus", "index"),
    [
        (offer(), [gpu(0)], 0),
        (offer(), [gpu(0), gpu(0, "attic")], 0),
        (offer(), [gpu(0), gpu(-1)], 0),
        (offer(), [gpu(0), gpu(1, at=T0 - STALE_SECONDS - 1)], 0),
        (offer(), [gpu(0), gpu(1)], None),
        (offer(), [gpu(0), gpu(1, problem="it is lost", memory_total_mb=None)], None),
        (offer(gpu=1), [gpu(0), gpu(1)], 1),
        (offer(gpu=1, here=False), [gpu(0), gpu(1)], 1),
        (offer(gpu=2), [gpu(0), gpu(1)], None),
        (offer(gpu=1), [gpu(0)], None),
        (offer(here=False), [gpu(0)], None),
        (offer(local=False), [gpu(0)], None),
        (offer(), [gpu(0, "attic")], None),
        (offer(), [gpu(0, at=T0 - STALE_SECONDS - 1)], None),
        (offer(), [], None),
    ],
)
def test_a_backend_sits_on_the_only_gpu_or_on_the_named_one(one: Offer, gpus: list[Gpu], index: int | None) -> None:
    found = gpu_of(one, "box", gpus, T0)
    assert (found.index if found else None) == index
    assert gpu_of(one, "", gpus, T0) is None


def test_of_several_hosts_the_fullest_counts_and_what_is_configured_stays() -> None:
    living = [alive("e", "box"), alive("f", "attic"), alive("g", "cellar")]
    gpus = [gpu(0, memory_free_mb=9_000), gpu(0, "attic", memory_free_mb=500, memory_total_mb=8_000)]
    seated = seat([("e", offer()), ("f", offer(vram_total_mb=6_000)), ("g", offer())], living, gpus, T0)
    assert seated.free_mb == 500
    assert [one.vram_total_mb for _, one in seated.offers] == [24_000, 6_000, None]
    assert [instance for instance, _ in seated.offers] == ["e", "f", "g"]


def test_memory_that_is_not_known_stays_unknown() -> None:
    seated = seat([("e", offer())], [alive("e", "box")], [gpu(memory_total_mb=None, memory_free_mb=None)], T0)
    assert (seated.free_mb, seated.offers[0][1].vram_total_mb) == (None, None)
    assert seat([("e", offer())], [], [gpu()], T0).free_mb is None


HOSTED = st.lists(
    st.tuples(st.sampled_from(["", "box", "attic"]), st.builds(
        offer, slots=st.integers(1, 8), healthy=st.booleans(), here=st.booleans(),
    )), min_size=1, max_size=6,
)  # fmt: skip
"""Executors by their host, with what each offers of one backend."""


@given(HOSTED)
def test_executors_of_one_server_share_its_slots_and_servers_add_up(hosted: list[tuple[str, Offer]]) -> None:
    living = [alive(f"e{n}", host) for n, (host, _) in enumerate(hosted)]
    seated = seat([(f"e{n}", one) for n, (_, one) in enumerate(hosted)], living, [], T0)
    anybody_well = any(one.healthy for _, one in hosted)
    most: dict[str, int] = {}
    for host, one in hosted:
        if one.healthy or not anybody_well:
            server = host if one.here else ""
            most[server] = max(one.slots, most.get(server, 0))
    assert seated.slots == sum(most.values())
    assert sorted(map(id, (one for server in seated.servers for one in server))) == sorted(
        id(one) for _, one in seated.offers
    )


class Queues:
    """Empty ones."""

    async def set_up(self, backend: str, slots: int) -> None:
        """Nothing to do."""

    async def states(self, backends: Sequence[str]) -> tuple[int, list[QueueState | None]]:
        return 0, [QueueState(waiting=0, running=0) for _ in backends]


def test_the_registry_tells_the_memory_of_the_gpu_below() -> None:
    async def story(rig: Rig) -> None:
        roster = Roster(since=rig.bus.now())
        host: Host = await rig.host(room_of(lambda: Registry(queues=Queues(), roster=roster)))
        assert host.rooms

        async def hear(number: int, *gpus: Gpu, **changes: Any) -> tuple[int | None, int | None]:
            for one in gpus:
                await rig.bus.put_fact(one.subject, codec.encode(one))
            told = ExecutorAlive(
                instance="e", boot="b", number=number, host="box", offers=(offer(**changes),), at=rig.bus.now()
            )
            await rig.settle(0.1)
            await rig.bus.signal(told.subject, codec.encode(told))
            await rig.settle(0.5)
            return rig.stored(Backend)[0].vram_total_mb, rig.stored(Load)[0].vram_free_mb

        now = rig.bus.now()
        assert await hear(1) == (None, None)
        assert await hear(2, gpu(at=now)) == (24_000, 9_000)
        assert await hear(3, gpu(at=now + 1, memory_free_mb=100)) == (24_000, 100)
        assert await hear(4, vram_total_mb=12_000) == (12_000, 100)
        assert await hear(5, gpu(1, at=now)) == (None, None), "which of the two?"
        assert await hear(6, gpu=1) == (24_000, 9_001)

    play(story)
