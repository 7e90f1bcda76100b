"""The explainer: why did this job go where it went?"""

from __future__ import annotations

from actors.actor import Actor, Heard, Says, hears
from actors.explainer.words import explain
from messages import Decided, Explained


class Explainer(Actor):
    """Turns every decision into words a person can use."""

    room = "explainer"

    @hears
    def decided(self, decided: Decided, heard: Heard) -> Says[Explained]:
        return [explain(decided)]
