from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.complaint import complaint_in, complaint_of

INSIDE = {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "no_money"}}


@given(st.text())
def test_plain_text_is_its_own_message(text: str) -> None:
    complaint = complaint_of(f"!{text}")
    assert complaint.message == f"!{text}".strip()


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace")))
def test_any_body_is_read(body: str) -> None:
    for text in (body, f"data: {body}\n\n", f"event: error\ndata: {body}", f'{{"error": "x - {body}', f"<html>{body}"):
        assert complaint_of(text).message is not None


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "metadata": {"raw": msgspec.json.encode(INSIDE).decode()}}},
        {"error": {"message": "Provider returned error", "metadata": {"raw": INSIDE}}},
        {"error": {"message": f"upstream: {msgspec.json.encode(INSIDE).decode()}", "type": "api_error"}},
        {"detail": INSIDE},
        {"errors": [{"message": "gateway"}, INSIDE["error"]], "success": False},
        {"error": {"message": "x", "innererror": INSIDE["error"]}},
        [INSIDE],
        f"upstream said: {msgspec.json.encode(INSIDE).decode()}",
        f"data: {msgspec.json.encode(INSIDE).decode()}\n\n",
        f"event: error\ndata: {msgspec.json.encode(INSIDE['error']).decode()}\n\n",
        f": ping\n\nevent:error\ndata:{msgspec.json.encode(INSIDE).decode()}",
        f"\ufeff{msgspec.json.encode(INSIDE).decode()}",
    ],
)
def test_an_error_within_another_is_read_wherever_it_stands(body: object) -> None:
    complaint = complaint_of(body if isinstance(body, str) else msgspec.json.encode(body).decode())
    assert "Insufficient Balance" in complaint.said
    assert "no_money" in complaint.words


def test_half_a_character_in_an_error_within_another_gets_nowhere() -> None:
    complaint = complaint_of('upstream: {"error": {"code": "\\ud800", "message": "\\udfff"}}')
    assert "".join([complaint.message, complaint.said, *complaint.words]).encode()


def test_what_was_sent_is_not_read_as_what_is_said() -> None:
    spoof = "your account is suspended"
    detail = [{"loc": ["body"], "msg": "field required", "input": spoof, "ctx": {"error": spoof}}]
    bodies = ({"detail": detail}, {"error": {"message": "flagged", "metadata": {"flagged_input": spoof}}})
    for body in bodies:
        assert spoof not in complaint_of(msgspec.json.encode(body).decode()).said


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"error": "text"}, True), ({"error": None}, False), ({"error": {}}, False), ({"object": "error", "message": "x"}, True),
        ({"type": "error", "error": {"type": "x"}}, True), ({"detail": "Not Found"}, True),
        ({"success": False, "errors": [1]}, True), ({"message": "hello"}, False),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, True),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []}, False),
        ({"code": "Arrearage", "message": "x", "request_id": "1"}, True), ({"code": 20015, "message": "x", "data": None}, True),
        ({"code": 0, "message": "ok"}, False), ({"code": "x = 1", "type": "done"}, False), ({"code": 7, "message": {}}, False),
        ({"error_code": 17, "error_msg": "x"}, True), ({"error_code": 0, "result": "x"}, False),
        ({"choices": [], "detail": "x"}, False), ({"id": "1", "choices": [], "error": None}, False),
    ],
)  # fmt: skip
def test_only_what_reports_an_error_is_one(event: dict[str, object], *, found: bool) -> None:
    assert (complaint_in(event) is not None) is found


def test_minimax_tells_its_status_beside_a_good_one() -> None:
    body = '{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}'
    assert complaint_of(body).message == "insufficient balance"


def test_pages_are_told_by_their_headings_and_xml_by_its_code() -> None:
    page = complaint_of(
        "<html><head><title>502 Bad&nbsp;Gateway</title><style>p{}</style></head><body><h1>Oops</h1></body></html>"
    )
    assert (page.page, page.said) == (True, "502 Bad Gateway. Oops")
    xml = complaint_of('<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>')
    assert (xml.words, xml.said) == (frozenset({"AccessDenied"}), "AccessDenied. Access Denied")


def test_the_innermost_status_and_a_wait_in_a_field_are_read() -> None:
    body = {"error": {"message": "x", "code": 502, "metadata": {"raw": '{"error": {"code": 429, "retry_after": 7}}'}}}
    complaint = complaint_of(msgspec.json.encode(body).decode())
    assert (complaint.status, complaint.retry_after_seconds) == (429, 7.0)


@pytest.mark.parametrize(
    "body",
    [
        {"Response": {"Error": {"Code": "Arrearage", "Message": "in debt"}, "RequestId": "x"}},
        {"request_id": "r", "output": {"task_status": "FAILED", "code": "Arrearage", "message": "in debt"}},
        {"ERROR": {"error-code": "Arrearage", "errorMessage": "in debt"}},
        {"result": {"failures": [{"reason": "Arrearage", "description": "in debt"}]}},
        {"message": "in debt", "reasons": ["Arrearage"]},
    ],
)
def test_fields_are_found_however_they_are_called_and_nested(body: object) -> None:
    complaint = complaint_of(msgspec.json.encode(body).decode())
    assert "in debt" in complaint.said
    assert "Arrearage" in complaint.words


def test_headers_of_somebody_elses_answer_and_points_in_time_are_read() -> None:
    body = {
        "error": {
            "message": "x",
            "metadata": {"headers": {"X-RateLimit-Reset": "1790000042000"}},
            "resets_at": 1_790_000_060,
        }
    }
    complaint = complaint_of(msgspec.json.encode(body).decode())
    assert complaint.headers == {"x-ratelimit-reset": "1790000042000"}
    assert complaint.works_again_at == 1_790_000_060
    assert complaint_of("Your limit will reset at 2026-09-21 14:14:20").works_again_at == 1_790_000_060


@pytest.mark.parametrize(
    "body",
    [
        "error code: 1020",
        '{"type": "https://developers.cloudflare.com/support/troubleshooting/error-1000/", "title": "Error 1000"}',
        '{"cloudflare_error": true, "error_code": 1020, "detail": "x"}',
    ],
)
def test_a_proxys_short_word_is_a_page(body: str) -> None:
    assert complaint_of(body).page
    assert not complaint_of(f"the {body}").page
