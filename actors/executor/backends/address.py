"""Checks what an operator wrote as a backend's address and key, and says clearly what is wrong with it. Pure."""

from urllib.parse import SplitResult, urlsplit


def http_address(url: str) -> SplitResult:
    """The parts of a backend's URL, without the path's last slash. Raises ValueError naming the field and the value."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url: {url!r} is no URL: {error}") from None
    if "@" in parts.netloc:
        raise ValueError("url: it holds a user name or password; leave them out and give the key as api_key")
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"url: {url!r} must begin with http:// or https://")
    if not parts.hostname or any(mark.isspace() for mark in parts.geturl()):
        raise ValueError(f"url: {url!r} names no host")
    if port == 0:
        raise ValueError(f"url: {url!r} has port 0; give the port that the server listens on")
    if parts.query or parts.fragment:
        raise ValueError(f"url: {url!r} must end with its path, without ? or #")
    return parts._replace(path=parts.path.rstrip("/"))


def openai_address(url: str) -> str:
    """The base URL of an OpenAI-compatible server, usually ending in `/v1`, which is added when there is no path.

    Raises ValueError naming the field and the value.
    """
    parts = http_address(url)
    for ending in ("/chat/completions", "/models"):
        if parts.path.endswith(ending):
            raise ValueError(f"url: {url!r} must be the base URL: leave out {ending!r}")
    return (parts if parts.path else parts._replace(path="/v1")).geturl()


def ollama_address(url: str) -> str:
    """The root URL of an Ollama server; `/api` is taken off. Raises ValueError naming the field and the value."""
    parts = http_address(url)
    if parts.path.endswith("/v1"):
        raise ValueError(f"url: {url!r} is Ollama's OpenAI address: leave out '/v1', or use the kind 'openai'")
    return parts._replace(path=parts.path.removesuffix("/api")).geturl()


def header_value(field: str, value: str) -> str:
    """`value` if an HTTP header can carry it; otherwise raise ValueError that names `field` but not the value."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(f"{field}: holds spaces at its ends, line breaks or characters outside ASCII")
    return value
