"""`turnout policy explain`: a decision on a real server, and which rule set what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.console.policy_explain import rows
from messages import Model
from tests.actors.console.live import live, run
from tests.actors.router.seeds.fleet import decision, fleet_004, policy, view_of
from tests.messages.samples import backend


def told(wishes: dict[str, Any], *policies: Any) -> dict[str, tuple[str, str]]:
    return {field: (value, who) for field, value, who in rows(decision(view_of(fleet_004(), *policies), wishes))}


def test_each_field_has_its_rule() -> None:
    found = told({"task": "code", "quality": "final", "complexity": "simple"})
    assert found["strategy"] == ("quality_based", "quality@0 final")
    assert found["pool"] == ("qwen3-coder:480b-cloud, qwen-coder-vllm, qwen2.5-coder:7b", "chains@0 code")
    assert found["shares"][1] == found["overflow"][1] == found["max_attempts"][1] == "chains@0 code"


def test_what_no_rule_says_has_its_source_too() -> None:
    found = told({"task": "chat", "asset": "image"})
    assert found == {
        "strategy": ("expected_cost", "default@0"), "max_attempts": ("3", "failover of the policies"),
    }  # fmt: skip
    assert told({"strategy": "cost_first"})["strategy"] == ("cost_first", "the job itself")
    off = policy('policy = "off"\nenabled = false\nfixed_order = ["ollama"]')
    assert told({}, off) == {"fixed order": ("ollama", "off@0")}


def test_checks_are_told_where_they_differ() -> None:
    mine = policy('policy = "mine"\n[[rules]]\nname = "r"\n[rules.checks]\nwhole = true\nmax_characters = 9')
    assert told({}, mine)["checks"] == ("max_characters 9; whole True", "mine@0 r")


def test_it_is_shown_for_a_stored_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live(tmp_path) as there:
        there.know(backend("gpu", models=(Model(name="m"),)))
        run("submit", "--id", "j-1", "--quality", "draft", "--no-wait", "Hello", url=there.server.url)
        there.know()  # A moment, so that it is decided.
        assert run("policy", "explain", "j-1", url=there.server.url) == 0
        shown, noted = capsys.readouterr()
        assert "latency_first" in shown
        assert "quality@0 draft" in shown
        assert "round 1" in noted
        assert run("policy", "explain", "j-2", url=there.server.url) == 1
        assert "no decision about a job 'j-2'" in capsys.readouterr().err
