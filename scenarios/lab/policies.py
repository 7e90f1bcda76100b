"""What chooses in the laboratory: our own router with any of its strategies, and what other systems do.

Everybody sees the same: queues, prices, what has ended. Nobody sees a duration before its job has ended.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from actors.router.decide import decide
from actors.router.view import View
from actors.telemetry.averages import Key, after, general_keys, named_keys
from messages import Attempted, Backend, Load, Media, Model, Needs, Policy, Price, Slip, Stats
from scenarios.lab.world import CHEAP, CHEAP_MICRODOLLARS, FAST, FAST_MICRODOLLARS, LOCAL, Fleet, Job, Ran

BACKENDS = (LOCAL, CHEAP, FAST)
PRICES: Mapping[str, int] = {LOCAL: 0, CHEAP: CHEAP_MICRODOLLARS, FAST: FAST_MICRODOLLARS}
STATED_SECONDS: Mapping[str, float] = {LOCAL: 25.0, CHEAP: 35.0, FAST: 10.0}
"""What an owner would write down for a job before anything is measured."""
CLOUD_SLOTS = 1_000


class Chooser(Protocol):
    """A policy."""

    def choose(self, job: Job, waiting: int, /) -> str:
        """The backend for a job; `waiting` jobs run or wait on the local GPU."""
        ...

    def ended(self, ran: Ran, /) -> None:
        """A job has ended."""
        ...


class Ours:
    """turnout's router: its view, survey, strategies and averages as they run in production.

    `strategy` empty: whatever the policies have for it. `told`: jobs say what their time is worth.
    """

    def __init__(
        self, strategy: str, policies: tuple[Policy, ...], models: tuple[str, ...], *, told: bool = True
    ) -> None:
        own = (Policy(policy="lab", order=1, strategy=strategy),) if strategy else ()
        self.view = View((*own, *policies))
        self.told = told
        self.stats: dict[Key, Stats] = {}
        for number, name in enumerate(BACKENDS, 1):
            local = name == LOCAL
            price = Price(per_image=PRICES[name])
            made = tuple(
                Model(name=model, capabilities=("image", "lora"), price=price, seconds_per_job=STATED_SECONDS[name],
                      swap_seconds=8.0 if local else None) for model in models
            )  # fmt: skip
            self.view.learn_backend(
                Backend(backend=name, protocol="inprocess", local=local, priority=number, models=made, healthy=True,
                        slots=1 if local else CLOUD_SLOTS, executors=("x",), at=0.0)
            )  # fmt: skip
        self.loaded = ""
        self.cloud: dict[str, int] = dict.fromkeys((CHEAP, FAST), 0)

    def choose(self, job: Job, waiting: int, /) -> str:
        """As in production: the load facts are as fresh as can be."""
        now = job.at
        loaded = (self.loaded,) if self.loaded else None
        running = min(1, waiting)
        self.view.learn_load(Load(backend=LOCAL, waiting=waiting - running, running=running, loaded=loaded, at=now))
        for name, count in self.cloud.items():
            self.view.learn_load(Load(backend=name, waiting=0, running=count, at=now))
        needs = Needs(
            task="chat", asset="image", quality="standard", complexity="unknown", complexity_score=0.0, input_tokens=0,
            max_output_tokens=1, capabilities=("image",), model=job.model, workflow=job.kind,
            media=Media(images=job.images, steps=job.steps), stated=("steps",),
            value_per_hour_microdollars=round(job.per_second * 3600) if self.told else None,
        )  # fmt: skip
        slip = Slip(
            tenant="lab",
            job=str(job.number),
            submitted_at=now,
            deadline_at=now + 86_400,
            input_seq=job.number,
            needs=needs,
        )
        chosen = decide(slip, n=1, attempts=(), excluded=(), view=self.view, now=now).decided.ranking[0].backend
        if chosen == LOCAL:
            self.loaded = job.model
        else:
            self.cloud[chosen] += 1
        return chosen

    def ended(self, ran: Ran, /) -> None:
        """Telemetry's averages, and the router hears of them at once."""
        if ran.backend != LOCAL:
            self.cloud[ran.backend] -= 1
        attempted = Attempted(
            tenant="lab", job=str(ran.job.number), n=1, backend=ran.backend, model=ran.job.model, task="chat",
            workflow=ran.job.kind, outcome="ok", switched=ran.switched, billed_microdollars=ran.microdollars,
            latency_seconds=ran.ended - ran.began, at=ran.ended,
        )  # fmt: skip
        for key in (*general_keys(attempted), *named_keys(attempted)):
            self.stats[key] = after(self.stats.get(key), attempted, key)
            self.view.learn_stats(self.stats[key])


class Peer:
    """What other systems do, by name, each with its own memory and its own defaults."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self._random = random.Random(seed)
        self._turn = 0
        self._latency: dict[str, deque[float]] = {name: deque(maxlen=10) for name in BACKENDS}
        self._busy: dict[str, int] = dict.fromkeys(BACKENDS, 0)

    def choose(self, _job: Job, waiting: int, /) -> str:
        """By its own memory; none of them looks at the job."""
        chosen = self._choose(waiting)
        self._busy[chosen] += 1
        return chosen

    def _choose(self, waiting: int) -> str:
        match self.kind:
            case "random":
                return self._random.choice(BACKENDS)
            case "round robin":
                self._turn += 1
                return BACKENDS[self._turn % len(BACKENDS)]
            case "least busy":
                return min(BACKENDS, key=lambda name: self._busy[name])
            case "two choices":
                return min(self._random.sample(BACKENDS, 2), key=lambda name: self._busy[name])
            case "latency of the last 10":
                known = {name: sum(past) / len(past) if past else 0.0 for name, past in self._latency.items()}
                return min(BACKENDS, key=lambda name: known[name])
            case "local if idle, else cheap":
                return CHEAP if waiting else LOCAL
            case "always cheap cloud":
                return CHEAP
            case "always fast cloud":
                return FAST
            case _:
                raise ValueError(f"{self.kind!r} is no policy; use one of {', '.join(PEERS)}")

    def ended(self, ran: Ran, /) -> None:
        """What it remembers of a job."""
        self._busy[ran.backend] -= 1
        self._latency[ran.backend].append(ran.ended - ran.job.at)


PEERS = (
    "random", "round robin", "least busy", "two choices", "latency of the last 10", "local if idle, else cheap",
    "always cheap cloud", "always fast cloud",
)  # fmt: skip


def play(trace: list[Job], chooser: Chooser, *, seed: int = 1) -> list[Ran]:
    """All jobs of a trace under one policy, in the order of their arrival."""
    fleet = Fleet(seed)
    running: list[tuple[float, int, Ran]] = []
    local = 0
    done: list[Ran] = []
    for job in trace:
        while running and running[0][0] <= job.at:
            _, _, ran = heapq.heappop(running)
            local -= ran.backend == LOCAL
            chooser.ended(ran)
        ran = fleet.send(job, chooser.choose(job, local))
        local += ran.backend == LOCAL
        heapq.heappush(running, (ran.ended, job.number, ran))
        done.append(ran)
    return done
