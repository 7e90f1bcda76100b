"""How far an executor pulls ahead of its slots: the registry makes a queue that hands out so many, and the executor takes them.
Pure.
"""

from __future__ import annotations

from messages import Offer


def ahead_of(offer: Offer, ahead: int) -> int:
    """Jobs beyond its slots that an executor may hold of a backend: of local ones that share their memory between several
    models or with other backends, where the order matters.
    """
    return ahead if offer.local and (len(offer.models) > 1 or offer.exclusive_group) else 0
