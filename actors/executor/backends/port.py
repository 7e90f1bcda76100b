"""What every backend adapter promises, whatever protocol it speaks.

The executor sees nothing else: it hands in a `Call`, reads `Chunk`s, `Step`s and `Artifact`s and then one `Answer`, or gets
a `BackendError`. Adapters impose no limit on silence, only on connecting: stall timeouts belong to the executor.
"""

from collections.abc import AsyncGenerator, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, Protocol, cast, runtime_checkable

import msgspec

from actors.executor.backends.files import File
from messages.values import Asset, Media, Quality

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
    "too_large",
    "empty",
    "interrupted",
]
"""How a backend failed.

- `timeout`: it, or a proxy before it, said that it took too long (408, 504). Our own stall timeout is the executor's.
- `connection_error`: no connection, or it broke before the answer began. What that used depends on whether the request had
  begun: see `Sending`.
- `rate_limited`: too many requests (429).
- `server_error`: it broke (500, 502, ...).
- `overloaded`: its queue is full or its model is loading (503, 529).
- `account`: key, permission or money; no request of this account will work (401, 402, 403, spend limits).
- `bad_request`: the request is wrong, here and probably everywhere (400, 422); without a `status` we found it ourselves, and
  then everywhere for certain.
- `invalid_structure`: the answer is no JSON, or not the JSON that the protocol promises.
- `cut_stream`: the answer began and broke off before its end.
- `unknown_model`: the request is wrong for this backend only: it has no such model, or the model lacks what the request
  needs (images, tools).
- `too_large`: the request is too large for this backend (413, a context that is exceeded); a larger one may take it.
- `empty`: it answered, and made nothing: a blocked prompt, an image that was filtered out. Another one may see it otherwise.
- `interrupted`: somebody who uses the server stopped the call there, or took it out of its queue: they want it for themselves.
"""

Retry = Literal["same", "elsewhere", "account", "never"]
"""What may be done about a failure.

- `same`: the same backend may be asked again, after a delay.
- `elsewhere`: another backend should be asked; this one would fail again for now.
- `account`: another backend should be asked, and this one's account is unusable until a person acts.
- `never`: no backend is to blame; at most one other may be asked whether it finds the same.
"""

RETRIES: Final[Mapping[ErrorKind, Retry]] = {
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
    "too_large": "elsewhere",
    "empty": "elsewhere",
    "interrupted": "elsewhere",
}
"""What may be done about each kind, unless the server has a word of its own (`x-should-retry`)."""

BODY_LIMIT: Final = 2_000
"""Characters of an error body that a `BackendError` keeps."""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the job brings along: the image to start from, a mask, a sound."""

    name: str
    """What it is for: `image`, `mask`, `end_image`, `video`, `audio`, or the name of a recipe's input."""
    media_type: str
    data: bytes


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt's request, in no protocol's form."""

    key: str = ""
    """Names this call, in all deployments. For protocols whose client chooses the id of the request, so that a lost answer, or
    what a dead executor has left there, can be found again."""
    earlier: tuple[str, ...] = ()
    """Keys of the job's earlier calls on this backend that it may still be at work for, in their order; see `Keeps`."""
    model: str
    asset: Asset = "text"
    """What is to be made."""
    quality: Quality = "standard"
    messages: tuple[dict[str, Any], ...]
    """In OpenAI form: `role`, and `content` as a string or as parts. Of media jobs the last text of the user is the prompt;
    see `prompt_of`. Images in parts are `data:` URLs, or URLs of the web."""
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
    media: Media = Media()
    """Size, steps, frames, LoRAs, … of what is to be made, as adjusted for this backend; 0 and empty: it does not matter."""
    negative_prompt: str = ""
    """What must not be in the picture."""
    recipe: str = ""
    """The workflow to run, by name; empty: the usual one for the asset."""
    unsaid: tuple[str, ...] = ()
    """Fields of `media` that are nobody's word: of the quality level, or reckoned. What a recipe has comes before them, and its
    limits do not fail on them."""
    graph: dict[str, Any] | None = None
    """The job's own ComfyUI graph in API form; comes before a recipe."""
    inputs: tuple[Input, ...] = ()
    texts: tuple[str, ...] = ()
    """What is to be embedded."""
    dimensions: int = 0
    """Length of the embeddings that are asked for; 0: the model's own."""


def prompt_of(call: Call) -> str:
    """The text to make media from: the last message of the user, its texts joined; empty when there is none."""
    for message in reversed(call.messages):
        if message.get("role") != "user":
            continue
        content: Any = message.get("content")
        if isinstance(content, str):
            return content
        parts = cast("list[dict[str, Any]]", content) if isinstance(content, list) else []
        return "\n".join(str(part["text"]) for part in parts if part.get("text"))
    return ""


