"""The laboratory's backends: one local GPU with a queue and a model in memory, a cheap cloud, a fast cloud. Seeded; pure.

Durations come from the trace; the hours in which a cloud is slow, and its start delays, from a hash. No policy sees them before
a job has ended. The figures are those of our own small study of image traffic, not a measurement of any provider.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import msgspec

LOCAL, CHEAP, FAST = "local", "cheap-cloud", "fast-cloud"
SWITCH_SECONDS = 8.5
"""Median time in which the local GPU loads another model."""
CHEAP_MICRODOLLARS, FAST_MICRODOLLARS = 3_000, 40_000
"""Per image."""
URGENT_SHARE = 0.3
URGENT_PER_SECOND, PATIENT_PER_SECOND = 3_000.0, 200.0
"""Value of time in micro-dollars per second, of so many jobs and of the others."""
_NORMAL = NormalDist()


class Job(msgspec.Struct, frozen=True):
    """One job of a trace, with what only its end reveals."""

    number: int
    at: float
    """Arrival in seconds from the start."""
    tenant: str
    model: str
    images: int
    steps: int
    lora: bool
    kind: str
    """Name of its class: what is known of its size beforehand."""
    seconds: float
    """Time it takes on the local GPU with its model loaded: an outcome."""
    per_second: float
    """What a second of waiting costs, in micro-dollars."""


def chance(*about: object) -> float:
    """A number from 0 to 1 that is always the same for the same words."""
    text = "|".join(str(one) for one in about).encode()
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") + 0.5) / 2**64


def lognormal(median: float, sigma: float, *about: object) -> float:
    """A draw by hash."""
    return median * math.exp(sigma * _NORMAL.inv_cdf(chance(*about)))


def jobs(path: Path, *, most: int | None = None) -> Iterator[Job]:
    """The jobs of an image trace in the order of their arrival; failed ones are left out: their durations say nothing."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if most is not None and number >= most:
                return
            if row["status"] != "ok":
                continue
            images, steps = int(row["num_images"]), int(row["steps"])
            yield Job(
                number=number, at=float(row["arrival_s"]), tenant=row["tenant"], model=row["model"], images=images,
                steps=steps, lora=row["has_lora"] == "1", kind=f"{row['task']}-{min(images, 4)}-{steps // 10}",
                seconds=float(row["exec_s"]),
                per_second=URGENT_PER_SECOND if chance("value", number) < URGENT_SHARE else PATIENT_PER_SECOND,
            )  # fmt: skip


class Ran(msgspec.Struct, frozen=True):
    """How a job went."""

    job: Job
    backend: str
    began: float
    ended: float
    switched: bool
    microdollars: int

    @property
    def cost(self) -> float:
        """Value of the time from arrival to end, and the price; micro-dollars."""
        return self.job.per_second * (self.ended - self.job.at) + self.microdollars


class Fleet:
    """The three backends. The local GPU runs one job at a time in order of arrival; the clouds take everything at once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.free_at = 0.0
        """When the local GPU has worked off what it has."""
        self.loaded = ""
        """The model that the last job in its queue leaves in memory."""

    def send(self, job: Job, backend: str) -> Ran:
        """Run a job there; what happens is settled at once, but nobody may look before it has ended."""
        if backend == LOCAL:
            began = max(job.at, self.free_at)
            switched = self.loaded not in ("", job.model)
            switch = lognormal(SWITCH_SECONDS, 0.7, self.seed, "switch", job.number) if switched else 0.0
            self.free_at, self.loaded = began + switch + job.seconds, job.model
            return Ran(job, backend, began, self.free_at, switched, 0)
        if backend == CHEAP:
            slow = 4.0 if chance(self.seed, "slow cheap", int(job.at // 3600)) < 0.10 else 1.0
            delay = lognormal(6.0, 0.9, self.seed, "delay", job.number)
            return Ran(
                job, backend, job.at, job.at + delay + slow * job.seconds, False, CHEAP_MICRODOLLARS * job.images
            )
        slow = 2.5 if chance(self.seed, "slow fast", int(job.at // 3600)) < 0.06 else 1.0
        return Ran(job, backend, job.at, job.at + 0.35 * slow * job.seconds, False, FAST_MICRODOLLARS * job.images)
