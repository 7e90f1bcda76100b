"""The lock files as they stand: what they pin, where, and by which hashes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
RUNTIME, BUILD, DEV, LOWEST = (f"requirements{part}.txt" for part in ("", "-build", "-dev", "-lowest"))

_ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.+?))?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether it belongs on this machine."""
        return not self.marker or Marker(self.marker).evaluate()

    def __str__(self) -> str:
        """Show it as a lock file does."""
        marker = f" ; {self.marker}" if self.marker else ""
        return f"{self.name}=={self.version}{marker} " + " ".join(f"--hash=sha256:{one}" for one in self.hashes)


def read(lock: str) -> dict[str, Pin]:
    """All pins of a lock by name. Raises ValueError for a line that is no hashed pin."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    found: dict[str, Pin] = {}
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        entry = _ENTRY.fullmatch(line.strip())
        if entry is None:
            raise ValueError(f"{lock}: {line!r} is no pin with hashes")
        name, version, marker = entry["name"], entry["version"], entry["marker"] or ""
        if name in found:
            raise ValueError(f"{lock}: {name} is pinned twice")
        found[name] = Pin(name, version, marker, tuple(re.findall(r"sha256:(\w+)", entry["hashes"])))
    return found


def here(*locks: str) -> dict[str, str]:
    """The versions that these locks put on this machine, by name."""
    return {pin.name: pin.version for lock in locks for pin in read(lock).values() if pin.here}


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