def only_text(call: Call) -> bool:
    """Whether nothing but text is in the messages: what else there is may take tokens that no tokenizer counts."""
    for message in call.messages:
        content: Any = message.get("content")
        parts = cast("list[Any]", content) if isinstance(content, list) else []
        if not all(isinstance(part, str) or (isinstance(part, dict) and "text" in part) for part in parts):
            return False
    return True


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
    gpu_seconds: float | None = None
    """How long it ran on the backend's hardware, as the backend says (RunPod's `executionTime`)."""
    thought_bytes: int = 0
    """Bytes of reasoning that is no part of the answer's text: where the output is not told, an estimate counts them."""


class Remark(msgspec.Struct, frozen=True):
    """What somebody who reads an answer should know of how it came: it is used all the same."""

    name: str
    """What it is about, in a word: `encoding`, `stream`, `count`."""
    message: str
    """For people."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer; always the last thing that a run yields. Artifacts came before it."""

    text: str
    """All chunks together, but for thoughts, and marks at the end, that turned out to be none of it only later. May be empty."""
    finish_reason: FinishReason
    model: str
    """As the backend names it, or as we asked for it when it does not say."""
    usage: Usage
    tool_calls: tuple[dict[str, Any], ...] = ()
    """In OpenAI form; `arguments` is a string, and not checked. What else a call holds is there as it came."""
    reasoning: str = ""
    """What the model thought, as far as the backend tells it."""
    refusal: str = ""
    """Why the model would not answer, in its own words."""
    carried: tuple[dict[str, Any], ...] = ()
    """What must be sent back unchanged with what follows, as it came: blocks of thoughts, reasoning items, signatures."""
    remarks: tuple[Remark, ...] = ()
    """What is told with it."""
    embeddings: tuple[tuple[float, ...], ...] = ()
    """One for each of the call's texts, in their order."""
    seed: int | None = None
    """The seed that was really used, where the backend or the adapter chose it."""


def remarked(answer: Answer, *remarks: Remark) -> Answer:
    """The answer, and what else is told with it, each once."""
    return msgspec.structs.replace(answer, remarks=tuple(dict.fromkeys((*answer.remarks, *remarks))))


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the answer's text as it streams; may hold many tokens, or none: a sign of life, as from a model that thinks."""

    text: str


Stage = Literal["queued", "loading", "working"]
"""`queued`: the backend has not begun. `loading`: it loads the model, or starts a worker. `working`: it makes it."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How far the backend is, where it says so; a sign of life."""

    stage: Stage
    share: float | None = None
    """Part of the work that is done, 0 to 1; None: unknown. Never falls during a run."""
    text: str = ""
    """What it does, for people: `step 12 of 30`."""
    preview: bytes = b""
    """A small picture of what is being made, JPEG or PNG; empty: none."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the backend made. Whoever takes it closes it."""

    name: str
    """A file name without folders, with its ending."""
    media_type: str
    """As in HTTP's `Content-Type`."""
    file: File
    width: int = 0
    """Pixels, where known."""
    height: int = 0
    """Pixels, where known."""
    seconds: float = 0.0
    """Length of a video or sound, where known."""


class TookUp(msgspec.Struct, frozen=True):
    """No call was made: the backend still had an earlier one of the job that asks for exactly the same, and that one is gone on
    with. Comes before everything else.
    """

    key: str
    """Whose it is, of the call's `earlier`."""


Item = Chunk | Step | Artifact | TookUp | Answer
"""What a run yields."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A model found by discovery."""

    model: str
    context_tokens: int | None = None
    """Prompt and answer together, per request; None: the backend does not say."""
    max_output_tokens: int | None = None
    """The most it writes per answer; None: the backend does not say."""
    capabilities: tuple[str, ...] = ("text",)
    """`text`, `vision`, `tools`, `json`, `image`, `video`, `audio`, `embedding`, `lora`, `controlnet`, `thinking`, and
    `recipe:<name>` for every recipe that it can run."""
    loaded: bool | None = None
    """Whether the model is in memory; None: the backend does not say."""
    parameters_billion: float | None = None
    vram_mb: int | None = None
    """GPU memory it takes, in MiB; None: unknown."""
    loras: tuple[str, ...] | None = None
    """LoRAs it can be run with; None: unknown."""
    has: str = ""
    """Of the model `graph`: node classes and files of the server, as `actors.graph_names` packs them; empty: unknown."""
    cloud: bool = False
    """Runs elsewhere although the server is here: costs money, and its data leave (Ollama's `-cloud` models)."""
    retires: str = ""
    """The day it is shut down, `2026-12-11`; empty: none is known."""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend is that takes calls. None: it does not say."""

    version: str = ""
    waiting: int | None = None
    """Requests in its own queue, ours included."""
    running: int | None = None
    """Requests it works on, ours included."""
    slots: int | None = None
    """Requests it works on at once."""
    loaded: tuple[str, ...] | None = None
    """Models in memory, by the names of its offers."""
    vram_total_mb: int | None = None
    vram_free_mb: int | None = None
    cold: bool = False
    """The next call has to start a worker first."""
    notes: tuple[str, ...] = ()
    """What does not keep it from working, but somebody should know: recipes that lack a file there."""


class Sending:
    """Whether a call's request has begun: at least some of its bytes were written. Whoever writes them tells."""

    def __init__(self) -> None:
        self.watched = False
        """A transport that tells took a request of the call."""
        self.begun = False
        """Bytes of one were written. From then on the backend may work, and count."""


