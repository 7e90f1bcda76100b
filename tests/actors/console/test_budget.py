"""`turnout budget` as people type it, against a guardrail on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from actors import node
from actors.console import app
from actors.settings import Budget, BudgetRules, Settings
from bus import codec
from bus.jetstream import connect
from messages import Candidate, Done, Held, JobResume, Limit
from tests.actors.console.live import Live
from tests.messages.samples import PROBLEM, candidate, decided, slip

POINTS = {"budget": EntryPoint("budget", "actors.console.budget:budget", app.GROUP)}
SETTINGS = Settings(
    rooms="apart",
    budgets=(
        Budget(name="daily", scope="tenant", limit=5_000_000, on_all_over_budget="ask"),
        Budget(name="calls", unit="requests", window="total", limit=0),
    ),
    budgeting=BudgetRules(ceilings=False),
)


class Guarded(Live):
    """A server with a guardrail that lives apart."""

    async def _start(self) -> None:
        await self.server.start()
        self.bus = await connect(self.server.url, name="rooms")
        await node.set_up(self.bus, SETTINGS)
        rooms = node.build(("guardrail",), self.bus, SETTINGS)
        self.host = node.host(self.bus, rooms, SETTINGS, instance="front", boot="b1")
        await self.host.open()

    def say(self, message: Any) -> None:
        """Publish an event, and give the guardrail a moment."""
        self.do(self.bus.publish(message.subject, codec.encode(message), msg_id=f"test:{message.subject}"))

    def limit(self, name: str) -> Limit | None:
        """The limit that was set under a name."""
        record = self.do(self.bus.last("KV_facts", Limit(name=name).subject))
        return codec.decode(Limit, record.data) if record else None

    def run(self, *words: str) -> int:
        """Run a command line; the exit code."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app, "found", lambda: POINTS)
            return app.run([*words, "--nats", self.server.url])


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Generator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("nats"))
    try:
        yield made
    finally:
        made.close()


def costs(amount: int) -> Candidate:
    return candidate(worst_case_microdollars=amount)


def test_budgets_are_listed_with_their_use(there: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    assert there.run("budget", "remove", "calls") == 0
    made = decided(job="j-1", at=there.bus.now(), ranking=(costs(1_250_000),), slip=slip(job="j-1", tenant="acme"))
    there.say(made)
    there.do(_moment(2.0))
    capsys.readouterr()
    assert there.run("budget", "list") == 0
    shown_now = capsys.readouterr().out
    for text in ("daily", "acme", "$1.25", "$5.00", "▒▒▒", "25%", "settings"):
        assert text in shown_now
    assert "calls" not in shown_now
    assert there.run("budget", "show", "daily", "--output", "json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert (row["name"], row["limit"]) == ("daily", 5_000_000)
    assert [(state["holder"], state["reserved"], state["spent"]) for state in row["states"]] == [("acme", 1_250_000, 0)]


async def _moment(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_a_budget_is_set_raised_and_removed(there: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--scope", "user", "--unit", "gpu-seconds", "--window", "week", "--limit", "3600", "--when-over", "wait")
    assert (
        there.run("budget", "set", "gpu", *words, "--soft", "0.5", "--time-zone", "Europe/Berlin", "--by", "ada") == 0
    )
    assert "gpu: 3600 GPU-seconds per week for each user, until " in capsys.readouterr().out
    found = there.limit("gpu")
    assert found is not None
    assert found == Limit(
        name="gpu", scope="user", unit="gpu_milliseconds", window="week", limit=3_600_000, soft_share=0.5,
        time_zone="Europe/Berlin", on_all_over_budget="wait", by="ada", at=found.at,
    )  # fmt: skip
    there.do(_moment(0.3))
    assert there.run("budget", "raise", "gpu", "--limit", "7200") == 0
    there.do(_moment(0.3))
    assert there.run("budget", "set", "gpu", "--limit", "60") == 0
    found = there.limit("gpu")
    assert found is not None
    assert (found.limit, found.window, found.soft_share) == (60_000, "week", 0.5)
    there.do(_moment(0.3))
    assert there.run("budget", "remove", "gpu") == 0
    there.do(_moment(0.3))
    capsys.readouterr()
    assert there.run("budget", "show", "gpu") == 1
    assert "no budget called 'gpu' is in force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("list", "x"), 2, "`budget list` takes no name"),
        (("show",), 2, "`budget show` takes one name and got 0"),
        (("set", "x"), 2, "`budget set` needs a limit"),
        (("show", "daily", "--limit", "5"), 2, "--limit is for `budget set` and `budget raise`"),
        (("raise", "daily", "--limit", "9", "--scope", "user"), 2, "are for `budget set`"),
        (("resume",), 2, "which job?"),
        (("set", "x", "--limit", "-5"), 2, "use 0 (only what is free) or more"),
        (("set", "x", "--limit", "5", "--only", "y"), 2, "a global budget is for all"),
        (("set", "x", "--limit", "5", "--scope", "job"), 2, "a job's budget is for the whole job"),
        (("set", "x", "--limit", "5", "--time-zone", "Mars"), 2, "'Mars' is no time zone"),
        (("set", "x", "--limit", "5", "--soft", "2"), 2, "soft_share is 2"),
        (("raise", "daily", "--limit", "4"), 2, "stands at $5.00 already"),
        (("raise", "dayly", "--limit", "9"), 1, "did you mean daily?"),
        (("resume", "nobody"), 1, "no job 'nobody' of tenant 'default' is held"),
    ],
)
def test_what_is_wrong_is_said(
    there: Guarded, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert there.run("budget", *words) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert there.limit("x") is None


def test_a_held_job_is_resumed(there: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    now = there.bus.now()
    made = decided(
        job="dear", tenant="t", at=now, ranking=(costs(9_000_000),),
        slip=slip(job="dear", tenant="t", deadline_at=now + 600),
    )  # fmt: skip
    there.say(made)
    there.do(_moment(0.5))
    assert there.run("budget", "resume", "dear", "--tenant", "t", "--by", "ada") == 0
    assert "dear: tries again; daily stood in the way" in capsys.readouterr().out
    record = there.do(there.bus.last("IN", JobResume(tenant="t", job="dear").subject))
    assert record is not None
    assert codec.decode(JobResume, record.data).by == "ada"
    there.do(_moment(0.5))
    assert there.run("budget", "resume", "dear", "--tenant", "t") == 0
    assert "was resumed before" in capsys.readouterr().out


def test_an_ended_job_is_not_resumed(there: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    there.say(Held(tenant="default", job="late", n=1, problem=PROBLEM, until=0.0, at=0.0))
    there.say(Done(tenant="default", job="late", ending="expired", at=0.0))
    assert there.run("budget", "resume", "late") == 1
    assert "late: has ended meanwhile" in capsys.readouterr().err
