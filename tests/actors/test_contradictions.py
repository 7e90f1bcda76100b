"""What can't hold in the settings is named with the key, the value and what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contradictions import contradictions
from actors.settings import BackendSettings, BreakerRules, Budget, BudgetRules, GroupSettings, JobSettings, Settings
from messages import Model, Price


def backend(name: str = "a", **more: Any) -> BackendSettings:
    return BackendSettings(name=name, url="http://127.0.0.1:8000/v1", **more)


def serving(**model: Any) -> Settings:
    said: dict[str, Any] = {"name": "m", **model}
    return Settings(backends=(backend(models=(Model(**said),)),))


def group(name: str = "gpu", switch: tuple[str, ...] = ("switch.sh", "{model}")) -> GroupSettings:
    return GroupSettings(name=name, switch=switch)


def grouped(*groups: GroupSettings) -> Settings:
    return Settings(backends=(backend(exclusive_group="gpu"),), groups=groups)


def test_the_defaults_hold() -> None:
    assert list(contradictions(grouped(group()))) == []
    assert list(contradictions(Settings())) == []
    assert list(contradictions(serving(context_tokens=1, seconds_per_job=0.0, price=Price(per_request=7)))) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(jobs=JobSettings(longest_deadline_seconds=0.0)), ["jobs.longest_deadline_seconds is 0"]),
        (Settings(jobs=JobSettings(deadline_seconds=1e5)), ["jobs.deadline_seconds is 100000", "at most 86400"]),
        (Settings(breaker=BreakerRules(failures_in_row=0)), ["breaker.failures_in_row is 0", "1 or more"]),
        (Settings(breaker=BreakerRules(window_calls=-1)), ["breaker.window_calls is -1"]),
        (Settings(breaker=BreakerRules(repeat_floor=-1)), ["breaker.repeat_floor is -1"]),
        (Settings(breaker=BreakerRules(window_seconds=1e6)), ["breaker.window_seconds is 1e+06", "60 to 3600"]),
        (Settings(breaker=BreakerRules(slow_seconds=-1.0)), ["breaker.slow_seconds is -1"]),
        (Settings(breaker=BreakerRules(longest_wait_seconds=float("inf"))), ["breaker.longest_wait_seconds is inf"]),
        (Settings(breaker=BreakerRules(lease_seconds=0.0)), ["breaker.lease_seconds is 0", "more than 0"]),
        (Settings(breaker=BreakerRules(account_seconds=float("inf"))), ["breaker.account_seconds is inf"]),
        (Settings(breaker=BreakerRules(open_seconds=400.0)), ["breaker.longest_open_seconds is 300", "400"]),
        (Settings(breaker=BreakerRules(failure_share=0.0)), ["breaker.failure_share is 0"]),
        (Settings(breaker=BreakerRules(jitter=2.0)), ["breaker.jitter is 2", "0 to 1"]),
        (Settings(budgets=(Budget(limit=1, only="x"),)), ["budgets[0].only is 'x'", "a global budget is for all"]),
        (Settings(budgets=(Budget(limit=1), Budget(limit=2))), ["budgets[1].name is 'global/microdollars/day'"]),
        (Settings(budgets=(Budget(limit=1, scope="job"),)), ["budgets[0].window is 'day'", "use total"]),
        (Settings(budgets=(Budget(limit=1, name="te*m"),)), ["budgets[0].name is 'te*m'", "leave out *"]),
        (Settings(budgets=(Budget(limit=1, name="a.>"),)), ["budgets[0].name is 'a.>'", "leave out >"]),
        (Settings(budgets=(Budget(limit=1, scope="model", only="gpt-*"),)), ["only is 'gpt-*'", "no pattern"]),
        (Settings(budgets=(Budget(limit=1, scope=("step", "step")),)), ["scope is ['step', 'step']", "different"]),
        (Settings(budgets=(Budget(limit=1, scope=("global", "model")),)), ["scope is", "global is for all"]),
        (Settings(budgets=(Budget(limit=1, scope=("step", "model"), only="m"),)), ["only is 'm'", "{ step = 'm' }"]),
        (
            Settings(budgets=(Budget(limit=1, scope=("step", "model"), only={"user": "ada"}),)),
            ["only names 'user'", "the scopes are step, model"],
        ),
        (
            Settings(budgets=(Budget(limit=1, scope=("step", "model"), only={"step": "x"}),)),
            ["only is 'x'", "<workflow>/<step>"],
        ),
        (Settings(budgets=(Budget(limit=1, scope=("job", "model")),)), ["window is 'day'", "use total"]),
        (Settings(budgets=(Budget(limit=1, scope="step", only="x"),)), ["budgets[0].only is 'x'", "<workflow>/<step>"]),
        (Settings(budgets=(Budget(limit=1, time_zone="Mars"),)), ["budgets[0].time_zone is 'Mars'", "Europe/Berlin"]),
        (Settings(budgets=(Budget(limit=1, soft_share=2.0),)), ["budgets[0].soft_share is 2"]),
        (Settings(budgets=(Budget(limit=-1),)), ["budgets[0].limit is -1", "or more"]),
        (Settings(budgeting=BudgetRules(time_zone="Mars")), ["budgeting.time_zone is 'Mars'"]),
        (Settings(backends=(backend("a"), backend("a"))), ["backends.name is 'a'"]),
        (Settings(backends=(backend(""),)), ["backends.name is ''"]),
        (
            Settings(backends=(backend(models=(Model(name="m"), Model(name="m"))),)),
            ["backends[0].models[1].name is 'm'"],
        ),
        (
            Settings(backends=(backend(connect_timeout_seconds=0.0),)),
            ["backends[0].connect_timeout_seconds is 0", "more than 0"],
        ),
        (Settings(groups=(group(),)), ["groups[0].name is 'gpu'", "no backend has an exclusive_group"]),
        (grouped(group("gpus")), ["groups[0].name is 'gpus'", "use one of gpu"]),
        (grouped(group(), group()), ["groups[0].name is 'gpu'", "describe a group once"]),
        (grouped(group(switch=())), ["groups[0].switch is empty"]),
        (grouped(group(switch=("switch.sh",))), ["groups[0].switch has no {backend}"]),
        (Settings(backends=(backend(active=False),)), ["backends[0].active is false", "exclusive_group", "'a'"]),
        (serving(name=""), ["backends[0].models[0].name is ''"]),
        (serving(price=Price(per_request=-1)), ["backends[0].models[0].price.per_request is -1", "0 (free)"]),
        (serving(context_tokens=0), ["backends[0].models[0].context_tokens is 0", "more than 0"]),
        (serving(tokens_per_second=float("nan")), ["tokens_per_second is nan"]),
        (serving(seconds_per_job=-0.5), ["seconds_per_job is -0.5", "0 or more"]),
        (serving(swap_seconds=-1.0), ["swap_seconds is -1.0"]),
        (serving(quality_tier=6), ["quality_tier is 6", "1 (small) to 5 (best)"]),
    ],
)
def test_what_is_wrong_is_named(settings: Settings, words: list[str]) -> None:
    first = next(contradictions(settings))
    for word in words:
        assert word in first


@given(st.lists(st.tuples(st.sampled_from(["", "g", "h"]), st.booleans()), max_size=6))
def test_a_group_has_at_most_one_active_backend(members: list[tuple[str, bool]]) -> None:
    backends = tuple(
        backend(f"b{number}", exclusive_group=group, active=active) for number, (group, active) in enumerate(members)
    )
    found = list(contradictions(Settings(backends=backends)))
    surplus = members.count(("", False))
    for group in ("g", "h"):
        names = [f"'b{number}'" for number, member in enumerate(members) if member == (group, True)]
        surplus += max(0, len(names) - 1)
        for name in names[1:]:
            assert any(names[0] in text and name in text and f"group {group!r}" in text for text in found)
    assert len(found) == surplus
