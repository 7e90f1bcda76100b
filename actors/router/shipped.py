"""The policies that come with turnout: one file per document of the requirements, read by the loader that users' files pass."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from actors.router.policy_environment import overrides
from actors.router.policyfile import load_policy
from actors.router.strategies.registry import STRATEGIES
from messages.policies import Policy


@cache
def shipped_policies() -> tuple[Policy, ...]:
    """The shipped policies in the order they speak: roles, quality, chains, adaptive, default, balancer."""
    return tuple(sorted(_read("policies").values(), key=lambda policy: (policy.order, policy.policy)))


@cache
def named_sets() -> Mapping[str, Policy]:
    """Which shipped policies one document of the requirements asks for, by its number; each is the policy `set`."""
    return MappingProxyType(dict(sorted(_read("policies/sets").items())))


def _read(place: str) -> dict[str, Policy]:
    """The policies of a folder by the names of their files."""
    folder = resources.files("actors.router").joinpath(*place.split("/"))
    return {
        file.name.removesuffix(".toml"): load_policy(
            file.read_text(encoding="utf-8"), f"{place}/{file.name}", strategies=STRATEGIES
        )
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


def overrides_from(environment: Mapping[str, str]) -> Policy | None:
    """What the environment says instead of the shipped roles (requirement G9); None when it says nothing.

    Raises PolicyError that names the variable.
    """
    roles = next(policy for policy in shipped_policies() if policy.policy == "roles")
    return overrides(environment, roles)
