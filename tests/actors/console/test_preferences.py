"""`turnout preferences`: scopes and fields from flags, and a round trip over a real bus."""

from __future__ import annotations

import asyncio
import io
import json
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from actors.analyzer.actor import Analyzer
from actors.console import preferences as module
from actors.console.app import GROUP, build
from actors.console.output import Output
from actors.console.preferences import (
    FIELDS,
    FLAGS,
    What,
    Whose,
    changed,
    fields_of,
    in_order,
    preferences_cells,
    scope_of,
)
from actors.console.reach import Where
from actors.console.screen import Wrong
from actors.console.tables import Fitted
from actors.host import Host
from bus import codec
from bus.jetstream import connect
from bus.server import NatsServer
from bus.topology import ANALYZER, topology
from messages import Deployment, Preference
from tests.actors.rig import room_of


@pytest.mark.parametrize(
    ("whose", "scope"),
    [
        ({}, "tenant"),
        ({"user": "ada"}, "user:ada"),
        ({"product": "card"}, "product:card"),
        ({"workflow": "site"}, "workflow:site"),
        ({"workflow": "site", "step": "hero"}, "step:site/hero"),
    ],
)
def test_the_flags_name_a_scope(whose: dict[str, str], scope: str) -> None:
    assert scope_of(Whose(**whose)) == scope


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ({"user": "a", "workflow": "b"}, "--user and --workflow are different scopes"),
        ({"step": "a"}, "no --workflow is named"),
        ({"tenant": ""}, "--tenant is empty"),
        ({"user": "x" * 129}, "--user is too long"),
        ({"product": "a\nb"}, "--product is too long or has control characters"),
    ],
)
def test_no_scope(whose: dict[str, str], said: str) -> None:
    with pytest.raises(Wrong) as wrong:
        scope_of(Whose(**whose))
    assert said in wrong.value.text


def test_flags_become_fields() -> None:
    assert fields_of(What()) == {}
    what = What(
        quality="final", strategy="cost_first", preferred_backend="auto", preferred_model="m", cloud=False, fast=False,
        max_cost="$0.01", value_per_hour="3.60",
    )  # fmt: skip
    assert fields_of(what) == {
        "quality": "final", "strategy": "cost_first", "preferred_backend": "auto", "preferred_model": "m",
        "allow_cloud": False, "prioritize_speed": False, "max_cost_microdollars": 10_000,
        "value_per_hour_microdollars": 3_600_000,
    }  # fmt: skip
    assert set(fields_of(what)) == set(FIELDS) == set(FLAGS)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"max_cost": "much"}, "--max-cost is 'much'"),
        ({"value_per_hour": "-1"}, "--value-per-hour is '-1'"),
        ({"preferred_backend": ""}, "--preferred-backend is ''"),
        ({"preferred_model": "a\tb"}, "--preferred-model is"),
        ({"strategy": "x" * 129}, "--strategy is"),
    ],
)
def test_no_fields(what: dict[str, Any], said: str) -> None:
    with pytest.raises(Wrong) as wrong:
        fields_of(What(**what))
    assert said in wrong.value.text


BEFORE = Preference(tenant="acme", scope="tenant", quality="draft", strategy="cost_first", at=1.0)


def test_what_is_not_named_stays() -> None:
    after = changed(BEFORE, {"quality": "final"}, set(), 2.0)
    assert (after.quality, after.strategy, after.at) == ("final", "cost_first", 2.0)
    assert changed(BEFORE, {}, {"strategy"}, 2.0).strategy is None


@given(st.sets(st.sampled_from(FIELDS)))
def test_clearing_everything_leaves_nothing_to_show(cleared: set[str]) -> None:
    after = changed(BEFORE, {}, cleared, 2.0)
    assert bool(in_order([after])) == bool({"quality", "strategy"} - cleared)


