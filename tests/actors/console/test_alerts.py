"""`turnout alerts` as people type it; a breach on a real server ends as a POST on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import node
from actors.alert_settings import LatencyTarget, Webhook
from actors.console import app
from actors.console.alerts import try_webhooks
from actors.guardrail.ledger import Ledger
from actors.notifier.signing import is_signed
from actors.settings import Budget, BudgetRules, Settings
from bus import codec
from bus.jetstream import connect
from messages import Alert, LatencyRow, Notified
from tests.actors.console.live import Live
from tests.actors.notifier.hook import Hook, hook
from tests.actors.rig import Rig, play
from tests.messages.samples import attempted, candidate, decided, slip

POINTS = {name: EntryPoint(name, f"actors.console.{name}:{name}", app.GROUP) for name in ("alerts", "budget", "doctor")}
SETTINGS = Settings(
    rooms="apart",
    budgets=(Budget(name="daily", scope="tenant", limit=1_000_000),),
    budgeting=BudgetRules(ceilings=False),
    latency_targets=(LatencyTarget(name="quick", model="m", target_seconds=2.0),),
    webhooks=(
        Webhook(name="ops", url_env="OPS_URL", secret_env="OPS_SECRET", allow_private=True),
        Webhook(name="chat", url_env="CHAT_URL", severity="alert", format="slack"),
    ),
)


class Watched(Live):
    """A server with guardrail, monitor and notifier, and a webhook's other side."""

    hook: Hook

    @asynccontextmanager
    async def _hooked(self) -> AsyncGenerator[Hook]:
        async with hook() as there:
            yield there

    async def _start(self) -> None:
        await self.server.start()
        self._other_side = self._hooked()
        self.hook = await self._other_side.__aenter__()
        self.environment = {
            "OPS_URL": self.hook.url, "OPS_SECRET": "k3y", "CHAT_URL": self.hook.url,
            "OPENAI_BILLING_ALERT_THRESHOLD": "100",
        }  # fmt: skip
        self.bus = await connect(self.server.url, name="rooms")
        await node.set_up(self.bus, SETTINGS)
        rooms = node.build(("guardrail", "monitor", "notifier"), self.bus, SETTINGS, environment=self.environment)
        self.host = node.host(self.bus, rooms, SETTINGS, instance="front", boot="b1")
        await self.host.open()

    async def _stop(self) -> None:
        await super()._stop()
        await self._other_side.__aexit__(None, None, None)

    def say(self, message: Any) -> None:
        """Publish an event."""
        self.do(self.bus.publish(message.subject, codec.encode(message), msg_id=f"test:{message.subject}"))

    def notices(self, kind: str, least: int) -> list[Notified]:
        """What became of alerts of a kind, once there are so many."""

        async def wait() -> list[Notified]:
            for _ in range(300):
                key = Notified.channel.key_of(kind=kind)
                found = [codec.decode(Notified, record.data) async for record in self.bus.read("EV", key)]
                if len(found) >= least:
                    return found
                await asyncio.sleep(0.1)
            raise AssertionError(f"nobody was told of {kind}")

        return self.do(wait())

    def posted(self, kind: str) -> list[dict[str, Any]]:
        """What arrived as plain JSON, of a kind."""
        bodies = [msgspec.json.decode(got.body) for got in self.hook.got]
        return [body for body in bodies if body.get("kind") == kind]

    def run(self, *words: str, config: Path | None = None) -> int:
        """Run a command line; the exit code."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app, "found", lambda: POINTS)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            more = ["--config", str(config)] if config else []
            return app.run([*words, *more, "--nats", self.server.url])


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Generator[Watched]:
    made = Watched(tmp_path_factory.mktemp("nats"))
    try:
        yield made
    finally:
        made.close()


def test_a_breach_ends_as_a_signed_post(there: Watched) -> None:
    now = there.bus.now()
    for number in range(1, 5):
        there.say(attempted(job=f"slow-{number}", latency_seconds=3.0, at=now))
    (notice,) = [one for one in there.notices("latency_alert", 2) if one.webhook == "ops"]
    assert (notice.notice, notice.status) == ("sent", 200)
    (refused,) = [one for one in there.notices("latency_alert", 2) if one.webhook == "chat"]
    assert (refused.notice, refused.reason) == (
        "refused", "its address is not allowed: loopback; set allow_private if that is meant",
    )  # fmt: skip
    (body,) = there.posted("latency_alert")
    assert (body["job"], body["in_row"], body["target"]) == ("slow-4", 4, "quick")
    assert len(there.posted("latency_warning")) == 3
    for got in there.hook.got:
        assert is_signed(got.body, got.headers, secret="k3y", now=there.bus.now())


def test_a_budget_that_is_used_up_ends_as_a_post_too(there: Watched) -> None:
    made = decided(
        job="j-1", at=there.bus.now(), ranking=(candidate(worst_case_microdollars=1_000_000),),
        slip=slip(job="j-1", tenant="acme", deadline_at=there.bus.now() + 600),
    )  # fmt: skip
    there.say(made)
    there.notices("budget_hard", 1)
    (body,) = there.posted("budget_hard")
    assert (body["budget"], body["holder"], body["reserved"], body["limit"]) == ("daily", "acme", 1_000_000, 1_000_000)


def test_they_are_listed_with_what_became_of_them(there: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    there.notices("budget_hard", 1)
    assert there.run("alerts") == 0
    shown = capsys.readouterr().out
    for text in (
        "latency_alert",
        "that is 4 in a row",
        "budget_hard",
        "✔ ops",
        "✘ chat: its address is not allowed: loopback",
    ):
        assert text in shown
    assert "s3cr3t" not in shown
    assert there.run("alerts", "--tenant", "acme", "--output", "jsonl", "--limit", "1") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["kind"] == "budget_hard"
    assert there.run("alerts", "--tenant", "nobody") == 0
    assert "nothing was told" in capsys.readouterr().err


def test_a_test_goes_to_every_webhook_and_says_what_became_of_it(
    there: Watched, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.console.alerts.PATIENCE_SECONDS", 2.0)  # Without settings it waits as long as it may.
    assert there.run("alerts", "--test") == 1
    shown = capsys.readouterr().out
    assert "✔ ops: answered 200" in shown
    assert "✘ chat: its address is not allowed" in shown
    assert there.posted("test")


@pytest.mark.parametrize(("expected", "seconds"), [(set[str](), 13.0), ({"quick"}, 0.8), ({"quick", "slow"}, 5.3)])
def test_a_slow_webhook_that_fails_is_waited_for(expected: set[str], seconds: float) -> None:
    """The quick one's answer is not all, unless the settings name no other."""

    async def story(rig: Rig) -> None:
        async def answer() -> None:
            while not rig.stored(Alert):
                await rig.settle(0.1)
            (alert,) = rig.stored(Alert)
            base = Notified(kind="test", cause=alert.cause, webhook="quick", notice="sent", at=alert.at)
            await rig.settle(0.4)
            await rig.publish(base)
            await rig.settle(4.5)
            await rig.publish(msgspec.structs.replace(base, webhook="slow", notice="gave_up"))

        answering, before = asyncio.create_task(answer()), rig.bus.now()
        told = await try_webhooks(rig.bus, expected, 13.0)
        assert rig.bus.now() - before == pytest.approx(seconds, abs=0.2)
        assert [(one.webhook, one.notice) for one in told] == [("quick", "sent"), ("slow", "gave_up")][
            : 1 if expected == {"quick"} else 2
        ]
        answering.cancel()

    play(story)