SENDING: Final[ContextVar[Sending | None]] = ContextVar("SENDING", default=None)
"""The request that the current task makes."""


def watched() -> None:
    """A transport takes a request, and will say `begun` when its first bytes are written."""
    if sending := SENDING.get():
        sending.watched = True


def begun() -> None:
    """Bytes of the current task's request are written now, or the work has begun in another way."""
    if sending := SENDING.get():
        sending.watched = sending.begun = True


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
        begun: bool | None = None,
        input_tokens: int | None = None,
        limit_tokens: int | None = None,
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
        self.begun = begun
        """Whether bytes of the request had been written; None: as its transport told (`Sending`), else they may have been."""
        self.input_tokens = input_tokens
        """Of a request that was too large: its tokens as the server counted them; None: it does not tell."""
        self.limit_tokens = limit_tokens
        """Of a request that was too large: how many the server takes; None: it does not tell."""

    def __str__(self) -> str:
        """The sentence for people."""
        return self.message

    @property
    def refused(self) -> bool:
        """The backend itself said that it failed: an HTTP error, or an error where the answer should be."""
        if self.status is None:
            return False
        return self.status >= 400 or self.kind not in ("connection_error", "cut_stream", "invalid_structure")

    @property
    def retry(self) -> Retry:
        """What may be done about it; the server's own word weighs more than the kind."""
        retry = RETRIES[self.kind]
        if retry == "same" and self.should_retry is False:
            return "elsewhere"
        if retry == "elsewhere" and self.should_retry:
            return "same"
        return retry


class NoList(BackendError):
    """The server has no list of models, or shows us none: it may serve calls all the same."""

    @staticmethod
    def or_worse(error: BackendError) -> BackendError:
        """`error` of a request for the list as a NoList, where it says no more than that."""
        if error.status not in {401, 403, 404, 405, 501}:
            return error
        return NoList(error.kind, error.message, status=error.status, body=error.body)


class Backend(Protocol):
    """One server that runs calls. Belongs to one event loop; any number of calls may run at once."""

    def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield chunks, steps and artifacts as they come, then exactly one `Answer`.

        An async generator: closing it, or cancelling whoever waits for it, closes the connection at once and stops the
        generation: where the protocol has a call for that it is made, shielded and within `CANCEL_SECONDS`. Raises
        BackendError.
        """
        ...

    async def health(self) -> Vitals:
        """How it is, when calls may be sent; otherwise raise BackendError. Cheap: it is asked often."""
        ...

    async def discover(self) -> tuple[Offer, ...]:
        """The models it offers, in its own order, each once. Raises BackendError."""
        ...

    async def close(self) -> None:
        """Close all connections; running calls fail. May be called twice."""
        ...


@runtime_checkable
class TellsBegun(Protocol):
    """A backend whose requests all go through a transport that tells when they begin. Of others every call may have begun."""

    tells_begun: bool


@runtime_checkable
class Counts(Protocol):
    """A backend that tells how many tokens a model would read, without running it and for nothing."""

    async def count(self, call: Call) -> int | None:
        """The input tokens of a call, by the model's own tokenizer and template; None: not of this one. Raises BackendError."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A backend that goes on with a call when its caller has died. A run goes on with what one of the call's `earlier` left
    there, if that asks for exactly the same, and stops it otherwise.
    """

    async def left(self) -> tuple[str, ...]:
        """The keys of all calls that run or wait there, whoever made them. Raises BackendError."""
        ...

    async def stop(self, key: str) -> None:
        """Stop a call, or take it out of the queue; nothing happens when it is not there. Raises BackendError."""
        ...


CANCEL_SECONDS: Final = 5.0
"""How long an adapter may take to tell a backend that nobody waits any more."""


@runtime_checkable
class Switch(Protocol):
    """A backend whose models can be put into memory and out of it on command."""

    async def load(self, model: str) -> None:
        """Put the model into memory, in place of what is there if need be; returns when it can be called. Raises BackendError."""
        ...

    async def unload(self, model: str) -> None:
        """Free the memory of the model; nothing happens when it is not loaded. Raises BackendError."""
        ...