def test_the_table_shows_the_nearest_first_and_only_used_columns() -> None:
    there = in_order([
        BEFORE, Preference(tenant="acme", scope="step:site/hero", allow_cloud=False, max_cost_microdollars=0),
        Preference(tenant="acme", scope="user:ada", value_per_hour_microdollars=3_600_000),
        Preference(tenant="acme", scope="user:bob"),
    ])  # fmt: skip
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(Fitted(preferences_cells(there), 100))
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines == [
        ["scope", "quality", "strategy", "cloud", "max-cost", "value-per-hour"],
        ["step:site/hero", "-", "-", "no", "$0", "-"],
        ["user:ada", "-", "-", "-", "-", "$3.6"],
        ["tenant", "draft", "cost_first", "-", "-", "-"],
    ]


def run(*arguments: str) -> Any:
    point = EntryPoint("preferences", "actors.console.preferences:preferences", GROUP)
    app = build({"preferences": point}, "preferences")
    return app(["preferences", *arguments], exit_on_error=False, print_error=False, result_action="return_value")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set",), "nothing is to be set"),
        (("show", "--quality", "draft"), "--quality belongs to `set`"),
        (("clear", "--no-cloud"), "--cloud belongs to `set`"),
        (("clear", "qualitty"), "'qualitty' is nothing that can be preferred"),
        (("show", "quality"), "'quality' is no flag"),
        (("set", "--step", "a", "--fast"), "no --workflow is named"),
    ],
)
def test_wrong_usage_is_named_before_anything_is_sent(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(Wrong) as wrong:
        run(*arguments, "--nats", "nats://127.0.0.1:1")
    assert said in wrong.value.text


def test_set_show_and_clear_over_a_real_bus(tmp_path: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)

    def analyzer() -> Analyzer:
        return Analyzer(default_deadline_seconds=60.0, longest_deadline_seconds=60.0, strategies=("cost_first",))

    async def said(server: NatsServer, *arguments: str) -> str:
        work: list[Any] = []
        monkeypatch.setattr(module, "play", lambda coroutine: work.append(coroutine) or 0)
        run(*arguments, "--nats", server.url)
        assert await work[0] == 0
        printed = capsys.readouterr()
        return printed.out + printed.err

    async def story() -> None:
        async with NatsServer(tmp_path / "nats") as server:
            bus = await connect(server.url, name="test")
            await bus.set_up(topology("together"))
            deployment = Deployment(rooms="together")
            await bus.put_fact(deployment.subject, codec.encode(deployment))
            host = Host(bus, [room_of(analyzer, ANALYZER)], instance="front", boot="b1", hand_on=True)
            await host.open()
            assert "nothing is preferred: turnout preferences set" in await said(server, "show")
            first = await said(server, "set", "--quality", "draft", "--strategy", "cost_first", "--no-cloud")
            assert first == "default: quality: draft; strategy: cost_first; allow_cloud: no\n"
            assert "stands already" in await said(server, "set", "--quality", "draft")
            await said(server, "set", "--workflow", "a.b", "--step", "c d", "--max-cost", "0.01")
            with pytest.raises(Wrong, match="Did you mean 'cost_first'"):
                await said(server, "set", "--strategy", "cost_frist")
            rows = json.loads(await said(server, "show", "--output", "json"))
            assert [row["scope"] for row in rows] == ["step:a.b/c d", "tenant"]
            assert rows[1]["allow_cloud"] is False
            assert "1 scope" in await said(server, "show", "--workflow", "a.b", "--step", "c d")
            assert "nothing is preferred:" in await said(server, "show", "--tenant", "other")
            cleared = await said(server, "clear", "cloud", "quality")
            assert cleared == "default: strategy: cost_first\n"
            assert await said(server, "clear") == "default: nothing is preferred any more\n"
            assert "nothing is preferred there" in await said(server, "clear")
            left = await said(server, "show")
            assert "step:a.b/c d" in left
            assert "tenant default" in left
            await host.close()
            await bus.close()

    asyncio.run(story())


def test_nobody_there_is_said(tmp_path: Any, monkeypatch: Any) -> None:
    from actors.console.screen import Unreachable

    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unreachable, match="no bus at"):
        asyncio.run(module._show("default", "", Where(nats="nats://127.0.0.1:1"), Output()))
