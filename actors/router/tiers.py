"""The quality tier of a model that nobody ranks: by its family, else by its size. Pure; the table is `quality_tiers.toml`."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from importlib import resources

import msgspec

LOWEST = 1
"""The tier of whom nothing is known."""
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bt])(?![a-z0-9])")
"""`70b`, `8x7b`, `1t`, `0.5b`; not `a3b`, the active part of a mixture."""


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the table."""

    family: str
    """For people."""
    match: str
    """Regular expression that is looked for in a name, as `plain` has it."""
    tier: int
    """1 (small) to 5 (best)."""
    source: str
    """Who says so."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is shipped."""

    image: tuple[Family, ...]
    video: tuple[Family, ...]
    text: tuple[Family, ...]
    from_billions: Mapping[str, tuple[float, ...]]
    """Asset -> sizes from which on the next tier holds, in thousand millions of parameters."""


@cache
def table() -> Table:
    """The shipped table. Raises msgspec.ValidationError for a wrong one."""
    text = resources.files("actors.router").joinpath("quality_tiers.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Table)


def plain(name: str) -> str:
    """A model's name as the table looks at it: without its folder and its ending, in lower case, other characters a hyphen."""
    last = name.replace("\\", "/").rpartition("/")[2]
    last = re.sub(r"\.(safetensors|ckpt|pt|pth|gguf|bin|sft)$", "", last, flags=re.IGNORECASE)
    parted = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "-", last)  # realisticVision
    return re.sub(r"[^a-z0-9]+", "-", parted.lower()).strip("-")


def billions_in(name: str) -> float | None:
    """The size that a model's name tells, in thousand millions of parameters; None: none."""
    found = _SIZE.search(name.lower().replace("_", "-"))
    if found is None:
        return None
    return int(found[1] or 1) * float(found[2]) * (1_000.0 if found[3] == "t" else 1.0)


def tier_of(name: str, capabilities: Collection[str], parameters_billion: float | None) -> int:
    """1 (small) to 5 (best), for what it makes: films, else pictures, else texts."""
    asset = next((one for one in ("video", "image") if one in capabilities), "text")
    return _tier(name, asset, parameters_billion)


@lru_cache(maxsize=8_192)
def _tier(name: str, asset: str, parameters_billion: float | None) -> int:
    billions = billions_in(name) if parameters_billion is None else parameters_billion
    sizes = table().from_billions[asset]
    if asset == "text" and billions is not None:
        return LOWEST + bisect_right(sizes, billions)
    looked_at = plain(name)
    for family in getattr(table(), asset):
        if re.search(family.match, looked_at):
            return family.tier
    return LOWEST if billions is None else LOWEST + bisect_right(sizes, billions)
