"""The notifier in its room, on the bus in virtual time, and against a real socket where that is the point."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from actors.actor import Again, Heard
from actors.alert_settings import Webhook
from actors.journal import Journal
from actors.notifier.actor import STALE_SECONDS, Notifier, takes
from actors.notifier.pace import MOST_TRIES
from actors.notifier.post import Outcome, post
from actors.notifier.signing import is_signed
from bus import codec
from bus.bus import BusUnavailable
from bus.memory import MemoryServer
from bus.topology import NOTIFIER
from messages import Alert, Notified
from tests.actors.notifier.hook import hook
from tests.actors.rig import Rig, play, room_of

URL = "https://hooks.slack.com/services/T0/B0/s3cr3t"
OPS, TEAM = Webhook(name="ops", url_env="OPS_URL"), Webhook(name="team", url_env="TEAM_URL", severity="alert")
ENVIRONMENT = {"OPS_URL": URL, "TEAM_URL": "https://example.com/s3cr3t"}
GOOD, BUSY, WRONG = Outcome(200), Outcome(503, "it answered 503", again=True), Outcome(404, "it answered 404")


def alert(cause: str = "1", **changes: Any) -> Alert:
    given: dict[str, Any] = {
        "kind": "budget_hard", "cause": cause, "severity": "alert", "text": "Budget daily is used up.", "at": 0.0,
    }  # fmt: skip
    return Alert(**{**given, **changes})


class Posts:
    """Stands for the network: answers in turn per URL, and remembers what was posted when."""

    def __init__(self, *answers: Outcome, **by_name: list[Outcome]) -> None:
        self.answers = list(answers) or [GOOD]
        self.got: list[tuple[float, str, bytes, dict[str, str]]] = []

    async def __call__(
        self, url: str, body: bytes, headers: Mapping[str, str], *, now: float, allow_private: bool
    ) -> Outcome:
        self.got.append((now, url, body, dict(headers)))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def rung(rig: Rig, posts: Any, *webhooks: Webhook, environment: Mapping[str, str] = ENVIRONMENT) -> Any:
    return room_of(
        lambda: Notifier(webhooks=webhooks, environment=environment, journal=Journal(rig.bus), post=posts), NOTIFIER
    )


async def say(rig: Rig, one: Alert) -> None:
    await rig.publish(msgspec.structs.replace(one, at=one.at or rig.bus.now()))


def ends(rig: Rig) -> list[tuple[str, str, int]]:
    return [(one.webhook, one.notice, one.tries) for one in rig.stored(Notified)]


# Telling.


def test_an_alert_is_told_once_to_everybody_who_wants_it() -> None:
    posts = Posts()

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, OPS, TEAM))
        await say(rig, alert())
        await say(rig, alert("2", kind="budget_soft", severity="warning"))
        await rig.settle(3.0)
        assert sorted(ends(rig)) == [("ops", "sent", 1), ("ops", "sent", 1), ("team", "sent", 1)]
        assert await rig.unacknowledged(NOTIFIER) == 0

    play(story)
    assert sorted(url for _, url, _, _ in posts.got) == [ENVIRONMENT["TEAM_URL"], URL, URL]
    bodies = {url: msgspec.json.decode(body) for _, url, body, _ in posts.got}
    assert "blocks" in bodies[URL]
    assert bodies[ENVIRONMENT["TEAM_URL"]]["kind"] == "budget_hard"


def test_a_failure_is_tried_again_with_the_same_id_until_it_goes_well() -> None:
    posts = Posts(BUSY, BUSY, GOOD)

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, OPS))
        await say(rig, alert())
        await rig.settle(30.0)
        assert ends(rig) == [("ops", "sent", 3)]

    play(story)
    times = [at for at, _, _, _ in posts.got]
    assert 1.8 <= times[1] - times[0] <= 3.5
    assert 3.6 <= times[2] - times[1] <= 6.0
    assert len({headers["webhook-id"] for _, _, _, headers in posts.got}) == 1


def test_a_server_that_asks_for_time_gets_it() -> None:
    posts = Posts(Outcome(429, "it answered 429", again=True, retry_after=100.0), GOOD)

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, OPS))
        await say(rig, alert())
        await rig.settle(90.0)
        assert len(posts.got) == 1
        await rig.settle(30.0)
        assert ends(rig) == [("ops", "sent", 2)]

    play(story)
    assert posts.got[1][0] - posts.got[0][0] >= 100


def test_who_fails_does_not_hold_up_the_others_and_they_are_told_once() -> None:
    class Half(Posts):
        async def __call__(self, url: str, *rest: Any, **more: Any) -> Outcome:
            await super().__call__(url, *rest, **more)
            return BUSY if url == URL and len([one for one in self.got if one[1] == URL]) < 3 else GOOD

    posts = Half()

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, OPS, TEAM))
        await say(rig, alert())
        await rig.settle(1.0)
        assert ends(rig) == [("team", "sent", 1)]
        await rig.settle(30.0)
        assert ends(rig) == [("team", "sent", 1), ("ops", "sent", 3)]

    play(story)
    assert [url for _, url, _, _ in posts.got].count(ENVIRONMENT["TEAM_URL"]) == 1


def test_a_journal_that_can_t_be_read_for_one_webhook_makes_nobody_hear_twice() -> None:
    class Torn(Journal):
        left = 2

        async def read(self, kind: Any, /, **keys: object) -> Any:
            if keys["webhook"] == "ops" and self.left:
                self.left -= 1
                raise BusUnavailable("not now")
            return await super().read(kind, **keys)

    class Once(Posts):
        async def __call__(self, url: str, *rest: Any, **more: Any) -> Outcome:
            await super().__call__(url, *rest, **more)
            return BUSY if len([one for one in self.got if one[1] == url]) < 2 else GOOD

    posts = Once()

    async def story(rig: Rig) -> None:
        journal = Torn(rig.bus)
        made = Notifier(webhooks=(OPS, TEAM), environment=ENVIRONMENT, journal=journal, post=posts)
        await rig.host(room_of(lambda: made, NOTIFIER))
        await say(rig, alert())
        await rig.settle(60.0)
        assert sorted(ends(rig)) == [("ops", "sent", 2), ("team", "sent", 2)]
        assert await rig.unacknowledged(NOTIFIER) == 0

    play(story)
    assert [url for _, url, _, _ in posts.got].count(ENVIRONMENT["TEAM_URL"]) == 2


def test_what_never_goes_well_is_given_up_with_a_clear_line(caplog: pytest.LogCaptureFixture) -> None:
    posts = Posts(BUSY)

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, OPS))
        await say(rig, alert())
        await rig.settle(1200.0)
        assert ends(rig) == [("ops", "gave_up", MOST_TRIES)]
        assert await rig.unacknowledged(NOTIFIER) == 0

    play(story)
    assert len(posts.got) == MOST_TRIES
    assert "webhook ops was not told of budget_hard, after 8 tries: it answered 503" in caplog.text


def test_what_can_not_go_well_is_not_tried_again_and_a_test_is_tried_once() -> None:
    posts = Posts(WRONG, BUSY)

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, OPS))
        await say(rig, alert())
        await rig.settle(5.0)
        await say(rig, alert("2", kind="test"))
        await rig.settle(60.0)
        assert ends(rig) == [("ops", "gave_up", 1), ("ops", "gave_up", 1)]
        assert [one.status for one in rig.stored(Notified)] == [404, 503]

    play(story)
    assert len(posts.got) == 2


# Restarts.


def test_none_is_lost_over_a_restart_and_who_was_told_is_not_told_again() -> None:
    """The first notifier dies between its tries; another process takes the alert up."""
    first = Posts(BUSY)

    class Half(Posts):
        async def __call__(self, url: str, *rest: Any, **more: Any) -> Outcome:
            await super().__call__(url, *rest, **more)
            return BUSY if url == URL else GOOD

    first, second = Half(), Posts()

    async def story(rig: Rig) -> None:
        dying = await rig.host(rung(rig, first, OPS, TEAM), instance="n1")
        await say(rig, alert())
        await rig.settle(0.5)
        await dying.close()
        await say(rig, alert("2"))  # While nobody listens.
        await rig.host(rung(rig, second, OPS, TEAM), instance="n2")
        await rig.settle(60.0)
        told = sorted((one.cause, one.webhook, one.notice) for one in rig.stored(Notified))
        assert told == [("1", "ops", "sent"), ("1", "team", "sent"), ("2", "ops", "sent"), ("2", "team", "sent")]

    play(story)
    assert [url for _, url, _, _ in first.got].count(ENVIRONMENT["TEAM_URL"]) == 1
    assert [url for _, url, _, _ in second.got].count(ENVIRONMENT["TEAM_URL"]) == 1


def test_a_notifier_that_starts_after_days_does_not_tell_what_is_over() -> None:
    posts = Posts()

    async def story(rig: Rig) -> None:
        await say(rig, alert())
        await rig.settle(STALE_SECONDS + 60)
        await say(rig, alert("2"))
        await rig.host(rung(rig, posts, OPS))
        await rig.settle(5.0)
        assert [(one.cause, one.notice) for one in rig.stored(Notified)] == [("2", "sent")]
        assert await rig.unacknowledged(NOTIFIER) == 0

    play(story)
    assert len(posts.got) == 1


# How many.


def test_more_than_a_minute_takes_are_counted_and_told_in_one_line() -> None:
    posts = Posts()

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, Webhook(name="ops", url_env="OPS_URL", per_minute=3)))
        for number in range(10):
            await say(rig, alert(str(number), kind="latency_warning" if number % 2 else "budget_soft"))
        await rig.settle(150.0)
        assert [notice for _, notice, _ in ends(rig)].count("left_out") == 7
        assert await rig.unacknowledged(NOTIFIER) == 0

    play(story)
    assert len(posts.got) == 4
    assert "7 more alerts were left out in the last minute" in msgspec.json.decode(posts.got[-1][2])["text"]


def test_a_line_that_can_not_be_told_waits_for_the_next_minute() -> None:
    posts = Posts(GOOD, BUSY, GOOD)

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, Webhook(name="ops", url_env="OPS_URL", per_minute=1)))
        await say(rig, alert("1"))
        await say(rig, alert("2"))
        await rig.settle(200.0)

    play(story)
    lines = [msgspec.json.decode(body)["text"] for _, _, body, _ in posts.got[1:]]
    assert len(lines) == 2
    assert all("1 more alert was left out" in line for line in lines)


def test_warnings_never_keep_an_alert_out() -> None:
    posts = Posts()

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, Webhook(name="ops", url_env="OPS_URL", per_minute=8)))
        for number in range(30):
            await say(rig, alert(str(number), kind="budget_soft", severity="warning"))
        await rig.settle(5.0)
        await say(rig, alert("loud"))
        await say(rig, alert("try", kind="test", severity="warning"))
        await rig.settle(5.0)
        told = Counter((one.kind, one.notice) for one in rig.stored(Notified))
        assert told == {
            ("budget_soft", "sent"): 6, ("budget_soft", "left_out"): 24, ("budget_hard", "sent"): 1, ("test", "sent"): 1,
        }  # fmt: skip

    play(story)


def test_further_tries_keep_the_pace_too_and_leave_half_of_it_to_what_is_new() -> None:
    posts = Posts(BUSY)

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, Webhook(name="ops", url_env="OPS_URL", per_minute=8)))
        for number in range(8):
            await say(rig, alert(str(number)))
        await rig.settle(600.0)
        posts.answers = [GOOD]
        await rig.settle(1800.0)
        assert sorted(ends(rig)) == [("ops", "sent", tries) for _, _, tries in sorted(ends(rig))]
        assert len(ends(rig)) == 8
        assert await rig.unacknowledged(NOTIFIER) == 0

    play(story)
    minutes = Counter(int(at // 60) for at, _, _, _ in posts.got)
    first = min(minutes)
    assert minutes[first] == 8
    assert len(minutes) > 5
    assert all(number <= 4 for minute, number in minutes.items() if minute != first)


def test_what_waited_for_hours_is_given_up_without_a_post() -> None:
    async def story(rig: Rig) -> None:
        posts = Posts(Outcome(429, "it answered 429", again=True, retry_after=3600.0))
        webhook = Webhook(name="ops", url_env="OPS_URL", per_minute=2)
        notifier = Notifier(webhooks=(webhook,), environment=ENVIRONMENT, journal=Journal(rig.bus), post=posts)
        ones = [alert(str(number), at=600.0) for number in range(2)]
        for one in ones:
            (again,) = await notifier.alert(one, Heard(now=600.0))
            assert again == Again(3600.0)
        late = 600.0 + STALE_SECONDS + 30.0
        ended = [(await notifier.alert(one, Heard(now=late, deliveries=2)))[0] for one in ones]
        assert [one.notice for one in ended if isinstance(one, Notified)] == ["gave_up", "gave_up"]
        assert [one.reason for one in ended if isinstance(one, Notified)] == [
            "it answered 429", "it waited too long for another try",
        ]  # fmt: skip
        assert len(posts.got) == 3

    play(story)


def test_so_many_wait_for_one_webhook_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.notifier.actor.MOST_WAITING", 3)

    async def story(rig: Rig) -> None:
        notifier = Notifier(webhooks=(OPS,), environment=ENVIRONMENT, journal=Journal(rig.bus), post=Posts(BUSY))
        said = [(await notifier.alert(alert(str(number), at=1.0), Heard(now=1.0)))[0] for number in range(5)]
        assert [type(one).__name__ for one in said] == ["Again"] * 3 + ["Notified"] * 2
        await notifier.summary(Heard(now=300.0))
        assert len(notifier._tried["ops"]) == 3
        # They did not come back: another notifier has them.
        await notifier.summary(Heard(now=900.0))
        assert notifier._tried["ops"] == {}

    play(story)


# Who wants what.


@pytest.mark.parametrize(
    ("webhook", "one", "wanted"),
    [
        (OPS, alert(), True), (TEAM, alert(), True), (TEAM, alert(severity="warning"), False),
        (Webhook(name="a", url_env="A", kinds=("billing",)), alert(), False),
        (Webhook(name="a", url_env="A", kinds=("billing",)), alert(kind="billing"), True),
        (Webhook(name="a", url_env="A", kinds=("billing",)), alert(kind="test", severity="warning"), True),
        (Webhook(name="a", url_env="A", tenant="acme"), alert(), False),
        (Webhook(name="a", url_env="A", tenant="acme"), alert(tenant="acme"), True),
    ],
)  # fmt: skip
def test_who_wants_what(webhook: Webhook, one: Alert, wanted: bool) -> None:
    assert takes(webhook, one) is wanted


@pytest.mark.parametrize(
    ("webhook", "environment", "reason"),
    [
        (OPS, {}, "the variable OPS_URL holds no URL"),
        (Webhook(name="a", url_env="OPS_URL", secret_env="KEY"), ENVIRONMENT, "the variable KEY holds no secret to sign with"),
        (
            Webhook(name="a", url_env="OPS_URL", secret_env="KEY"), {**ENVIRONMENT, "KEY": "whsec_!"},
            "KEY: the secret begins with whsec_ and is no base64",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_and_nothing_is_sent(
    webhook: Webhook, environment: dict[str, str], reason: str
) -> None:
    posts = Posts()

    async def story(rig: Rig) -> None:
        await rig.host(rung(rig, posts, webhook, environment=environment))
        await say(rig, alert())
        await rig.settle(5.0)
        assert [(one.notice, one.reason) for one in rig.stored(Notified)] == [("refused", reason)]

    play(story)
    assert posts.got == []


# On a real socket.


def test_signed_told_again_after_an_error_and_no_secret_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story() -> None:
        bus = await MemoryServer().connect("n")
        async with hook("500 Oops", "200 OK") as there:
            webhook = Webhook(name="ops", url_env="OPS_URL", secret_env="KEY", allow_private=True)
            environment = {"OPS_URL": there.url, "KEY": "k3y-of-hook"}
            notifier = Notifier(webhooks=(webhook,), environment=environment, journal=Journal(bus), post=post)
            now = 1_000_000.0
            (again,) = await notifier.alert(alert(at=now), Heard(now=now))
            assert isinstance(again, Again)
            now += again.seconds
            (said,) = await notifier.alert(alert(at=now), Heard(now=now))
            assert isinstance(said, Notified)
            assert (said.notice, said.status, said.tries) == ("sent", 200, 2)
            for got in there.got:
                assert not is_signed(got.body, got.headers, secret="another", now=now)
                assert is_signed(got.body, got.headers, secret="k3y-of-hook", now=now)
                assert codec.decode(Alert, got.body).text == "Budget daily is used up."
            assert there.got[0].headers["webhook-id"] == there.got[1].headers["webhook-id"]
        refused = msgspec.structs.replace(webhook, allow_private=False)
        notifier = Notifier(webhooks=(refused,), environment=environment, journal=Journal(bus), post=post)
        (said,) = await notifier.alert(alert(at=now), Heard(now=now))
        assert isinstance(said, Notified)
        assert said.notice == "refused"
        assert "s3cr3t" not in repr(said)
        await bus.close()

    asyncio.run(story())
    assert "s3cr3t" not in caplog.text
    assert "k3y-of-hook" not in caplog.text
