"""No micro-dollar and no token is spent over a limit, whatever the text and the tokenizer, while processes are killed.

The backends are as harsh as any may be: a token of each byte, all that a template may say, and the whole output that they may
make, even of calls that broke off or that nobody heard the end of. They write down what they count; the limits hold for that.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from actors.guardrail.limits import billed
from actors.settings import Budget
from bus import codec
from bus.bus import Record
from messages import Attempted, Granted, JobSubmit, Price
from scenarios.backends import most_tokens
from tests.chaos.checks import entry_of, name
from tests.chaos.harness import Blow, Client, Field, Job, Report, environment_seed, free_port, lines, plan, until
from tests.chaos.process import MARK, Counted, Place, World

TEXTS = {
    "english": "The quick brown fox jumps over the lazy dog, and nobody in town was much surprised by it. ",
    "german": "Der schnelle braune Fuchs springt über den faulen Hund, und niemand wunderte sich darüber. ",
    "amharic": "ሰላም ለዓለም። ዛሬ ጥሩ ቀን ነው። ",
    "georgian": "გამარჯობა მსოფლიო, დღეს კარგი დღეა. ",
    "chinese": "𠀀𠀁𠀂𪚥𠜎𠜱𠝹𠱓",
    "base64": base64.b64encode(bytes((i * 37 + i * i) % 256 for i in range(90))).decode(),
    "thai": "สวัสดีชาวโลก วันนี้เป็นวันที่ดี ",
    "emoji": "👩‍👩‍👧‍👦🏴󠁧󠁢󠁳󠁣󠁴󠁿\x01\x02\x7f\u2028\u0000",
    "ligature": "\ufdfa",
    "json": json.dumps({"rows": [{"id": number, "ok": None, "path": f"\\x{number:02x}"} for number in range(9)]}),
}
LIMIT = 20_000
MAX_COST = 700
Want = Literal["microdollars", "tokens", "cost"]
SIZES: Mapping[Want, tuple[int, int]] = {"microdollars": (400, 2_000), "tokens": (1_500, 5_000), "cost": (50, 1_200)}
"""Tokens that the texts make at most: each limit bites, and each lets something through."""
PLACES: Mapping[Want, str] = {"microdollars": "dear", "tokens": "cheap", "cost": ""}
CANCELLED, HURRIED = 0.06, 0.04
"""Shares of jobs that are cancelled as soon as they run, and that have a deadline of `HURRY_SECONDS`."""
HURRY_SECONDS = 1.5


class Plan(NamedTuple):
    """One job, and whether it is cancelled."""

    tenant: str
    submit: JobSubmit
    cancel: bool


def text(kind: str, size: int) -> str:
    """A kind of text that makes so many tokens at most, or of one piece."""
    piece = TEXTS[kind]
    return piece * max(1, size // (most_tokens((piece,)) - most_tokens(("",))))


def wanted(rng: random.Random, jobs: Mapping[Want, int]) -> list[Plan]:
    """Jobs of every kind of text for every limit, each pair a tenant of its own, in no order."""
    found: list[Plan] = []
    for kind in TEXTS:
        for want, count in jobs.items():
            for number in range(count):
                tenant, job = f"{kind}-{want}", f"j-{number}"
                mark = f"[{tenant} {job}] "
                assert MARK.search(mark)
                submit = JobSubmit(
                    id=job, prompt=mark + text(kind, rng.randint(*SIZES[want])), task="chat", quality="draft",
                    preferred_backend=PLACES[want], max_output_tokens=rng.choice((None, None, 64, 300)),
                    max_cost_microdollars=MAX_COST if want == "cost" else None,
                    deadline_seconds=HURRY_SECONDS if rng.random() < HURRIED else None,
                )  # fmt: skip
                found.append(Plan(tenant, submit, rng.random() < CANCELLED))
    rng.shuffle(found)
    return found


async def bring(client: Client, one: Plan) -> None:
    """Submit a job; one that is to be cancelled is so once it runs, mostly before a token came."""
    await client.submit(one.tenant, one.submit)
    key = one.tenant, one.submit.id
    if one.cancel:
        with contextlib.suppress(TimeoutError):
            await until(lambda: key in client.running or key in client.ends)
        await client.cancel(*key)


async def load(client: Client, plans: Sequence[Plan], seconds: float) -> None:
    began = time.monotonic()
    beside: list[asyncio.Task[None]] = []
    for number, one in enumerate(plans):
        await asyncio.sleep(max(0.0, began + seconds * number / len(plans) - time.monotonic()))
        beside.append(asyncio.create_task(bring(client, one)))
    await asyncio.gather(*beside)


class Evidence(NamedTuple):
    """What is left of a run."""

    report: Report
    attempts: list[Attempted]
    grants: list[Granted]
    ledger: list[Record]
    counts: list[Counted]
    prices: Mapping[str, Price]

    def cost(self, one: Counted) -> int:
        """What the backend asks for it, in micro-dollars."""
        return self.prices[one.backend].cost(one.read_tokens, one.made_tokens)

    def counted(self) -> dict[tuple[str, str], int]:
        """By tenant and unit, what the backends counted."""
        found: Counter[tuple[str, str]] = Counter()
        for one in self.counts:
            found[one.tenant, "tokens"] += one.read_tokens + one.made_tokens
            found[one.tenant, "microdollars"] += self.cost(one)
        return found

    def settled(self) -> dict[tuple[str, str], int]:
        """By tenant and unit, what the attempts were settled at."""
        found: Counter[tuple[str, str]] = Counter()
        for one in self.attempts:
            for reservation in one.reserved:
                found[one.tenant, reservation.unit] += billed(reservation, one)
        return found


async def run(field: Field, plans: Sequence[Plan], blows: Sequence[Blow], seconds: float) -> tuple[Evidence, Client]:
    async with field.open() as client:
        print(*blows, sep="\n")
        await asyncio.gather(load(client, plans, seconds), field.strike(blows))
        field.world.calm.touch()
        await client.wait(90.0)
        report = await field.settle(client, 45.0)
        events = [r async for r in client.bus.read("EV", "ev.>")]
        attempts = [codec.decode(Attempted, r.data, r.headers) for r in events if codec.type_at(r.subject) is Attempted]
        grants = [codec.decode(Granted, r.data, r.headers) for r in events if codec.type_at(r.subject) is Granted]
        ledger = [r async for r in client.bus.read("LEDGER", "ledger.>")]
    counts = lines(field.world.counts, Counted)
    return Evidence(report, attempts, grants, ledger, counts, {p.name: p.price for p in field.world.places}), client


def over_a_limit(told: Evidence) -> Iterator[str]:
    """What the backends counted is within every limit, and so is each counter after every event, as far as it was admitted."""
    for (tenant, unit), used in told.counted().items():
        if used > LIMIT:
            yield f"{tenant} used {used} {unit} of {LIMIT}"
    admitted = {(g.tenant, g.job, g.n, one.subject, one.hold) for g in told.grants for one in g.reserved}
    standing: Counter[str] = Counter()
    for record in told.ledger:
        entry = entry_of(record)
        # A refused hold is given back at once: it keeps others out for a moment, and lets nobody in.
        if (entry.tenant, entry.job, entry.n, entry.counter, entry.hold) in admitted:
            standing[entry.counter] += int(record.headers["Nats-Incr"])
            if not 0 <= standing[entry.counter] <= LIMIT:
                yield f"{entry.counter} stood at {standing[entry.counter]} of {LIMIT} after {record.seq}"


def over_max_cost(told: Evidence) -> Iterator[str]:
    costs: Counter[Job] = Counter()
    for one in told.counts:
        costs[one.tenant, one.job] += told.cost(one)
    for (tenant, job), cost in costs.items():
        if tenant.endswith("-cost") and cost > MAX_COST:
            yield f"{name(tenant, job)} cost {cost} of {MAX_COST}"


def settled_too_low(told: Evidence) -> Iterator[str]:
    """A job's attempts on a backend count for what that counted at least, in every unit.

    The harness looks at each attempt; a backend with a socket knows no attempts, only jobs.
    """
    left: Counter[tuple[str, str, str, str]] = Counter()
    for end in told.attempts:
        key = end.tenant, end.job, end.backend
        left[*key, "billed"] += end.billed_microdollars
        for one in end.reserved:
            left[*key, one.unit] += billed(one, end)
    for one in told.counts:
        key = one.tenant, one.job, one.backend
        left[*key, "billed"] -= told.cost(one)
        left[*key, "microdollars"] -= told.cost(one)
        left[*key, "tokens"] -= one.read_tokens + one.made_tokens
    for (tenant, job, backend, unit), over in left.items():
        if over < 0:
            yield f"{name(tenant, job)} on {backend}: {unit} settled {-over} below what the backend counted"


def figures(told: Evidence) -> str:
    """What each tenant used of its limits."""
    counted, settled = told.counted(), told.settled()
    rows = [
        f"{tenant:24} {unit:12} counted {used:6}, settled {settled.get((tenant, unit), 0):6} of {LIMIT}"
        for (tenant, unit), used in sorted(counted.items())
    ]
    return "\n".join(rows)


def storm(
    folder: Path, *, jobs: Mapping[Want, int], seconds: float, guardrails: int, kills: int, servers: int, backends: int
) -> None:
    seed = environment_seed(int.from_bytes(os.urandom(3)))
    print(f"SEED={seed}")
    cheap, dear = (
        Price(input_per_mtok=300_000, output_per_mtok=1_500_000),
        Price(input_per_mtok=3_000_000, output_per_mtok=15_000_000),
    )
    world = World(
        folder=str(folder), seed=seed, rooms="apart", kill_probability=0.0005, ack_wait_seconds=4.0,
        budgets=(
            Budget(name="money", scope="tenant", window="total", limit=LIMIT),
            Budget(name="words", scope="tenant", unit="tokens", window="total", limit=LIMIT),
        ),
        places=(
            Place(name="cheap", harsh=True, price=cheap, slots=64, faults={"500": 0.04, "hang": 0.04, "cut": 0.1}),
            Place(name="dear", harsh=True, price=dear, slots=64, port=free_port(),
                  faults={"hang": 0.03, "cut": 0.06, "malformed": 0.03}),
        ),
    )  # fmt: skip
    mortal = [f"guardrail-{number}" for number in range(1, guardrails + 1)] + ["executor-1", "executor-2"]
    processes = {actor: actor.partition("-")[0] for actor in mortal} | {
        "analyzer-1": "analyzer,router", "registry-1": "registry", "dear": "backend",
    }  # fmt: skip
    blows = plan(seed, seconds, servers=servers, kills=kills, actors=mortal, backends=["dear"] * backends)
    plans = wanted(random.Random(f"{seed}/load"), jobs)
    field = Field(folder, world, processes)
    told, client = asyncio.run(run(field, plans, blows, seconds))
    print(told.report, figures(told), sep="\n")
    # `wrong` holds what is settled below what was counted, what leaked, and what was lost or ended twice.
    wrong = [*told.report.wrong, *over_a_limit(told), *over_max_cost(told), *settled_too_low(told)]
    assert not wrong, "\n".join([f"SEED={seed}", *wrong])
    assert len(client.ends) == len(plans)
    assert field.done["kill guardrail"]
    assert field.done["kill executor"]
    assert {one.tenant.partition("-")[0] for one in told.counts} == set(TEXTS), "every kind ran"
    assert any(one.tenant.endswith("-cost") for one in told.counts)
    met = {(one.tenant.partition("-")[0], room.budget) for one in told.grants for s in one.skipped for room in s.rooms}
    assert {kind for kind, _ in met} == set(TEXTS), "every kind met a limit"
    assert {budget for _, budget in met} == {"money", "words"}
    unknown = [a for a in told.attempts if a.begun and a.outcome not in ("ok", "not_started", "server_error")]
    assert any(a.billed_microdollars > 0 == len(a.partial) for a in unknown), "calls ended before a token came"


def test_no_text_overspends_while_guardrails_and_executors_are_killed(tmp_path: Path) -> None:
    jobs: dict[Want, int] = {"microdollars": 3, "tokens": 7, "cost": 2}
    storm(tmp_path, jobs=jobs, seconds=4.0, guardrails=2, kills=4, servers=0, backends=1)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_no_text_overspends_in_a_long_storm(tmp_path: Path) -> None:
    jobs: dict[Want, int] = {"microdollars": 30, "tokens": 40, "cost": 30}
    storm(tmp_path, jobs=jobs, seconds=60.0, guardrails=4, kills=24, servers=4, backends=4)
