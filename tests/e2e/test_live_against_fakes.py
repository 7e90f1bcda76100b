"""The live tests themselves, run as `make live` runs them, with fakes where the providers would be."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.e2e.system import KEY
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.gemini import FakeGemini
from tests.fakes.openai import FakeOpenAI
from tests.fakes.runpod import FakeRunpod
from tests.live.cloud import CENTS_VARIABLE, NoRoom, Purse

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "RUNPOD_API_KEY")


async def live(**more: str) -> str:
    """What `make live` prints with this environment; it must have gone well."""
    plain = {name: value for name, value in os.environ.items() if name not in (*KEYS, CENTS_VARIABLE)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-m", "live", "-rs", "-s", "-p", "no:cacheprovider", "tests/live",
        cwd=ROOT, env={**plain, **more}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    assert KEY not in printed
    return printed


async def with_every_key() -> tuple[str, int]:
    """What it prints with every key set, and how many calls there were that cost something."""
    async with FakeOpenAI() as openai, FakeAnthropic() as anthropic, FakeGemini() as gemini, FakeRunpod() as runpod:
        printed = await live(
            OPENAI_API_KEY=KEY, OPENAI_BASE_URL=openai.url, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=anthropic.url,
            GEMINI_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, RUNPOD_API_KEY=KEY, RUNPOD_ENDPOINT=runpod.url,
            RUNPOD_MODEL="qwen",
        )  # fmt: skip
        return printed, sum(fake.calls for fake in (openai, anthropic, gemini, runpod))


def test_with_keys_everything_is_asked_within_the_limit() -> None:
    printed, calls = asyncio.run(with_every_key())
    assert "8 passed" in printed
    assert "skipped" not in printed
    assert calls == 5
    spent = re.search(r"live tests: (\d+\.\d+) of 5 cents spent", printed)
    assert spent
    assert 0 < float(spent[1]) < 5


def test_without_keys_and_without_money_nothing_is_asked() -> None:
    async def main() -> tuple[str, int]:
        async with FakeOpenAI() as fake:
            return await live(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=fake.url, TURNOUT_LIVE_CENTS="0.1"), fake.calls

    printed, calls = asyncio.run(main())
    assert "2 passed, 6 skipped" in printed
    assert calls == 1, "embeddings alone cost so little"
    assert "may cost 0.5 cents" in printed
    for variable in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY or GOOGLE_API_KEY", "RUNPOD_API_KEY"):
        assert f"{variable} is not set" in printed


def test_a_purse_holds_the_worst_case_until_the_cost_is_known() -> None:
    purse = Purse({CENTS_VARIABLE: "1"})
    purse.take(6_000)
    with pytest.raises(NoRoom, match=r"may cost 0\.5 cents, 0\.4 are left: set TURNOUT_LIVE_CENTS"):
        purse.take(5_000)
    purse.give_back(6_000, 20)
    purse.take(5_000)
    assert (purse.spent, Purse({}).limit) == (5_020, 50_000)
