from typing import Any

import msgspec

from actors.executor.backends.openai_chat import request_body, without_refused
from actors.executor.backends.port import BackendError, Call

CALL = Call(model="m", messages=({"role": "user", "content": "say something"},), max_output_tokens=12)


def test_only_what_is_optional_may_be_left_out() -> None:
    def changed(param: str | None, code: str = "unsupported_parameter") -> dict[str, Any] | None:
        body = msgspec.json.encode({"error": {"message": "no", "param": param, "code": code}}).decode()
        call = msgspec.structs.replace(CALL, stop=("x",), seed=1, response_format={"type": "json_object"})
        return without_refused(
            request_body(call, "max_tokens"), BackendError("bad_request", "no", status=400, body=body)
        )

    assert "seed" not in (changed("seed") or {"seed": 1})
    for param in ("stop", "response_format", "messages", "other", None):
        assert changed(param) is None
    assert changed("seed", "invalid_value") is None
    assert changed("max_tokens", "unsupported_value") is None


def test_everything_a_call_can_ask() -> None:
    assert request_body(CALL, "max_tokens") == {
        "model": "m",
        "messages": CALL.messages,
        "max_tokens": 12,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    call = msgspec.structs.replace(
        CALL,
        temperature=0.0,
        stop=("x",),
        seed=0,
        response_format={"type": "json_object"},
        tools=({"type": "function"},),
    )
    more = request_body(call, "max_completion_tokens")
    assert more.keys() - request_body(CALL, "max_tokens").keys() == {
        "max_completion_tokens", "temperature", "stop", "seed", "response_format", "tools",
    }  # fmt: skip


def test_models_that_reason_take_no_temperature() -> None:
    call = msgspec.structs.replace(CALL, temperature=0.5, seed=1)
    assert request_body(call, "max_tokens", sampling=False).keys() == {*request_body(CALL, "max_tokens"), "seed"}
