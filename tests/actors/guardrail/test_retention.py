"""The ledger's end: counters of windows that are long over go; live and endless ones keep their totals to the unit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.guardrail import retention
from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.retention import FOR_EVER, KEPT_SECONDS, LONGEST, Retention, over_at
from actors.windows import span
from bus.topology import DAY_SECONDS, EV
from messages import Reservation, token
from messages.fleet import Scope, Window
from tests.actors.rig import Rig, play
from tests.messages.samples import T0

WINDOWS: tuple[Window, ...] = ("minute", "hour", "day", "week", "month", "total")
ZONES = ("UTC", "Europe/Berlin", "Pacific/Apia")


def counter(window: Window, at: float, scope: Scope = "tenant", holder: str = "acme", zone: str = "UTC") -> str:
    return f"ledger.{scope}.{token(holder)}.requests.{token(span(window, at, zone).name)}"


@given(st.sampled_from(WINDOWS), st.floats(T0, T0 + 400 * DAY_SECONDS), st.sampled_from(ZONES))
def test_no_window_is_over_before_its_end_and_all_that_could_be_settled(window: Window, at: float, zone: str) -> None:
    over, ends = over_at(counter(window, at, zone=zone), at), span(window, at, zone).ends_at
    if window == "total":
        assert over == FOR_EVER
    else:
        assert ends + EV.max_age_seconds < over <= ends + LONGEST[window] + KEPT_SECONDS


def test_a_jobs_counter_ends_although_its_window_does_not() -> None:
    assert over_at(counter("total", T0, "job", "acme/j-1"), T0) == T0 + KEPT_SECONDS
    assert over_at(counter("total", T0, "user", "acme/ada"), T0) == FOR_EVER


async def use(rig: Rig, place: str, job: str, *, used: int | None = 3) -> None:
    """Hold 5, and settle it, or let it stand."""
    ledger = Ledger(rig.bus)
    held = Reservation(budget="b", subject=place, amount=5, unit="requests", hold="h")
    entry = entry_of(held, tenant="acme", job=job, n=1, backend="a", model="m", at=rig.bus.now())
    await ledger.reserve(held, entry, 10**6)
    if used is not None:
        await ledger.settle(entry, used)


def totals(rig: Rig) -> Counter[str]:
    return Counter({r.subject: int(msgspec.json.decode(r.data)["val"]) for r in rig.server.log("LEDGER")})


def test_what_is_over_goes_and_what_lives_keeps_its_total() -> None:
    async def story(rig: Rig) -> None:
        for number in range(40):
            now = rig.bus.now()
            for window in WINDOWS:
                await use(rig, counter(window, now), f"j-{number}-{window}")
            await use(rig, counter("total", now, "job", f"acme/j-{number}"), f"j-{number}")
            await rig.settle(DAY_SECONDS / 2)  # Twenty days.
        before, now = totals(rig), rig.bus.now()
        kept = Retention(Ledger(rig.bus))
        await kept.clear(now)
        after = totals(rig)
        gone = set(before) - set(after)
        live = {counter(window, now) for window in ("month", "total")}
        assert not gone & live
        assert all(after[place] == before[place] for place in after)
        assert after[counter("total", now)] == 40 * 3
        assert {place.split(".")[-1].partition("-")[0] for place in gone} == {"minute", "hour", "day", "week", "total"}
        oldest = [r for r in rig.server.log("LEDGER") if r.subject == counter("total", now)]
        assert min(r.time for r in oldest) >= now - KEPT_SECONDS, "of what lives on, only what is young is kept"

    play(story)


def test_a_counter_that_nobody_writes_to_keeps_its_last_entry() -> None:
    async def story(rig: Rig) -> None:
        place = counter("total", T0)
        for number in range(5):
            await use(rig, place, f"j-{number}")
        await rig.settle(400 * DAY_SECONDS)
        for _ in range(3):  # However often it starts anew.
            await Retention(Ledger(rig.bus)).clear(rig.bus.now())
        assert len(rig.server.log("LEDGER")) == 1
        assert totals(rig)[place] == 15
        await use(rig, place, "late")
        assert totals(rig)[place] == 18

    play(story)


def test_it_looks_once_a_minute_and_goes_on_at_once_when_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_READ", 7)

    async def story(rig: Rig) -> None:
        for number in range(30):
            await use(rig, counter("minute", rig.bus.now(), holder=f"t{number}"), f"j-{number}")
        await rig.settle(20 * DAY_SECONDS)
        kept, now = Retention(Ledger(rig.bus)), rig.bus.now()
        turns = 0
        while rig.server.log("LEDGER"):
            await kept.clear(now)
            turns += 1
        assert 5 <= turns <= 12
        await kept.clear(now)
        for number in range(2):
            await use(rig, counter("minute", now, holder="new"), f"n-{number}")
        await rig.settle(20 * DAY_SECONDS)
        await kept.clear(now + 1.0)
        assert totals(rig), "not yet"
        await kept.clear(rig.bus.now())
        assert not totals(rig)

    play(story)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(WINDOWS), st.sampled_from(("tenant", "job")), st.integers(0, 2), st.booleans(),
            st.sampled_from((60.0, 3600.0, DAY_SECONDS, 9 * DAY_SECONDS, 35 * DAY_SECONDS)), st.booleans(),
        ),
        min_size=1, max_size=25,
    )
)  # fmt: skip
def test_no_live_counter_ever_loses_anything(walk: list[Any]) -> None:
    """Against a model that never forgets: at every moment, the counter that is written to next stands where it should."""

    async def story(rig: Rig) -> None:
        kept, model = Retention(Ledger(rig.bus)), Counter[str]()
        for number, (window, scope, holder, stands, seconds, anew) in enumerate(walk):
            now = rig.bus.now()
            # A job's counter is its own: no other job comes back to it.
            place = counter(
                "total" if scope == "job" else window, now, scope, f"acme/{number if scope == 'job' else holder}"
            )
            assert totals(rig)[place] == model[place]
            await use(rig, place, f"j-{number}", used=None if stands and scope != "job" else 3)
            model[place] += 5 if stands and scope != "job" else 3
            assert totals(rig)[place] == model[place]
            await rig.settle(seconds)
            if anew:
                kept = Retention(Ledger(rig.bus))
            await kept.clear(rig.bus.now())
        now = rig.bus.now()
        for window in WINDOWS:
            for holder in range(3):
                place = counter(window, now, "tenant", f"acme/{holder}")
                assert totals(rig)[place] == model[place]

    play(story)


def test_what_it_can_not_remember_it_finds_by_reading_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_LATER", 2)

    async def story(rig: Rig) -> None:
        now, kept = rig.bus.now(), Retention(Ledger(rig.bus))
        for number in range(6):
            await use(rig, counter("month", now, holder=f"t{number}"), f"j-{number}")
        await rig.settle(KEPT_SECONDS + 10)
        await kept.clear(rig.bus.now())
        assert len(kept._later) == 2
        assert len(totals(rig)) == 6, "all of them live"
        await rig.settle(31 * DAY_SECONDS + KEPT_SECONDS)
        for _ in range(8):
            await kept.clear(rig.bus.now())
            await rig.settle(DAY_SECONDS)
        assert totals(rig) == {}
        assert kept._later == {}

    play(story)
