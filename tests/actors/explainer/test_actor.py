from __future__ import annotations

from actors.actor import Heard
from actors.explainer.actor import Explainer
from actors.explainer.explain import explain
from actors.explainer.memory import WINDOW_JOBS, Memory
from bus import codec, topology
from messages import Decided, Done, Granted
from tests.actors.explainer.test_memory import began, ended
from tests.messages.samples import T0, decided

NOW = Heard(now=T0)


def test_the_room_says_one_explanation_for_a_decision() -> None:
    assert Explainer().decided(decided(), NOW) == [explain(decided(), Memory())]


def test_what_came_of_earlier_jobs_shows_in_the_next_explanation() -> None:
    room = Explainer()
    for place in range(WINDOW_JOBS):
        for quality, cost in (("final", 1_000), ("standard", 100)):
            job = f"{quality}-{place}"
            room.decided(began(job, quality=quality), NOW)
            room.done(ended(job, cost=cost), NOW)
    (explained,) = room.decided(began("next", quality="final"), NOW)
    assert getattr(explained, "suggestions", ()) == (
        "`final` costs 10x `standard` here, and your last 20 `standard` jobs of this kind all succeeded",
    )


def test_its_queue_brings_decisions_and_ends() -> None:
    assert {codec.type_at(pattern) for pattern in topology.EXPLAINER.filters} == {Decided, Granted, Done}
