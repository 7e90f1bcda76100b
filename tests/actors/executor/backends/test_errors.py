import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.errors import failure, failure_in
from actors.executor.backends.port import BODY_LIMIT, BackendError

NOW = 1_790_000_000.0
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "detail", "details", "status", "x"]), inner
        )
    ),
    max_leaves=8,
)


def classify(status: int, body: object, **headers: str) -> BackendError:
    text = body if isinstance(body, str) else msgspec.json.encode(body).decode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure(status, text, names, now=NOW)


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry"),
    [
        (400, {"error": {"message": "bad", "type": "invalid_request_error", "param": None, "code": None}},
         "bad_request", "never"),
        (400, {"object": "error", "message": "no", "type": "BadRequestError", "code": 400},
         "bad_request", "never"),
        (400, {"error": {"message": "x", "code": "model_not_found"}}, "unknown_model", "elsewhere"),
        (400, {"error": {"message": "no stop here", "code": "unsupported_parameter", "param": "stop"}},
         "unknown_model", "elsewhere"),
        (400, {"error": {"message": "rejected by the safety system", "code": "moderation_blocked"}},
         "empty", "elsewhere"),
        (400, {"error": '"llama3.1" does not support tools'}, "unknown_model", "elsewhere"),
        (400, {"detail": "Server is pinned to 'x'; requested 'y'."}, "unknown_model", "elsewhere"),
        (400, {"error": {"code": 400, "message": "not in your country", "status": "FAILED_PRECONDITION"}},
         "unknown_model", "elsewhere"),
        (400, {"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}, "bad_request", "never"),
        (401, {"error": "Unauthorized"}, "account", "account"),
        (401, {"detail": "Invalid API key"}, "account", "account"),
        (402, {"error": {"type": "billing_error", "message": "pay"}}, "account", "account"),
        (403, "", "account", "account"),
        (404, {"error": "model 'x' not found"}, "unknown_model", "elsewhere"),
        (404, {"detail": "Not Found"}, "unknown_model", "elsewhere"),
        (408, "", "timeout", "same"),
        (409, {"error": {"message": "conflict"}}, "server_error", "same"),
        (413, "<html>too large</html>", "too_large", "elsewhere"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "bad_request", "never"),
        (429, {"error": {"code": "rate_limit_exceeded", "message": "slow"}}, "rate_limited", "same"),
        (429, {"error": {"code": "slow_down", "type": "rate_limit_error", "message": "slow"}}, "rate_limited", "same"),
        (429, {"error": {"code": "credit_balance_exhausted", "message": "pay"}}, "account", "account"),
        (429, {"error": {"type": "insufficient_quota", "code": "project_spend_limit_exceeded"}}, "account", "account"),
        (429, {"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}},
         "account", "account"),
        (500, "Internal Server Error", "server_error", "same"),
        (500, {"error": {"code": 500, "type": "server_error", "message": "[json.exception] parse error"}},
         "bad_request", "never"),
        (500, {"error": {"code": 500, "message": "image input is not supported - hint: mmproj"}},
         "unknown_model", "elsewhere"),
        (502, "", "server_error", "same"),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"},
         "overloaded", "elsewhere"),
        (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
         "overloaded", "elsewhere"),
        (504, "", "timeout", "same"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overloaded", "elsewhere"),
        (200, {"error": {"message": "x", "code": 429}}, "rate_limited", "same"),
        (200, {"error": {"message": "x", "code": "429"}}, "rate_limited", "same"),
        (200, {"error": {"message": "x", "type": "overloaded_error"}}, "overloaded", "elsewhere"),
        (200, {"error": {"message": "x", "code": "model_not_found"}}, "unknown_model", "elsewhere"),
        (200, {"error": "boom"}, "server_error", "same"),
        (307, "", "invalid_structure", "elsewhere"),
    ],
)  # fmt: skip
def test_every_known_form_has_its_class(status: int, body: object, kind: str, retry: str) -> None:
    error = classify(status, body)
    assert (error.kind, error.retry, error.status) == (kind, retry, status)


@given(st.integers(100, 599), JSON | st.text())
def test_any_body_is_classified(status: int, body: object) -> None:
    error = classify(status, body)
    assert str(error)
    assert len(error.body) <= BODY_LIMIT
    assert error.retry in {"same", "elsewhere", "account", "never"}


def test_the_servers_own_word_decides() -> None:
    assert classify(500, "", x_should_retry="false").retry == "elsewhere"
    assert classify(503, "", x_should_retry="true").retry == "same"
    assert classify(400, "", x_should_retry="true").retry == "same"
    assert classify(401, "", x_should_retry="true").retry == "account"


def test_keys_are_redacted_even_unknown_ones_and_before_the_body_is_cut() -> None:
    key = "very-secret-key"
    body = "x" * (BODY_LIMIT - 5) + key + " sk-proj-abcdefghijklmnop Bearer abc.def"
    error = failure(401, body, {}, now=NOW, secrets=(key,))
    assert "very" not in error.body
    assert len(error.body) == BODY_LIMIT
    short = failure(
        401, f"Incorrect API key provided: {key}, Bearer abc.def, sk-proj-abcdefghijklmnop", {}, now=NOW, secrets=(key,)
    )
    for text in (short.body, str(short), repr(short)):
        assert not any(secret in text for secret in (key, "abc.def", "abcdefghijklmnop"))


def test_waits_come_from_the_header_then_the_body_then_the_limits() -> None:
    body = {"error": {"message": "Rate limit reached. Please try again in 1m30s.", "code": "rate_limit_exceeded"}}
    spent = {"x_ratelimit_reset_tokens": "7.66s", "x_ratelimit_remaining_tokens": "0"}
    assert classify(429, body, retry_after="2s", **spent).retry_after_seconds == 2.0
    assert classify(429, body, **spent).retry_after_seconds == 90.0
    assert classify(429, "", **spent).retry_after_seconds == 7.66
    assert classify(429, "").retry_after_seconds is None
    assert classify(500, "", **spent).retry_after_seconds is None, "those headers come with every answer"


def test_a_point_in_time_is_a_wait_where_the_present_is_known() -> None:
    body = {
        "error": {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_at": NOW + 60}
    }
    known = classify(429, body)
    assert (known.kind, known.retry_after_seconds) == ("rate_limited", 60.0)
    unknown = failure(429, msgspec.json.encode(body).decode(), {}, now=0.0)
    assert (unknown.kind, unknown.retry_after_seconds) == ("account", None)


@pytest.mark.parametrize(
    ("seconds", "kind"), [(3_600, "rate_limited"), (86_400, "rate_limited"), (30 * 86_400, "account")]
)
def test_a_quota_that_comes_back_within_a_day_is_a_limit_of_the_rate(seconds: int, kind: str) -> None:
    body = {"error": {"message": "You have reached your usage limit", "resets_at": NOW + seconds}}
    assert classify(403, body).kind == kind


def test_a_code_may_come_in_a_header() -> None:
    assert classify(400, {}, x_amzn_errortype="ThrottlingException:http://x.example/").kind == "rate_limited"
    assert classify(500, {"detail": "x"}, x_fal_error_type="downstream_service_unavailable").kind == "overloaded"


def test_a_request_that_is_too_large_tells_its_tokens_and_nothing_else_does() -> None:
    message = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
    error = classify(400, {"error": {"message": message, "code": "context_length_exceeded"}})
    assert (error.kind, error.input_tokens, error.limit_tokens) == ("too_large", 9000, 8192)
    other = classify(429, {"error": {"message": f"Too many requests. {message}", "code": "rate_limit_exceeded"}})
    assert (other.kind, other.input_tokens, other.limit_tokens) == ("rate_limited", None, None)


def test_an_event_that_is_an_error_by_its_name_is_one_whatever_it_holds() -> None:
    assert failure_in(b'{"code":429,"message":"too many requests","type":"rate_limit_error"}').kind == "rate_limited"
    assert failure_in(b"the engine died").message == "an error inside the answer: the engine died"
    assert "hunter2" not in str(failure_in(b"bad hunter2", secrets=("hunter2",)))


@pytest.mark.parametrize(
    "piece",
    ["_", "a_", "no_", "no ", "1", "1,234,", "model ", "not ", "x ", "{", "[{", "`a", "retry in 1s ", "AError", "模型"],
)
def test_no_body_keeps_us_busy(piece: str) -> None:
    """Each of them is read in a blink; patterns that try every way to part it would need hours."""
    for text in (f"no {piece * 2_000}", f"maximum {piece * 2_000} tokens"):
        assert classify(400, text).retry_after_seconds is None or "retry" in piece
