"""The explainer: why did this job go where it went?"""

from __future__ import annotations

from actors.actor import Actor, Heard, Says, hears
from actors.explainer.explain import explain
from actors.explainer.memory import Memory
from messages import Decided, Done, Explained


class Explainer(Actor):
    """Turns every decision into words a person can use, and keeps in mind how jobs of each kind ended."""

    room = "explainer"

    def __init__(self) -> None:
        self._memory = Memory()

    @hears
    def decided(self, decided: Decided, heard: Heard) -> Says[Explained]:
        self._memory.decided(decided)
        return [explain(decided, self._memory)]

    @hears
    def done(self, done: Done, heard: Heard) -> None:
        self._memory.done(done)
