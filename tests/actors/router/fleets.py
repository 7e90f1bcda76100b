"""Random fleets, policies and jobs: what the router's properties are searched over."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from actors.router.decide import Choice, decide
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from messages import (
    AdaptiveRules,
    Attempt,
    Backend,
    BackendRule,
    Bound,
    Breaker,
    CatalogueEntry,
    Change,
    Counted,
    Decided,
    Epoch,
    Exclusion,
    FailoverRules,
    Load,
    Match,
    Media,
    Message,
    Model,
    Policy,
    Preset,
    Price,
    Problem,
    Room,
    Rule,
    Slip,
    Stats,
    Weights,
)
from messages.fleet import task_key, workflow_key
from tests.messages.samples import T0, slip

BACKENDS = ("a", "b", "c", "d", "e", "f", "g", "h")
MODELS = ("m", "n", "o:7b", "p:latest")
NAMES = (*MODELS, "p", "id-m", "a", "b", "c/n", "nobody")
"""Words of pools and chains: models, ids, backends, and one that means nobody."""
CAPABILITIES = ("code", "vision", "tools", "json")
_numbers = itertools.count()
FIRST = Problem(reason="timeout", message="a: silent for 20 s")


class There(msgspec.Struct, frozen=True):
    """A backend and everything that is known of it."""

    backend: Backend
    facts: tuple[Message, ...]


class Maker:
    """Draws from plain randomness: the parts are made once, and hypothesis only chooses among them, which is quick."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def one(self, *values: Any) -> Any:
        return self.rng.choice(values)

    def maybe(self, low: float, high: float) -> float | None:
        return None if self.rng.random() < 0.5 else self.rng.uniform(low, high)

    def some(self, values: Sequence[Any], most: int) -> tuple[Any, ...]:
        return tuple(self.rng.sample(values, self.rng.randint(0, min(most, len(values)))))

    def model(self, name: str) -> Model:
        dear = Price(input_per_mtok=self.rng.randint(0, 5_000_000), output_per_mtok=self.rng.randint(0, 20_000_000))
        return Model(
            name=name,
            capabilities=("text", *sorted(self.some(CAPABILITIES, 4))),
            context_tokens=self.one(None, 100, 2_000, 32_000, 32_000),
            max_output_tokens=self.one(None, None, 50, 4_096),
            price=self.one(Price(), Price(), dear, dear, Price(unknown=True)),
            quality_tier=self.one(1, 2, 3, 5, 5),
            tokens_per_second=self.maybe(1.0, 200.0),
            first_token_seconds=self.maybe(0.0, 3.0),
            seconds_per_job=self.one(None, None, None, 4.0),
            parameters_billion=self.one(None, 7.0, 70.0),
            vram_mb=self.one(None, 6_000, 6_000, 30_000),
            swap_seconds=self.maybe(0.0, 30.0),
            loras=self.one(None, (), ("ink",)),
        )

    def backend(self, name: str, models: tuple[Model, ...]) -> Backend:
        return Backend(
            backend=name,
            protocol="openai",
            local=self.one(True, False),
            priority=self.rng.randint(1, 4),
            slots=self.one(0, 1, 2, 4, 4, 8),
            executors=("exec-a",),
            models=models,
            exclusive_group=self.one("", "", "", "g"),
            active=self.one(True, True, False),
            vram_total_mb=self.one(None, None, 8_000, 24_000),
            healthy=self.one(True, True, True, True, True, False),
            health_reason="no answer",
            at=T0,
        )

    def there(self, name: str) -> There:
        names = self.some(MODELS, 3) or ("m",)
        one = self.backend(name, tuple(self.model(model) for model in names))
        found: list[Message] = []
        if self.one(True, False):
            found.append(
                Load(
                    backend=name, waiting=self.rng.randint(0, 9), running=self.rng.randint(0, 9),
                    loaded=self.one((), ("m",), ("n", "o:7b")), vram_free_mb=self.one(None, 900), at=T0 - 0.5,
                )
            )  # fmt: skip
        for model in names:
            if self.rng.random() < 0.15:
                until = T0 + self.one(-1.0, 0.0, 5.0)
                found.append(Breaker(backend=name, model=model, open_until=until, reason="3 failures"))
            scopes = ("-", workflow_key("acme", "site"), workflow_key("acme", "site", "hero"), task_key("chat"))
            found.extend(self.stats(name, model, scope) for scope in self.some(scopes, 2))
        return There(one, tuple(found))

    def stats(self, backend: str, model: str, scope: str) -> Stats:
        return Stats(
            backend=backend, model=model, scope=scope, epoch=self.one(0, 1, 1), attempts=9, successes=8,
            weight=self.one(0.0, self.rng.uniform(0, 20)), latency_seconds=self.maybe(0.01, 60.0),
            latency_spread=self.maybe(0.0, 1.0), first_token_seconds=self.maybe(0.0, 2.0),
            output_tokens=self.maybe(1.0, 900.0), input_ratio=self.maybe(0.5, 2.0), swap_seconds=self.maybe(0.0, 20.0),
            failure_rate=self.one(0.0, self.rng.random()), rating=self.maybe(1.0, 5.0), ratings=self.rng.randint(0, 9),
            at=T0 - self.one(1.0, 5_000.0),
        )  # fmt: skip

    def pool(self) -> tuple[str, ...]:
        return self.some(NAMES, 4)

    def rule(self) -> Rule:
        return Rule(
            name=self.one("one", "two", "three"),
            match=Match(
                task=self.one((), (), ("code",), ("chat", "creative")), quality=self.one((), ("draft",), ("final",)),
                complexity=self.one((), (), ("simple",)), capability=self.one((), (), ("vision",)),
                role=self.one((), (), ("writer",)), tenant=self.one((), ("acme",), ("other",)),
            ),
            strategy=self.one("", *STRATEGIES),
            pool=self.pool(),
            strict=self.one(True, False),
            fallbacks=self.rng.randint(0, 4),
            classes={name: self.pool() for name in self.some(("simple", "medium", "complex"), 2)},
            shares={name: self.one(0.0, 0.2, 0.5) for name in self.some(NAMES, 3)},
            overflow=self.pool(),
            requires=self.one((), (), ("text",), ("json",)),
            prefers=self.one((), (), ("vision",), ("tools",)),
            max_attempts=self.one(None, None, 2, 5),
        )  # fmt: skip

    def policy(self, name: str) -> Policy:
        return Policy(
            policy=name,
            version=self.rng.randint(0, 9),
            order=self.rng.randint(1, 3),
            removed=self.one(False, False, False, True),
            enabled=self.one(None, None, None, None, True, False),
            fixed_order=self.pool(),
            strategy=self.one("", "", *STRATEGIES),
            failover=self.one(None, FailoverRules(max_attempts=self.rng.randint(1, 6))),
            weights=self.one(None, Weights(priority=self.rng.uniform(0, 50), cost=self.rng.uniform(0, 50))),
            adaptive=self.one(None, AdaptiveRules(method=self.one("epsilon", "thompson"), epsilon=0.5)),
            saturated_at=self.one(None, 0.5),
            saturated_until=self.one(None, 0.4),
            rules=tuple(self.rule() for _ in range(self.rng.randint(0, 3))),
            chains={name: self.pool() for name in self.some(("m", "n", "id-m"), 2)},
            models=self.one(
                {}, {"id-m": CatalogueEntry(model="m", quality_tier=4)}, {"m": CatalogueEntry(capabilities=("code",))},
                {"id-m": CatalogueEntry(model="m", roles=("writer",))},
                {"n": CatalogueEntry(backend="a", roles_denied=("writer",))},
            ),
            backends={
                name: BackendRule(multiplier=self.rng.uniform(0.5, 2.0), priority=self.one(None, 1, 3))
                for name in self.some(("a", "b"), 2)
            },
            presets=self.one(
                {}, {"draft": Preset(variants={"m": "n"}, steps=8)},
                {"final": Preset(backends={"a": Change(max_output_tokens=70)})},
            ),
            degrade=self.one(
                {}, {"vision": "drop_images", "tools": "drop_tools"}, {"vision": "describe_style", "tools": "shorten"}
            ),
        )  # fmt: skip

    def wishes(self) -> dict[str, Any]:
        return {
            "task": self.one("chat", "code", "creative"),
            "quality": self.one("draft", "standard", "final"),
            "complexity": self.one("simple", "medium", "complex", "unknown"),
            "input_tokens": self.rng.randint(0, 1_500),
            "max_output_tokens": self.one(1, 80, 500, 2_500),
            "output_tokens": self.one(0, 30, 200),
            "capabilities": self.one((), (), (), ("code",), ("json", "vision")),
            "preferred": self.one((), (), (), ("vision",), ("tools", "vision")),
            "vram_mb": self.one(0, 0, 4_000),
            "model": self.one("", "", "", "", "m", "p", "id-m"),
            "preferred_model": self.one("", "", "", "n"),
            "preferred_backend": self.one("", "", "", *BACKENDS[:3]),
            "role": self.one("", "", "", "writer"),
            "workflow": self.one("", "site"),
            "step": self.one("", "hero"),
            "strategy": self.one("", "", *STRATEGIES),
            "allow_cloud": self.one(True, True, False),
            "prioritize_speed": self.one(True, False),
            "max_cost_microdollars": self.one(None, None, None, 0, 40, 5_000),
            "value_per_hour_microdollars": self.one(None, 0, 90_000_000),
            "asset": self.one("text", "text", "text", "image", "video"),
            "media": self.one(Media(), Media(images=2, steps=30, loras=("ink",)), Media(seconds=4.0, frames=48)),
        }


