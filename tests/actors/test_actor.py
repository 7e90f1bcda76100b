from __future__ import annotations

import pytest

from actors.actor import Actor, Form, Handler, Heard, Says, Steps, Way, answers, every, handlers_of, hears, overhears
from messages import Analyzed, Backend, Decided, Done, Explained, NeedsAre, NeedsOf, Retry, Work


class Everything(Actor):
    room = "everything"
    beat_seconds = 1.0

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None: ...

    @hears
    def analyzed(self, analyzed: Analyzed, heard: Heard) -> Says[Decided | Done]:
        return []

    @hears
    async def decided(self, decided: Decided, heard: Heard) -> Says[Explained]:
        return []

    @hears
    async def work(self, work: Work, heard: Heard) -> Steps[Retry | Done]:
        yield []

    @overhears
    def done(self, done: Done, heard: Heard) -> None: ...

    @answers
    async def needs(self, question: NeedsOf, heard: Heard) -> NeedsAre:
        return NeedsAre()

    @every("beat_seconds")
    def beat(self, heard: Heard) -> Says[Backend]:
        return []

    def helper(self, decided: Decided) -> Says[Done]:
        return []


def test_a_handlers_signature_is_its_subscription_and_its_vocabulary() -> None:
    assert {handler.name: handler for handler in handlers_of(Everything)} == {
        "backend": Handler("backend", Way.HEARS, Form.PLAIN, Backend, ()),
        "analyzed": Handler("analyzed", Way.HEARS, Form.PLAIN, Analyzed, (Decided, Done)),
        "decided": Handler("decided", Way.HEARS, Form.ASYNC, Decided, (Explained,)),
        "work": Handler("work", Way.HEARS, Form.STEPS, Work, (Retry, Done)),
        "done": Handler("done", Way.OVERHEARS, Form.PLAIN, Done, ()),
        "needs": Handler("needs", Way.ANSWERS, Form.ASYNC, NeedsOf, (NeedsAre,)),
        "beat": Handler("beat", Way.EVERY, Form.PLAIN, None, (Backend,), "beat_seconds"),
    }


def test_handlers_are_inherited() -> None:
    class Quieter(Everything):
        @hears
        def analyzed(self, analyzed: Analyzed, heard: Heard) -> Says[Decided]:
            return []

    handlers = {handler.name: handler for handler in handlers_of(Quieter)}
    assert handlers["analyzed"].says == (Decided,)
    assert handlers["beat"].period == "beat_seconds"


def test_a_handler_without_a_message_type_is_refused() -> None:
    class Vague(Actor):
        room = "vague"

        @hears
        def something(self, text: str, heard: Heard) -> None: ...

    with pytest.raises(TypeError, match=r"Vague\.something.*message type"):
        handlers_of(Vague)


def test_a_handler_that_says_one_message_says_it() -> None:
    class Single(Actor):
        room = "single"

        @hears
        def decided(self, decided: Decided, heard: Heard) -> Says[Done]:
            return []

    assert handlers_of(Single)[0].says == (Done,)
