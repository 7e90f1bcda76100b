import ssl
from pathlib import Path
from typing import Any

import pytest

from actors.executor.backends.connection import Connection


def connection(**fields: Any) -> Connection:
    known: dict[str, Any] = {"url": "https://example.test/v1", "now": lambda: 0.0}
    return Connection(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "ftp://x"}, r"^url: 'ftp://x' must begin with http"),
        ({"api_key": "two\nlines"}, r"^api_key: "),
        ({"headers": {"x-team": "ü"}}, r"^headers\.x-team: "),
        ({"connect_timeout_seconds": 0}, r"^connect_timeout_seconds: 0 must be above 0"),
        ({"max_connections": -1}, r"^max_connections: -1 must be 0"),
        ({"proxy": "socks5://me:hunter2@x:1"}, r"^proxy: use http://host:port"),
        ({"proxy": "http://x:no"}, r"^proxy: it is no URL"),
        ({"ca_file": "/nowhere/ca.pem"}, r"^ca_file: there is no file '/nowhere/ca.pem'"),
        ({"client_cert": "/nowhere/me.pem"}, r"^client_cert: there is no file"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_shown(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        connection(**fields)
    assert "hunter2" not in str(caught.value)
    assert "two" not in str(caught.value)


@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
def test_a_file_that_holds_no_certificate(tmp_path: Path, field: str) -> None:
    file = tmp_path / "x.pem"
    file.write_text("no certificate")
    with pytest.raises(ValueError, match=rf"^{field}: .* in PEM form"):
        connection(**{field: str(file)}).tls()


def test_certificates_are_checked_unless_somebody_says_otherwise() -> None:
    assert connection().tls().verify_mode == ssl.CERT_REQUIRED
    assert connection(verify_tls=False).tls().verify_mode == ssl.CERT_NONE
    assert not connection(verify_tls=False).tls().check_hostname


def test_two_that_are_configured_alike_are_the_same_and_nothing_can_be_read_from_it() -> None:
    one = connection(api_key="hunter2", headers={"a": "1", "b": "2"}, options={"x": (1, 2)})
    same = connection(api_key="hunter2", headers={"b": "2", "a": "1"}, options={"x": (1, 2)}, now=lambda: 5.0)
    assert one.configuration == same.configuration
    assert "hunter2" not in one.configuration
    changes: list[dict[str, Any]] = [
        {"api_key": "other"}, {"url": "https://example.test"}, {"headers": {}}, {"options": {"x": (1, 3)}},
        {"verify_tls": False}, {"use_env_proxy": True}, {"max_connections": 3},
    ]  # fmt: skip
    base: dict[str, Any] = {"api_key": "hunter2", "headers": {"a": "1", "b": "2"}, "options": {"x": (1, 2)}}
    assert len({connection(**{**base, **change}).configuration for change in changes} | {one.configuration}) == 8