_MAKER = Maker(3)
_THERE = {name: [_MAKER.there(name) for _ in range(60)] for name in BACKENDS}
_POLICIES = {name: [_MAKER.policy(name) for _ in range(60)] for name in ("p1", "p2", "p3")}
_WISHES = [_MAKER.wishes() for _ in range(400)]
_NEWCOMERS = [_MAKER.backend("zz", (_MAKER.model("elsewhere"),)) for _ in range(60)]

WISHES = st.sampled_from(_WISHES)
EASY: dict[str, Any] = {
    "model": "", "capabilities": (), "preferred": (), "strategy": "", "role": "", "asset": "text", "allow_cloud": True,
    "max_cost_microdollars": None,
}  # fmt: skip
"""What nearly everybody may run."""
NEWCOMERS = st.sampled_from(_NEWCOMERS)
"""Backends that no pool and no job names."""
POLICIES = st.lists(
    st.sampled_from([policy for found in _POLICIES.values() for policy in found]),
    max_size=3, unique_by=lambda policy: policy.policy,
)  # fmt: skip
_FLEETS = st.lists(
    st.sampled_from([there for found in _THERE.values() for there in found]),
    min_size=1, max_size=8, unique_by=lambda there: there.backend.backend,
)  # fmt: skip
FLEETS = _FLEETS.map(lambda found: [there.backend for there in found])
_BOUNDS = (
    None,
    Bound(tokens=90, messages=1),
    Bound(tokens=20_000, messages=3, tools=True),
    Bound(images=1),
    Bound(unbounded="a file"),
)
_EPOCH = Epoch(epoch=1, by="ada", at=T0 - 60)


