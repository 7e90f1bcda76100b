"""What every backend adapter promises, whatever protocol it speaks.

The executor sees nothing else: it hands in a `Call`, reads `Chunk`s and one `Answer`, or gets a `BackendError`.
Adapters impose no limit on silence, only on connecting: stall timeouts belong to the executor.
"""

from collections.abc import AsyncGenerator
from typing import Any, Final, Literal, Protocol

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", ""]
"""Why the answer ended; empty when the backend did not say."""

ErrorKind = Literal[
    "timeout",
    "connection_error",
    "rate_limited",
    "server_error",
    "overloaded",
    "account",
    "bad_request",
    "invalid_structure",
    "cut_stream",
    "unknown_model",
]
"""How a backend failed.

- `timeout`: it, or a proxy before it, said that it took too long (408, 504). Our own stall timeout is the executor's.
- `connection_error`: no connection, or it broke before the answer began. Nothing was billed.
- `rate_limited`: too many requests (429).
- `server_error`: it broke (500, 502, ...).
- `overloaded`: its queue is full or its model is loading (503, 529).
- `account`: key, permission or money; no request of this account will work (401, 402, 403, spend limits).
- `bad_request`: the request is wrong everywhere (400, 413, 422).
- `invalid_structure`: the answer is no JSON, or not the JSON that the protocol promises.
- `cut_stream`: the answer began and broke off before its end.
- `unknown_model`: the request is wrong for this backend only: it has no such model, or the model lacks what the request
  needs (images, tools).
"""

Retry = Literal["same", "elsewhere", "account", "never"]
"""What may be done about a failure.

- `same`: the same backend may be asked again, after a delay.
- `elsewhere`: another backend should be asked; this one would fail again for now.
- `account`: another backend should be asked, and this one's account is unusable until a person acts.
- `never`: no backend should be asked, and none is to blame.
"""

_RETRY: Final[dict[ErrorKind, Retry]] = {
    "timeout": "same",
    "connection_error": "same",
    "rate_limited": "same",
    "server_error": "same",
    "overloaded": "elsewhere",
    "account": "account",
    "bad_request": "never",
    "invalid_structure": "elsewhere",
    "cut_stream": "same",
    "unknown_model": "elsewhere",
}

BODY_LIMIT: Final = 2_000
"""Characters of an error body that a `BackendError` keeps."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt's request, in no protocol's form."""

    model: str
    messages: tuple[dict[str, Any], ...]
    """In OpenAI form: `role`, and `content` as a string or as parts."""
    max_output_tokens: int
    """Always above 0: this is what caps the cost."""
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    """In OpenAI form: `json_object`, or `json_schema` with its schema."""
    tools: tuple[dict[str, Any], ...] = ()
    """In OpenAI form: `{"type": "function", "function": {...}}`."""
    context_tokens: int = 0
    """Estimated tokens of prompt and answer together, for servers that size their context by request; 0: unknown."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one attempt. Unknown is None, never 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Part of the input tokens that came from the backend's cache."""
    cache_write_tokens: int | None = None
    """Part of the input tokens that were put into the backend's cache."""
    reasoning_tokens: int | None = None
    """Part of the output tokens that was thought and not shown."""
    estimated: bool = False
    """The backend sent no usage; somebody counted. Adapters never estimate: they leave None."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer; always the last thing that a run yields."""

    text: str
    """All chunks together. May be empty."""
    finish_reason: FinishReason
    model: str
    """As the backend names it, or as we asked for it when it does not say."""
    usage: Usage
    tool_calls: tuple[dict[str, Any], ...] = ()
    """In OpenAI form; `arguments` is a string, and not checked."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the answer's text as it streams; may hold many tokens, or none: a sign of life, as from a model that thinks."""

    text: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A model found by discovery."""

    model: str
    context_tokens: int | None = None
    """Prompt and answer together, per request; None: the backend does not say."""
    capabilities: tuple[str, ...] = ("text",)
    loaded: bool | None = None
    """Whether the model is in memory; None: the backend does not say."""


class BackendError(Exception):
    """A backend failed. Holds no secret: adapters redact keys before they raise it."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        retry_after_seconds: float | None = None,
        partial: str = "",
        usage: Usage | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.status = status
        """HTTP status of the answer, when there was one; 200 when it failed after that."""
        self.body = body[:BODY_LIMIT]
        self.retry_after_seconds = retry_after_seconds
        """How long the backend asked to be left alone; at least 0, not bounded above."""
        self.partial = partial
        """Text that had streamed before."""
        self.usage = usage
        """Usage that had been reported before; None: nothing was."""
        self.should_retry = should_retry
        """The server's own word (`x-should-retry`); None: it gave none."""

    def __str__(self) -> str:
        """The sentence for people."""
        return self.message

    @property
    def retry(self) -> Retry:
        """What may be done about it; the server's own word weighs more than the kind."""
        retry = _RETRY[self.kind]
        if retry == "same" and self.should_retry is False:
            return "elsewhere"
        if retry == "elsewhere" and self.should_retry:
            return "same"
        return retry


class Backend(Protocol):
    """One server that runs calls. Belongs to one event loop; any number of calls may run at once."""

    def run(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        """Yield the answer's chunks, then exactly one `Answer`.

        An async generator: closing it, or cancelling whoever waits for it, closes the HTTP connection at once, which
        stops the generation. Raises BackendError.
        """
        ...

    async def health(self) -> None:
        """Return when calls may be sent; otherwise raise BackendError."""
        ...

    async def discover(self) -> tuple[Offer, ...]:
        """The models it offers, in its own order, each once. Raises BackendError."""
        ...

    async def close(self) -> None:
        """Close all connections; running calls fail. May be called twice."""
        ...
