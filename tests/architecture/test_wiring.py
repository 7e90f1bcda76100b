"""All that is said is heard, all that is heard is said, and every queue has one room that understands it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors import node, wiring
from actors.actor import Way, handlers_of
from actors.room import Room
from actors.settings import Settings
from bus import codec, simloop
from bus.memory import MemoryServer
from bus.topology import APART, QUEUES
from messages import Kind, Message, Work, known

ROOT = Path(__file__).resolve().parents[2]
ACTORS = node.actor_classes()
ROWS = wiring.rows(ACTORS)


def built(mode: Any) -> list[Room]:
    """Build all rooms as a node does; nothing runs."""

    async def main() -> list[Room]:
        bus = await MemoryServer().connect("node")
        rooms = node.build(node.ALL_ROOMS, bus, Settings(rooms=mode), offload=node.here)
        for room in rooms:
            if room.name == "telemetry":
                closing: Any = room.actor
                await closing.closing()
        await bus.close()
        return rooms

    return simloop.run(main())


@pytest.fixture(name="rooms", params=["together", "apart"])
def rooms_of_a_node(request: pytest.FixtureRequest) -> tuple[str, list[Room]]:
    return request.param, built(request.param)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.event.__name__)
def test_every_event_is_said_and_heard(row: wiring.Row) -> None:
    assert row.said_by, f"nobody says {row.event.__name__}"
    assert row.heard_by, f"nobody hears {row.event.__name__}; if it is for outsiders, say so in actors/wiring.py"


def test_every_event_has_one_row() -> None:
    assert sorted(row.event.__name__ for row in ROWS) == sorted(kind.__name__ for kind in known().values())


@pytest.mark.parametrize("event", wiring.HEARD_OUTSIDE, ids=lambda event: event.__name__)
def test_what_is_listed_as_for_outsiders_is_heard_by_no_room(event: type[Message]) -> None:
    assert not [actor.room for actor in ACTORS if event in wiring.hears_of(actor)]


@pytest.mark.parametrize("event", wiring.SAID_FROM_OUTSIDE, ids=lambda event: event.__name__)
def test_what_is_listed_as_from_outside_is_said_by_no_room(event: type[Message]) -> None:
    assert not [actor.room for actor in ACTORS if event in wiring.says_of(actor)]


def test_the_actors_are_those_a_node_builds(rooms: tuple[str, list[Room]]) -> None:
    assert sorted(actor.__name__ for actor in ACTORS) == sorted(type(room.actor).__name__ for room in rooms[1])
    assert [room.name for room in rooms[1]] == list(node.ALL_ROOMS)


def test_every_part_is_made_of_rooms_and_every_room_is_in_a_part() -> None:
    assert {room for part in node.PARTS.values() for room in part} == set(node.ALL_ROOMS)


def test_every_queue_is_pulled_by_exactly_one_room(rooms: tuple[str, list[Room]]) -> None:
    mode, built_rooms = rooms
    pulled = Counter(queue.name for room in built_rooms for queue, _ in room.queues)
    expected = {queue.name for queue in (QUEUES if mode == "together" else (*QUEUES, *APART))}
    assert set(pulled) == expected
    assert set(pulled.values()) == {1}


def test_a_room_has_a_handler_for_everything_on_its_queues(rooms: tuple[str, list[Room]]) -> None:
    for room in rooms[1]:
        for queue, slots in room.queues:
            assert slots > 0
            for pattern in queue.filters:
                kind = codec.type_at(pattern)
                assert kind is not None
                assert room.on(kind), f"{room.name} pulls {pattern} and has no handler for it"


def test_every_handler_of_a_stored_event_is_reached(rooms: tuple[str, list[Room]]) -> None:
    """From a queue of its room, or handed on: by any room of its process, or, apart, by itself."""
    mode, built_rooms = rooms
    for room in built_rooms:
        for handler in room.handlers:
            kind = handler.hears
            if kind is None or handler.way is not Way.HEARS or kind.channel.kind not in {Kind.WORK, Kind.RECORD}:
                continue
            queued = kind.channel.pattern in room.filters or kind is Work or kind.channel.prefix == "ledger"
            handed = kind.channel.handed_on and (mode == "together" or kind in wiring.says_of(type(room.actor)))
            assert queued or handed, f"{room.name}.{handler.name} is never called"


def test_work_is_heard_by_who_wishes_for_queues() -> None:
    for actor in ACTORS:
        if Work in wiring.hears_of(actor):
            assert hasattr(actor, "pulls")


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.room)
def test_handlers_hear_and_answer_what_travels_that_way(actor: Any) -> None:
    for handler in handlers_of(actor):
        if handler.way is Way.ANSWERS:
            assert handler.hears is not None
            assert {kind.channel.kind for kind in (handler.hears, *handler.says)} == {Kind.ASK}
        elif handler.way is Way.EVERY:
            assert float(getattr(actor, handler.period, 1.0)) > 0
        else:
            assert handler.hears is not None
            assert handler.hears.channel.kind is not Kind.ASK


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.room)
def test_a_questions_prefix_names_the_room_that_answers(actor: Any) -> None:
    for handler in handlers_of(actor):
        if handler.way is Way.ANSWERS:
            assert handler.hears is not None
            assert handler.hears.channel.prefix.startswith(f"ask.{actor.room}.")


# The page.


def test_the_page_has_the_present_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert wiring.written(page, ACTORS) == page, "run: python -m actors.wiring --write docs/architecture.md"


def test_the_table_is_written_between_the_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{wiring.BEGIN}\nold\n{wiring.END}\nafter\n", encoding="utf-8")
    wiring.main(["--write", str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "\nold\n" not in text
    assert wiring.table(ACTORS) in text
    wiring.main([])
    assert capsys.readouterr().out == wiring.table(ACTORS)


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        wiring.written("nothing here", ACTORS)


def test_every_room_of_the_table_is_described_on_the_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in node.ALL_ROOMS:
        assert f"**{room}**" in page