def facts(policies: st.SearchStrategy[list[Policy]] = POLICIES) -> st.SearchStrategy[list[Message]]:
    """Everything a router hears before it decides: one value of each fact."""

    def together(fleet: list[There], held: list[Policy], reset: bool) -> list[Message]:
        known: list[Message] = [fact for there in fleet for fact in (there.backend, *there.facts)]
        return [*known, *held, *([_EPOCH] if reset else [])]

    return st.builds(together, _FLEETS, policies, st.booleans())


_OUTCOMES = ("timeout", "connection_error", "server_error", "account", "unknown_model", "not_started", "empty")


class Job(msgspec.Struct, frozen=True):
    """A job as it comes to a round."""

    slip: Slip
    n: int = 1
    attempts: tuple[Attempt, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    now: float = T0
    rooms: tuple[Room, ...] = ()
    counted: tuple[Counted, ...] = ()


@st.composite
def jobs(draw: Any, wishes: st.SearchStrategy[dict[str, Any]] = WISHES, *, fresh: bool = False) -> Job:
    """Some job: new, or with a past of attempts and exclusions."""
    name = draw(st.sampled_from(["j-1", "j-2", "j-77"]))
    wanted = {"bound": draw(st.sampled_from(_BOUNDS)), **draw(wishes)}
    made = slip(job=name, needs=wanted, deadline_at=T0 + draw(st.sampled_from([600.0, 600.0, 20.0, 1.0])))
    if fresh or draw(st.booleans()):
        return Job(made)
    attempts: list[Attempt] = []
    excluded: list[Exclusion] = []
    for n in range(1, draw(st.integers(0, 3)) + 1):
        backend, model = draw(st.sampled_from(BACKENDS)), draw(st.sampled_from(MODELS))
        outcome = draw(st.sampled_from(_OUTCOMES))
        billed = draw(st.sampled_from([0, 30]))
        attempts.append(
            Attempt(n=n, backend=backend, model=model, outcome=outcome, billed_microdollars=billed, problem=FIRST)
        )
        if outcome != "not_started":
            excluded.append(
                Exclusion(backend=backend, model=draw(st.sampled_from(["", model])), until=0.0, reason=outcome)
            )
    if draw(st.booleans()):
        until = T0 + draw(st.sampled_from([-5.0, 9.0]))
        excluded.append(Exclusion(backend=draw(st.sampled_from(BACKENDS)), until=until, reason="over the rate"))
    n = len(attempts) + 1 + draw(st.integers(0, 3))
    place = {"backend": draw(st.sampled_from(BACKENDS)), "model": draw(st.sampled_from(MODELS))}
    rooms = (Room(**place, budget="b", unit="tokens", left=800, limit=9_000),) if draw(st.booleans()) else ()
    counted = (Counted(**place, tokens=30),) if draw(st.booleans()) else ()
    return Job(made, n, tuple(attempts), tuple(excluded), rooms=rooms, counted=counted)


def learn(view: View, fact: Message) -> None:
    """Let the view hear one fact."""
    match fact:
        case Backend():
            view.learn_backend(fact)
        case Load():
            view.learn_load(fact)
        case Breaker():
            view.learn_breaker(fact)
        case Stats():
            view.learn_stats(fact)
        case Policy():
            view.learn_policy(fact)
        case Epoch():
            view.learn_epoch(fact)
        case _:
            raise AssertionError(fact)


def view_of(*given: Message, policies: Iterable[Policy] = ()) -> View:
    """A view that heard these facts in this order."""
    view = View(policies)
    for fact in given:
        learn(view, fact)
    return view


def sent(view: View, backend: str, model: str, at: float) -> None:
    """One more stored decision, of a job of its own."""
    view.sent(("acme", f"sent-{next(_numbers)}", 1), backend, model, at)


def choice(view: View, job: Job, *, cause: Problem | None = None) -> Choice:
    """The decision with all of its candidates."""
    return decide(
        job.slip, n=job.n, attempts=job.attempts, excluded=job.excluded, view=view, now=job.now, cause=cause,
        rooms=job.rooms, counted=job.counted,
    )  # fmt: skip


def decision(view: View, *, n: int = 1, now: float = T0, cause: Problem | None = None, **given: Any) -> Decided:
    """A decision about an ordinary job, with what is `given` of its slip, attempts and exclusions."""
    attempts, excluded = given.pop("attempts", ()), given.pop("excluded", ())
    return choice(view, Job(slip(**given), n, attempts, excluded, now), cause=cause).decided


def failed(n: int, name: str, outcome: Any = "timeout", model: str = "m") -> Attempt:
    """An attempt that came to nothing."""
    return Attempt(n=n, backend=name, model=model, outcome=outcome, billed_microdollars=0, problem=FIRST)


def gone_from(*names: str, model: str = "m") -> tuple[Exclusion, ...]:
    """Exclusions for the whole job."""
    return tuple(Exclusion(backend=name, model=model, until=0.0, reason="timeout") for name in names)
