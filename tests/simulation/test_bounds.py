"""Limits hold at the harshest tokenizer that there may be: a token of each byte, and all that a template may say.

On texts of every kind budgets and `max_cost` are spent up to their limit and never beyond it.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from actors.router.verify import check
from actors.settings import Budget, BudgetRules, JobSettings, Settings
from bus import codec, simloop
from messages import Attempted, Decided, Done, Granted
from scenarios.backends import Script
from scenarios.world import Spec, World, offer

TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog, and nobody in town was much surprised by it. ",
    "German": "Der schnelle braune Fuchs springt über den faulen Hund, und niemand wunderte sich darüber. ",
    "Amharic": "ሰላም ለዓለም። ዛሬ ጥሩ ቀን ነው። ",
    "Georgian": "გამარჯობა მსოფლიო, დღეს კარგი დღეა. ",
    "Thai": "สวัสดีชาวโลก วันนี้เป็นวันที่ดี ",
    "rare Chinese": "𠀀𠀁𠀂𪚥𠜎𠜱𠝹𠱓",
    "base64": base64.b64encode(bytes((i * 37 + i * i) % 256 for i in range(90))).decode(),
    "ligatures": "\ufdfa\u0958\u0344",
    "control": "\x01\x02\x7f\u2028",
}
LIMIT = 20_000
PRICE = 1_000_000
"""A micro-dollar for a token."""
JOBS = 16


def text(kind: str, characters: int) -> str:
    piece = TEXTS[kind]
    return (piece * (characters // len(piece) + 1))[:characters]


class Played:
    def __init__(self, world: World) -> None:
        self.world = world

    def all(self, kind: Any) -> list[Any]:
        records = self.world.log(kind.channel.stream)
        return [codec.decode(kind, r.data, r.headers) for r in records if codec.type_at(r.subject) is kind]


def play(kind: str, *budgets: Budget, characters: int = 700, jobs: int = JOBS, **fields: Any) -> Played:
    """So many jobs of one kind of text at a paid backend whose tokenizer is harsh."""

    async def main() -> World:
        settings = Settings(
            jobs=JobSettings(deadline_seconds=60.0), budgeting=BudgetRules(ceilings=False), budgets=budgets
        )
        world = World(seed=1, settings=settings, write=lambda _: Script(harsh=True, seconds=0.2))
        await world.open({"front-1": Spec(("front",)), "registry-1": Spec(("registry",)),
                          "x1": Spec(("executor",), (offer("X", slots=20, price=PRICE),))})  # fmt: skip
        await asyncio.sleep(2.0)
        for number in range(jobs):
            await world.submit(f"j{number}", prompt=text(kind, characters), quality="draft", task="chat", **fields)
        assert await world.until_done([f"j{number}" for number in range(jobs)], 90.0)
        await world.close()
        return world

    return Played(simloop.run(main(), seed=1))


@pytest.mark.parametrize("unit", ["microdollars", "tokens"])
@pytest.mark.parametrize("kind", TEXTS)
def test_a_limit_is_never_overspent(kind: str, unit: Any) -> None:
    told = play(kind, Budget(name="all", unit=unit, window="total", limit=LIMIT))
    attempts = told.all(Attempted)
    used = sum((one.usage.input_tokens or 0) + (one.usage.output_tokens or 0) for one in attempts)
    assert sum(one.billed_microdollars for one in attempts) == used, "a micro-dollar for a token"
    assert 0 < used <= LIMIT
    for one in attempts:
        (held,) = one.reserved
        assert one.usage.input_tokens + one.usage.output_tokens <= held.amount
    assert all(check(made) == "" for made in told.all(Decided))
    refused = [done for done in told.all(Done) if done.ending == "failed"]
    assert refused, "all of it does not fit"
    problem = refused[0].problem
    assert problem.reason == "over_budget"
    for word in ("over budget (all)", "input about", "at most", "left: raise it", "turnout budget raise all"):
        assert word in problem.message, problem.message


@pytest.mark.parametrize("kind", TEXTS)
def test_max_cost_is_never_overspent(kind: str) -> None:
    ran = False
    for limit in (700, 1_500, 4_000):
        told = play(kind, characters=200, jobs=2, max_cost_microdollars=limit)
        spent = [sum(one.billed_microdollars for one in done.attempts) for done in told.all(Done)]
        assert all(cost <= limit for cost in spent)
        assert all(check(made) == "" for made in told.all(Decided))
        ran = ran or any(spent)
    assert ran


def test_more_runs_within_a_limit_once_answers_are_made_shorter() -> None:
    """What is left at the end is used by shorter answers, and that is told."""
    budget = Budget(name="all", unit="tokens", window="total", limit=12_000)
    told = play("English", budget)
    stated = play("English", budget, max_output_tokens=512)
    assert len(told.all(Attempted)) > len(stated.all(Attempted)) > 0
    changed = [made.ranking[0].changes for made in told.all(Decided) if made.rooms and made.ranking]
    assert any("the budget all has no room for more" in change for changes in changed for change in changes)


def test_the_limit_of_the_checklist_admits_a_moderate_input() -> None:
    """Seed 003, "Manual verification checklist", 1 and 2: with a token limit of 2,000 a moderate input runs."""
    budget = Budget(name="step", unit="tokens", scope="tenant", window="total", limit=2_000)
    told = play("English", budget, characters=600, jobs=1)
    (done,) = told.all(Done)
    (attempt,) = told.all(Attempted)
    assert done.ending == "succeeded"
    assert attempt.usage.input_tokens + attempt.usage.output_tokens <= 2_000
    standard = play("English", budget, characters=600, jobs=1, max_output_tokens=None)
    assert [one.ending for one in standard.all(Done)] == ["succeeded"]


def test_a_worst_case_over_the_whole_limit_is_softened_at_once() -> None:
    budget = Budget(name="all", unit="tokens", window="total", limit=1_300)
    told = play("English", budget, characters=300, jobs=1)
    first, second = told.all(Granted)
    assert (first.verdict, first.hopeless, first.softens, second.verdict) == ("refused", True, True, "candidate")
    assert second.at - first.at < 0.5, "nobody waits for what others may give back"
