"""The OpenAI protocol as the simulated backend speaks it: strict about requests, honest in answers. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from actors.simbackend.settings import SimSettings

FINGERPRINT: Final = "turnout-sim"
HEADER: Final = "x-turnout-simulated"
_CREATED: Final = 1_700_000_000
"""A constant: a simulated answer has no age, and the same request gives the same bytes."""

encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The request is refused with this status, in OpenAI's form."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, code=code, param=param)


class Part(msgspec.Struct):
    """A part of a message: text, or a reference to something else."""

    type: str
    text: str = ""
    image_url: dict[str, Any] | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


class Said(msgspec.Struct, forbid_unknown_fields=True):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream carries besides the answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The form that the answer shall have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What `/v1/chat/completions` takes. Known fields that a simulation has no use for are checked and ignored."""

    model: str
    messages: Annotated[list[Said], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=16)] | None = None
    seed: int | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=1)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None

    @property
    def cap(self) -> int | None:
        """Most tokens of the answer; None: the request does not say."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def texts(self) -> list[str]:
        """All text of the conversation."""
        texts: list[str] = []
        for message in self.messages:
            if isinstance(message.content, str):
                texts.append(message.content)
            else:
                texts += [part.text for part in message.content or ()]
        return texts


_decoder: Final = msgspec.json.Decoder(ChatRequest)


def read_request(body: bytes, settings: SimSettings) -> ChatRequest:
    """The request in `body`. Raises Refused: 400 when it is wrong, 404 when it asks for an unknown model."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(400, f"invalid request: {error}", param=_param(str(error))) from None
    except msgspec.DecodeError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if request.stream_options is not None and not request.stream:
        raise Refused(400, "stream_options is only allowed with stream: true", param="stream_options")
    if request.model not in settings.models:
        raise Refused(404, f"the model {request.model!r} does not exist", code="model_not_found", param="model")
    return request


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> bytes:
    """An error in OpenAI's form."""
    kind = {404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    return encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def model_list(settings: SimSettings) -> bytes:
    """The answer of `/v1/models`."""
    price = {
        "input_microdollars_per_million": settings.price_input_microdollars,
        "output_microdollars_per_million": settings.price_output_microdollars,
    }
    card = {
        "object": "model",
        "created": _CREATED,
        "owned_by": settings.name,
        "max_model_len": settings.context_tokens,
        "simulated": True,
        "price": price,
    }
    return encode({"object": "list", "data": [{"id": model, **card} for model in settings.models]})


def usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Usage in OpenAI's form."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def whole(number: int, model: str, text: str, finish: str, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to request `number`, in one piece."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": None,
        "finish_reason": finish,
    }
    return {**_frame(number, model, "chat.completion"), "choices": [choice], "usage": tokens}


def chunk(number: int, model: str, delta: Mapping[str, str], finish: str | None = None) -> bytes:
    """One event of the stream that answers request `number`."""
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return event({**_frame(number, model, "chat.completion.chunk"), "choices": choices})


def last_chunk(number: int, model: str, tokens: Mapping[str, Any]) -> bytes:
    """The event that carries the usage."""
    return event({**_frame(number, model, "chat.completion.chunk"), "choices": [], "usage": tokens})


def event(data: object) -> bytes:
    """`data` as a server-sent event."""
    return b"data: " + encode(data) + b"\n\n"


def stream(
    number: int, model: str, pieces: Sequence[str], finish: str, tokens: Mapping[str, Any] | None
) -> list[bytes]:
    """All events of the answer; `tokens` is None when the request did not ask for usage."""
    events = [chunk(number, model, {"role": "assistant", "content": ""})]
    events += [chunk(number, model, {"content": piece}) for piece in pieces if piece]
    events.append(chunk(number, model, {}, finish))
    if tokens is not None:
        events.append(last_chunk(number, model, tokens))
    events.append(b"data: [DONE]\n\n")
    return events


def _frame(number: int, model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim-{number}",
        "object": kind,
        "created": _CREATED,
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def _param(message: str) -> str | None:
    """The field that a validation error is about, if it names one."""
    if "`$." in message:
        return message.partition("`$.")[2].partition("`")[0]
    return message.split("`")[1] if message.startswith("Object ") and message.count("`") >= 2 else None
