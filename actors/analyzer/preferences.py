"""Preferences of tenants, users, products, workflows and steps, merged field by field: the nearest that speaks wins."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from messages import JobSubmit, Preference
from messages.values import Quality

AUTO = "auto"
"""As a preferred backend or model: none, whatever a farther scope prefers."""


class Wishes(msgspec.Struct, frozen=True):
    """What a job and its preferences ask for together."""

    quality: Quality | None = None
    strategy: str = ""
    preferred_backend: str = ""
    preferred_model: str = ""
    allow_cloud: bool = True
    prioritize_speed: bool = False
    max_cost_microdollars: int | None = None
    value_per_hour_microdollars: int | None = None
    why: tuple[str, ...] = ()
    """Which scope a value came from, a line each; nothing about the job's own words."""


FIELDS = tuple(name for name in Wishes.__struct_fields__ if name != "why")
_DEFAULTS: dict[str, Any] = {name: getattr(Wishes(), name) for name in FIELDS}


class Preferences:
    """What is known of everybody's preferences, by tenant and scope: no tenant sees another's."""

    def __init__(self, strategies: Collection[str] = ()) -> None:
        self.strategies = frozenset(strategies)
        self._known: dict[str, dict[str, Preference]] = {}

    def hear(self, preference: Preference) -> None:
        """Take in a fact; one that prefers nothing ends what was preferred."""
        if any(getattr(preference, name) is not None for name in FIELDS):
            self._known.setdefault(preference.tenant, {})[preference.scope] = preference
            return
        scopes = self._known.get(preference.tenant, {})
        scopes.pop(preference.scope, None)
        if not scopes:
            self._known.pop(preference.tenant, None)

    def nearest(self, tenant: str, submit: JobSubmit) -> list[Preference]:
        """Those that hold for a job, the nearest first."""
        scopes = self._known.get(tenant)
        if not scopes:
            return []
        named = (
            submit.workflow and submit.step and f"step:{submit.workflow}/{submit.step}",
            submit.workflow and f"workflow:{submit.workflow}",
            submit.product and f"product:{submit.product}",
            submit.user and f"user:{submit.user}",
            "tenant",
        )
        return [scopes[name] for name in named if name in scopes]

    def wishes(self, tenant: str, submit: JobSubmit) -> Wishes:
        """The job's own words, and for what it does not say the nearest preference's.

        A preferred strategy that is not known here is passed over, and `why` says so.
        """
        found: dict[str, Any] = {}
        why: list[str] = []
        near = self.nearest(tenant, submit)
        for name in FIELDS:
            own = getattr(submit, name)
            if own is not None and own != "":
                found[name] = own
                continue
            for preference in near:
                value = getattr(preference, name)
                if value is None or value == "":
                    continue
                if name == "strategy" and value not in self.strategies:
                    why.append(f"strategy {value!r} preferred by {preference.scope} is not known: passed over")
                    continue
                found[name] = value
                why.append(f"{name} {value} preferred by {preference.scope}")
                break
        for name in ("preferred_backend", "preferred_model"):
            if found.get(name) == AUTO:
                found[name] = ""
        return Wishes(**{**_DEFAULTS, **found}, why=tuple(why))
