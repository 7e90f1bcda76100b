import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.address import ollama_address, openai_address


def test_addresses_are_completed() -> None:
    assert openai_address("http://localhost:8000") == "http://localhost:8000/v1"
    assert openai_address("https://api.openai.com/v1/") == "https://api.openai.com/v1"
    assert openai_address("http://[::1]:8000/proxy/v1") == "http://[::1]:8000/proxy/v1"
    assert ollama_address("http://localhost:11434/") == "http://localhost:11434"
    assert ollama_address("https://ollama.com/api") == "https://ollama.com"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000", "ftp://x/v1", "http://", "http:///v1", "http://x:99999/v1", "http://x:0/v1", "http://x/v1?a=1",
        "http://x/v1#a", "http://x y/v1", "http://x/v1/chat/completions", "http://x/v1/models", "", "http://[x/v1",
    ],
)  # fmt: skip
def test_a_wrong_url_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: ") as caught:
        openai_address(url)
    assert repr(url) in str(caught.value)


def test_secrets_are_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"^url: ") as caught:
        openai_address("http://me:hunter2@x/v1")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^api_key: ") as caught:
        open_backend("openai", "http://x/v1", api_key="hunter2\n", now=lambda: 0.0)
    assert "hunter2" not in str(caught.value)


def test_ollama_is_not_spoken_to_at_its_openai_address() -> None:
    with pytest.raises(ValueError, match=r"^url: .*'/v1'"):
        ollama_address("http://localhost:11434/v1")


def test_other_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^protocol: 'soap'"):
        open_backend("soap", "http://x", api_key=None, now=lambda: 0.0)
    with pytest.raises(ValueError, match=r"^connect_timeout_seconds: 0"):
        open_backend("openai", "http://x", api_key=None, now=lambda: 0.0, connect_timeout_seconds=0)
