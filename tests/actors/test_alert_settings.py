from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alert_settings import WEBHOOK_VARIABLE, LatencyTarget, Webhook, thresholds, webhooks_of
from actors.settings import Settings, SettingsError, load

EXAMPLE = """
[[latency_targets]]
model = "llama3.1:8b"
target_seconds = 1.5

[[latency_targets]]
workflow = "site"
step = "hero"
of = "first_token"
target_seconds = 0.8
alert_after = 5

[[webhooks]]
name = "ops"
url_env = "OPS_URL"
secret_env = "OPS_SECRET"
kinds = ["budget_hard", "latency_alert"]
severity = "alert"

[[webhooks]]
name = "local"
url = "http://127.0.0.1:9000/alerts"
allow_private = true
format = "json"
"""


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "turnout.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def test_targets_and_webhooks_are_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, EXAMPLE)
    assert [target.name for target in settings.latency_targets] == [
        "model:llama3.1:8b/whole", "workflow:site/step:hero/first_token",
    ]  # fmt: skip
    assert settings.latency_targets[0].alert_after == 3
    assert [webhook.name for webhook in settings.webhooks] == ["ops", "local"]
    assert settings.webhooks[0].kinds == ("budget_hard", "latency_alert")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[latency_targets]]\ntarget_seconds = 0", "latency_targets[0].target_seconds is 0: use more than 0"),
        ("[[latency_targets]]\ntarget_seconds = inf", "latency_targets[0].target_seconds is inf"),
        ("[[latency_targets]]\ntarget_seconds = 1\nstep = 'a'", "name its workflow too"),
        ("[[latency_targets]]\ntarget_seconds = 1\nalert_after = -1", "latency_targets[0].alert_after is -1"),
        ("[[latency_targets]]\ntarget_seconds = 1\n" * 2, "another target has it"),
        ("[[latency_targets]]\ntarget_secnds = 1", "Did you mean latency_targets.target_seconds?"),
        ("[[webhooks]]\nname = 'a'", "webhooks[0]: give url_env"),
        ("[[webhooks]]\nname = 'a'\nurl_env = 'A'\nurl = 'http://127.0.0.1/'", "webhooks[0]: give url_env"),
        ("[[webhooks]]\nname = ''\nurl_env = 'A'", "webhooks[0].name is ''"),
        ("[[webhooks]]\nname = 'a'\nurl_env = 'A'\n" * 2, "another webhook has it"),
        ("[[webhooks]]\nname = 'a'\nurl_env = 'A'\nper_minute = 0", "per_minute"),
        ("[[webhooks]]\nname = 'a'\nurl_env = 'A'\nkinds = ['soft']", "kinds"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        read(tmp_path, text)
    assert said in str(wrong.value)


@pytest.mark.parametrize(
    "more",
    [
        "url = 'https://hooks.slack.com/services/T0/s3cr3t'",
        "url = 'https://hooks.slack.com/services/T0/s3cr3t'\nformat = 'slack'",
        "url = 'https://example.com/in?token=s3cr3t'\nformat = 'json'",
        "url = 'https://ada:s3cr3t@example.com/in'\nformat = 'json'",
    ],
)
def test_a_url_that_is_a_secret_may_not_be_written_down(tmp_path: Path, more: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        read(tmp_path, f"[[webhooks]]\nname = 'a'\n{more}")
    assert "name the variable in url_env" in str(wrong.value)
    assert "s3cr3t" not in str(wrong.value)


@pytest.mark.parametrize("field", ["url_env", "secret_env"])
@pytest.mark.parametrize(
    "value", ["https://hooks.slack.com/services/T0/s3cr3t", "whsec_s3cr3t/+=", "s3cr3t s3cr3t", "1s3cr3t"]
)
def test_a_secret_in_place_of_its_variable_is_not_repeated(tmp_path: Path, field: str, value: str) -> None:
    named = {"url_env": "URL", field: value}
    with pytest.raises(SettingsError) as wrong:
        read(tmp_path, "[[webhooks]]\nname = 'a'\n" + "\n".join(f"{key} = '{one}'" for key, one in named.items()))
    assert f"webhooks[0].{field} is no name of an environment variable" in str(wrong.value)
    assert "s3cr3t" not in str(wrong.value)


def test_a_plain_endpoint_may_be_written_down(tmp_path: Path) -> None:
    text = "[[webhooks]]\nname = 'a'\nurl = 'https://alerts.example.com/in'\nformat = 'json'"
    assert read(tmp_path, text).webhooks[0].url == "https://alerts.example.com/in"


# The environment.


def test_the_webhook_of_the_environment_comes_with_those_of_the_settings() -> None:
    own = (Webhook(name="ops", url_env="OPS_URL"),)
    assert webhooks_of(own, {}) == own
    assert webhooks_of((), {WEBHOOK_VARIABLE: ""}) == ()
    both = webhooks_of(own, {WEBHOOK_VARIABLE: "https://hooks.slack.com/x"})
    assert [webhook.url_env for webhook in both] == ["OPS_URL", WEBHOOK_VARIABLE]
    mine = (Webhook(name="chat", url_env=WEBHOOK_VARIABLE, severity="alert"),)
    assert webhooks_of(mine, {WEBHOOK_VARIABLE: "https://hooks.slack.com/x"}) == mine


def test_thresholds_of_the_seeds_variable_and_its_like() -> None:
    environment = {
        "OPENAI_BILLING_ALERT_THRESHOLD": "100", "ANTHROPIC_BILLING_ALERT_THRESHOLD": " $12.50 ",
        "GEMINI_BILLING_ALERT_THRESHOLD": "", "OPENAI_API_KEY": "k", "_BILLING_ALERT_THRESHOLD": "5",
    }  # fmt: skip
    assert thresholds(environment) == {"openai": 100_000_000, "anthropic": 12_500_000}


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf", "1e30", "$"])
def test_what_is_no_amount_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"OPENAI_BILLING_ALERT_THRESHOLD is .*give dollars per month"):
        thresholds({"OPENAI_BILLING_ALERT_THRESHOLD": text})


@given(st.integers(1, 10**12))
def test_thresholds_are_exact(amount: int) -> None:
    dollars = f"{amount // 10**6}.{amount % 10**6:06}"
    assert thresholds({"OPENAI_BILLING_ALERT_THRESHOLD": dollars}) == {"openai": amount}


@given(
    st.fixed_dictionaries(
        {}, optional={key: st.text(min_size=1, max_size=5) for key in ("workflow", "model", "backend")}
    )
)
def test_targets_that_differ_are_called_differently(named: dict[str, Any]) -> None:
    one = LatencyTarget(target_seconds=1.0, **named)
    assert one.name != LatencyTarget(target_seconds=1.0, of="first_token", **named).name
    assert one.name.endswith("/whole")
    assert all(value in one.name for value in named.values())


def test_a_node_refuses_a_threshold_that_is_no_amount() -> None:
    from actors import node

    assert node.alert_thresholds({"OPENAI_BILLING_ALERT_THRESHOLD": "5"}) == {"openai": 5_000_000}
    with pytest.raises(SettingsError, match="OPENAI_BILLING_ALERT_THRESHOLD"):
        node.alert_thresholds({"OPENAI_BILLING_ALERT_THRESHOLD": "five"})