def test_what_is_removed_from_the_server_is_forgotten_by_who_knew_it(there: Watched) -> None:
    async def story() -> None:
        row = LatencyRow(target="quick", backend="gone", model="m", at=1.0)
        await there.bus.put_fact(row.subject, codec.encode(row))
        chain, ledger = there.host.chain, Ledger(there.bus)
        for known in (True, False):
            for _ in range(100):
                if (row.subject in chain._facts) is (row.subject in chain.voice.revisions) is known:
                    break
                await asyncio.sleep(0.05)
            assert (row.subject in chain._facts) is (row.subject in chain.voice.revisions) is known
            record = await there.bus.last("KV_facts", row.subject)
            assert (record is not None) is known
            if record is not None:
                await ledger.forget(record)
        # A removal that died half way is read, and seen as what it is.
        await there.bus.put_fact(row.subject, b"")
        assert [record.data async for record in ledger.facts() if record.subject == row.subject] == [b""]
        assert await chain.refresh(row.subject) is None
        record = await there.bus.last("KV_facts", row.subject)
        assert record is not None
        assert chain.voice.revisions[row.subject] == record.seq
        await ledger.forget(record)

    there.do(story())


def test_a_webhook_that_the_notifier_does_not_know_is_named(
    there: Watched, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.console.alerts.PATIENCE_SECONDS", 1.0)
    file = tmp_path / "turnout.toml"
    file.write_text("[[webhooks]]\nname = 'other'\nurl_env = 'X'\n", encoding="utf-8")
    assert there.run("alerts", "--test", config=file) == 1
    assert "1 webhook of these settings not known to the notifier: other" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--limit", "0"), ("--test", "--tenant", "a")])
def test_wrong_usage(there: Watched, words: tuple[str, ...]) -> None:
    assert there.run("alerts", *words) == 2


def test_the_threshold_of_the_environment_is_counted_and_shown(
    there: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert there.run("budget", "list") == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("billing-openai")]
    assert "$100.00" in row
    assert "environment" in row


def test_doctor_shows_the_ceilings_and_thresholds_in_force(there: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    there.run("doctor")
    shown = capsys.readouterr().out
    assert "$50.00 a day: anthropic, azure" in shown
    assert "tells when a month at openai has cost $100.00" in shown


def test_nobody_to_tell_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.console.alerts.PATIENCE_SECONDS", 0.5)
    silent = Live(tmp_path)
    try:
        monkeypatch.setattr(app, "found", lambda: POINTS)
        assert app.run(["alerts", "--test", "--nats", silent.server.url]) == 1
        assert "nobody runs the notifier" in capsys.readouterr().err
        record = silent.do(silent.bus.last("EV", Alert.channel.key_of(kind="test")))
        assert record is not None
    finally:
        silent.close()
