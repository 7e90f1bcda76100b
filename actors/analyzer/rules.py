"""What the policies say to the analyzer. Built anew when one changes; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from messages import AnalysisRules, Policy, Preset
from messages.values import Quality

OUTPUT_CAPS: Mapping[Quality, int] = {"draft": 512, "standard": 1024, "final": 2048}
"""Output tokens allowed where neither the job nor any policy's preset names a cap."""


ROLES = frozenset({"classifier", "writer", "expander", "validator", "style_refiner"})
"""The roles that policies ship for; any other name is a role as well."""


class Rules(msgspec.Struct, frozen=True):
    """The policies' words about understanding jobs: the first policy, by order and name, that says something wins."""

    analysis: AnalysisRules = AnalysisRules()
    """Numbers."""
    presets: Mapping[Quality, Preset] = {}
    """What each quality level changes."""
    catalogue: frozenset[str] = frozenset()
    """Stable ids of models."""
    roles: frozenset[str] = ROLES
    """Roles that are known: those that turnout ships for, and those that rules match."""


def rules_of(policies: Iterable[Policy]) -> Rules:
    """What these policies say together; removed ones do not count."""
    spoken = sorted((one for one in policies if not one.removed), key=lambda one: (one.order, one.policy))
    presets: dict[Quality, Preset] = {}
    for policy in spoken:
        for quality, preset in policy.presets.items():
            presets.setdefault(quality, preset)
    return Rules(
        analysis=next((one.analysis for one in spoken if one.analysis is not None), AnalysisRules()),
        presets=presets,
        catalogue=frozenset(name for one in spoken for name in one.models),
        roles=ROLES.union(role for one in spoken for rule in one.rules for role in rule.match.role),
    )
