"""What is known of the backends: facts, and the heartbeats of their executors; as tables."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field

from rich.text import Text

from actors.console.reach import ask
from actors.console.screen import Complaint, clean, count, dollars, seconds
from actors.console.tables import Cells
from actors.price_words import in_words
from bus import codec
from bus.bus import Bus, FactEntry
from messages import Backend, Breaker, Load, Message, Model, Stats, Total, TotalsAre, TotalsOf
from messages.fleet import ALL_MODELS

BEAT_SECONDS = 2.3
"""Every executor says within this time how its backends are."""


@dataclass
class Fleet:
    """The facts about backends, and what their executors say of them."""

    backends: dict[str, Backend] = field(default_factory=dict[str, Backend])
    loads: dict[str, Load] = field(default_factory=dict[str, Load])
    breakers: dict[str, list[Breaker]] = field(default_factory=lambda: defaultdict[str, list[Breaker]](list))
    stats: dict[tuple[str, str], Stats] = field(default_factory=dict[tuple[str, str], Stats])

    totals: tuple[Total, ...] | None = None
    """What each model did on each backend, as far as the history goes back; None: nobody answers for it."""

    def total(self, backend: str, model: str = "") -> Total | None:
        """The same of one backend, or of one model of it; None: nothing is known."""
        mine = [one for one in self.totals or () if one.backend == backend and model in ("", one.model)]
        if not mine:
            return None
        numbers = {name: sum(getattr(one, name) for one in mine) for name in Total.__struct_fields__[2:]}
        return Total(backend=backend, model=model, **numbers)

    def learn(self, fact: Message) -> None:
        """Take in one fact or heartbeat."""
        match fact:
            case Backend():
                self.backends[fact.backend] = fact
            case Load():
                self.loads[fact.backend] = fact
            case Breaker():
                others = [known for known in self.breakers[fact.backend] if known.model != fact.model]
                self.breakers[fact.backend] = [*others, fact]
            case Stats() if fact.scope == "-":
                self.stats[fact.backend, fact.model] = fact
            case _:
                pass


async def gathered(bus: Bus) -> Fleet:
    """All facts."""
    fleet = Fleet()

    async def on_fact(entry: FactEntry) -> None:
        kind = codec.type_at(entry.subject)
        if kind is not None and entry.data is not None:
            with contextlib.suppress(codec.Undecodable):  # From another version.
                fleet.learn(codec.decode(kind, entry.data))

    await (await bus.watch_facts(on_fact)).stop()
    return fleet


async def totals_of(bus: Bus) -> tuple[Total, ...] | None:
    """What each model did on each backend; None where nobody keeps a history."""
    try:
        return (await ask(bus, TotalsOf(), TotalsAre)).totals
    except Complaint:
        return None


def row_of(backend: Backend, fleet: Fleet) -> dict[str, object]:
    """Everything about one backend, for machines."""
    return {
        "backend": backend,
        "load": fleet.loads.get(backend.backend),
        "breakers": fleet.breakers.get(backend.backend, []),
        "stats": [fleet.stats[key] for key in sorted(fleet.stats) if key[0] == backend.backend],
        "totals": [one for one in fleet.totals or () if one.backend == backend.backend],
    }


def backends_cells(there: list[Backend], fleet: Fleet, now: float) -> Cells:
    """A row for each backend: who it is, how it is, what lies before it, what it did and what that cost."""
    loads = [fleet.loads.get(backend.backend) for backend in there]
    totals = [fleet.total(backend.backend) for backend in there]
    cells: dict[str, list[Text | str]] = {
        "backend": [
            Text.assemble((clean(backend.backend), "bold"), (f" {'local' if backend.local else 'cloud'}", "dim"))
            for backend in there
        ],
        "speaks": [clean(f"{backend.protocol} {backend.version}".strip()) for backend in there],
        "state": [state(backend, "", fleet, now) for backend in there],
        "busy": [f"{load.running if load else 0}/{one.slots}" for one, load in zip(there, loads, strict=True)],
        "waiting": [waiting(load) for load in loads],
        "GPU memory": [memory(one, load) for one, load in zip(there, loads, strict=True)],
    }
    if fleet.totals is not None:
        cells["jobs"] = [f"{total.succeeded:,}" if total else "-" for total in totals]
        cells["cost"] = [cost(total) for total in totals]
    return cells


def cost(total: Total | None) -> str:
    """What it cost; with a `+` when some ran at a price that nobody knows."""
    if total is None:
        return "-"
    if total.unpriced == total.attempts:
        return "?"
    return f"{dollars(total.billed_microdollars)}{' +' if total.unpriced else ''}"


def waiting(load: Load | None) -> str:
    """Jobs before a backend; what others have it do stands behind a plus."""
    if load is None:
        return "0"
    own = max(0, load.waiting - load.foreign)
    return f"{own} + {load.foreign}" if load.foreign else str(own)


def memory(backend: Backend, load: Load | None) -> str:
    """Free GPU memory, and all of it."""
    free = None if load is None else load.vram_free_mb
    parts = [f"{megabytes / 1024:.1f}" for megabytes in (free, backend.vram_total_mb) if megabytes is not None]
    if not parts:
        return "-"
    if len(parts) == 2:
        return f"{parts[0]} of {parts[1]} GB free"
    return f"{parts[0]} GB{' free' if free is not None else ''}"


def models_cells(there: list[Backend], fleet: Fleet) -> Cells:
    """A row for each model: whether it is loaded, its limits, its price, how it did, and what that cost."""
    rows: list[tuple[Text | str, ...]] = []
    for backend in there:
        load = fleet.loads.get(backend.backend)
        for model in backend.models:
            stats = fleet.stats.get((backend.backend, model.name))
            loaded = load is not None and model.name in (load.loaded or ())
            rows.append((
                Text.assemble(clean(model.name), (" ●" if loaded else "", "green")),
                Text(clean(backend.backend), "dim"),
                f"{model.context_tokens:,}" if model.context_tokens else "-",
                f"{stats.successes}/{stats.attempts}" if stats else "-",
                seconds(stats.latency_seconds) if stats else "-",
                f"{stats.tokens_per_second:.0f}" if stats and stats.tokens_per_second else "-",
                cost(fleet.total(backend.backend, model.name)),
                price(model),
            ))  # fmt: skip
    names = ("model", "backend", "context", "ok/tried", "latency", "tokens/s", "cost", "price in/out per M")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def details(backend: Backend, fleet: Fleet, now: float) -> list[tuple[str, str]]:
    """One backend as names and values."""
    load = fleet.loads.get(backend.backend)
    loaded = load.loaded if load else None
    provider = f", sold by {backend.provider}" if backend.provider not in ("", "local") else ""
    lines = [
        ("speaks", f"{backend.protocol} {backend.version}".strip()),
        (
            "runs",
            f"{'on hardware of ours' if backend.local else 'in the cloud'}{provider}, priority {backend.priority}",
        ),
        ("state", state(backend, "", fleet, now).plain),
        ("slots", f"{backend.slots}, {load.running if load else 0} in hand"),
        ("waiting", f"{waiting(load)}{' of others' if load and load.foreign else ''}"),
        ("loaded", "unknown" if loaded is None else ", ".join(loaded) or "nothing"),
        ("GPU memory", memory(backend, load)),
        ("did", _did(fleet.total(backend.backend))),
        ("served by", ", ".join(backend.executors) or "nobody"),
    ]
    if backend.exclusive_group:
        lines.append(("group", f"{backend.exclusive_group}, {'active' if backend.active else 'not the active one'}"))
    if backend.cold:
        lines.append(("cold", "the next job has to wait for a worker to start"))
    if backend.switchable:
        lines.append(("switch", "its executor puts models into its memory"))
    lines += [("note", note) for note in backend.notes]
    return [(name, clean(value)) for name, value in lines]


def _did(total: Total | None) -> str:
    if total is None:
        return "nothing yet, as far as the history tells"
    tokens = f", {count(total.input_tokens, 'token')} in, {total.output_tokens:,} out" if total.output_tokens else ""
    return f"{count(total.succeeded, 'job')} in {count(total.attempts, 'attempt')} for {cost(total)}{tokens}"


def model_lines(model: Model) -> list[tuple[str, str]]:
    """One model as names and values."""
    writes = bool({"text", "embedding"} & set(model.capabilities))  # A context is of no matter to others.
    limits = [
        *(
            [f"{model.context_tokens:,} tokens of context"]
            if model.context_tokens
            else ["unknown context"]
            if writes
            else []
        ),
        *([f"{model.max_output_tokens:,} out"] if model.max_output_tokens else []),
    ]
    facts = [
        *([f"{model.parameters_billion:g} billion parameters"] if model.parameters_billion else []),
        *([f"{model.vram_mb / 1024:.1f} GB"] if model.vram_mb else []),
        *([count(len(model.loras), "LoRA")] if model.loras else []),
        *([f"shut down on {model.retires}"] if model.retires else []),
    ]
    return [
        ("can do", clean(", ".join(model.capabilities))),
        *([("limits", ", ".join(limits))] if limits else []),
        ("price", price(model)),
        *([("more", clean(", ".join(facts)))] if facts else []),
    ]


def state(backend: Backend, model: str, fleet: Fleet, now: float) -> Text:
    """How a backend is for one model (empty: for any), in a few words."""
    if backend.slots <= 0:
        return Text("gone", "dim")
    if not backend.healthy:
        return Text(f"unhealthy: {_flat(backend.health_reason)}", "red")
    if backend.exclusive_group and not backend.active:
        return Text(f"inactive: group {clean(backend.exclusive_group)}", "dim")
    breakers = [b for b in fleet.breakers.get(backend.backend, []) if not model or b.model in (ALL_MODELS, model)]
    for breaker in sorted(breakers, key=lambda b: -b.open_until):
        which = f"{breaker.model} " if not model and breaker.model != ALL_MODELS else ""
        if now < breaker.open_until:
            until = (
                "until somebody acts" if breaker.cause in ("account", "manual") else seconds(breaker.open_until - now)
            )
            return Text(f"{clean(which)}paused {until}: {_flat(breaker.reason)}", "yellow")
        if breaker.times_opened:
            return Text(f"{clean(which)}on trial: the next job decides", "yellow")
    return Text("ready", "green")


def _flat(text: str) -> str:
    """On one line, whole."""
    return " ".join(clean(text).split())


def price(model: Model) -> str:
    """Dollars per million tokens, in and out, and for what is not counted in tokens."""
    return in_words(model.price)
