"""`turnout breaker`: against facts on a real server, as people type it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from actors.console import app
from actors.console import breaker as module
from actors.console.screen import Complaint
from bus import codec
from messages import Breaker, Minute
from messages.fleet import ALL_MODELS
from tests.actors.console.live import Live, live
from tests.messages.samples import T0, backend

COMMANDS = {"breaker": EntryPoint("breaker", "actors.console.breaker:breaker", app.GROUP)}
OPENED: dict[str, Any] = {
    "times_opened": 1, "opened_at": T0, "open_until": 4e9, "cause": "failures", "reason": "3 failures in a row, last: timeout",
}  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("nats")) as deployment:
        deployment.know(backend("gpu"), backend("cloud"))
        yield deployment


def run(there: Live, *words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "found", lambda: COMMANDS)
        return app.run(["breaker", *words, "--nats", there.server.url])


def stored(there: Live, name: str, model: str) -> Breaker:
    record = there.do(there.bus.last("KV_facts", Breaker(backend=name, model=model).subject))
    assert record is not None
    return codec.decode(Breaker, record.data)


def test_a_model_is_opened_and_closed_by_hand(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(there, "open", "gpu", "m", "--by", "ada") == 0
    opened = stored(there, "gpu", "m")
    assert (opened.cause, opened.by, opened.open_until > 3e10) == ("manual", "ada", True)
    assert run(there, "list", "gpu") == 0
    shown = capsys.readouterr().out
    assert "opened gpu/m, by ada: it gets no jobs until `turnout breaker close`" in shown
    assert "open until closed by hand" in shown
    assert "opened by hand by ada" in shown
    assert run(there, "close", "gpu", "m", "--by", "bob") == 0
    closed = stored(there, "gpu", "m")
    assert (closed.times_opened, closed.open_until, closed.by) == (0, 0.0, "bob")
    assert capsys.readouterr().out == "closed gpu/m, by bob\n"


def test_a_whole_backend_is_opened_and_all_that_is_shut_of_it_closed(
    there: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    there.know(Breaker(backend="cloud", model="m", **OPENED), Breaker(backend="cloud", model="fine", through_seq=3))
    assert run(there, "open", "cloud", "--by", "ada") == 0
    assert stored(there, "cloud", ALL_MODELS).cause == "manual"
    assert run(there, "close", "cloud", "m", "--by", "ada") == 0
    shown, said = capsys.readouterr()
    assert shown.endswith("closed cloud/m, by ada\n")
    assert said == "all of cloud is still shut: opened by hand by ada\n"
    there.know(Breaker(backend="cloud", model="m", **OPENED))
    assert run(there, "close", "cloud", "--by", "ada") == 0
    assert capsys.readouterr().out == "closed all of cloud, by ada\nclosed cloud/m, by ada\n"
    assert stored(there, "cloud", "fine") == Breaker(backend="cloud", model="fine", through_seq=3)
    assert run(there, "close", "cloud") == 0
    assert capsys.readouterr().out == "no breaker of all of cloud is open\n"


def test_the_list_as_json_is_the_facts(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    there.know(Breaker(backend="gpu", model="m", through_seq=9, recent=(Minute(minute=1, calls=5, failures=2),)))
    assert run(there, "list", "gpu", "--output", "jsonl") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["recent"] == [{"minute": 1, "calls": 5, "failures": 2}]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("open", "gup"), 1, "no backend is called 'gup': did you mean gpu?"),
        (("close", "gpu", "mm"), 1, "gpu has no model called 'mm': did you mean m?"),
        (("open",), 2, "`breaker open` got 0 arguments"),
        (("close", "a", "b", "c"), 2, "`breaker close` got 3 arguments"),
        (("list", "a", "b"), 2, "`breaker list` got 2 arguments"),
        (("list", "--by", "ada"), 2, "--by is for `breaker open`"),
    ],
)
def test_what_is_wrong_is_said(
    there: Live, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert run(there, *words) == code
    assert said in capsys.readouterr().err


def test_a_change_is_made_on_the_newest_value(there: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else writes between our look and our word, once; then each time."""
    by_hand = module.node.breaker_hand.opened_by_hand
    times = [1]

    def slow(breaker: Breaker, by: str, now: float) -> Breaker:
        if times[0] > 0:
            times[0] -= 1
            there.know(Breaker(backend="gpu", model="m", through_seq=breaker.through_seq + 1))
        return by_hand(breaker, by, now)

    monkeypatch.setattr(module.node.breaker_hand, "opened_by_hand", slow)
    there.know(Breaker(backend="gpu", model="m", through_seq=20))
    assert run(there, "open", "gpu", "m") == 0
    assert stored(there, "gpu", "m").through_seq == 21
    times[0] = 1_000
    assert run(there, "open", "gpu", "m") == 1
    assert stored(there, "gpu", "m").cause == ""


@pytest.mark.parametrize(
    ("fact", "word", "share"),
    [
        ({}, "closed", "-"),
        ({**OPENED, "open_until": T0 + 30}, "open for 30.0 s", "-"),
        (
            {**OPENED, "open_until": T0, "recent": (Minute(minute=1, calls=5, failures=3),)},
            "half-open",
            "3 of 5 (60 %)",
        ),
        (
            {
                **OPENED,
                "open_until": T0,
                "probe_tenant": "acme",
                "probe_job": "j-1",
                "probe_n": 1,
                "probe_until": T0 + 9,
            },
            "probing for acme/j-1",
            "-",
        ),
        ({**OPENED, "cause": "manual"}, "open until closed by hand", "-"),
    ],
)
def test_how_one_stands_in_words(fact: dict[str, Any], word: str, share: str) -> None:
    one = Breaker(backend="gpu", model="m", **fact)
    assert (module.standing(one, T0), module.failed(one)) == (word, share)


def test_without_backends_there_is_no_nearest_one() -> None:
    with pytest.raises(Complaint, match="no backend is called 'x'"):
        module.check_names("x", "", {}, [])
