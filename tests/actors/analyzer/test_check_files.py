"""What is wrong with the files, texts, recipe and schema that a submission brings along."""

from __future__ import annotations

from typing import Any

import pytest

from actors.analyzer.check_files import MOST_INPUTS, MOST_TEXTS, check_files
from messages import Input, JobSubmit

SCHEMA = {"type": "object", "required": ["a"]}
ANSWER = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def given(name: str = "image", **more: Any) -> Input:
    fields: dict[str, Any] = {"name": name, "media_type": "image/png", "data": "iVBORw=="}
    return Input(**{**fields, **more})


def saying(url: str) -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},)


def formed(schema: object) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"recipe": "image-to-video", "negative_prompt": "fog"},
        {"texts": ("a", "b"), "dimensions": 256},
        {"inputs": (given(), given("mask", data="", key="acme/up/1", sha256="0" * 64))},
        {"inputs": (given(media_type="audio/ogg; codecs=opus"),)},
        {"messages": saying("object:acme/up/1")},
        {"messages": saying("https://example.org/a.png")},
        {"response_format": ANSWER},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_a_good_submission_has_no_problem(fields: dict[str, Any]) -> None:
    assert check_files(JobSubmit(**fields), "acme") is None


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"recipe": "a b"}, "recipe", "such as text-to-image"),
        ({"recipe": "x" * 129}, "recipe", "at most 128"),
        ({"recipe": "../up"}, "recipe", "letters, digits"),
        ({"negative_prompt": "x" * 20_001}, "negative_prompt", "at most 20,000"),
        ({"texts": ("a",) * (MOST_TEXTS + 1)}, "texts", "at most 2,048"),
        ({"texts": ("a", " ")}, "texts[1]", "leave it out"),
        ({"texts": ("a",), "messages": saying("x")}, "messages", "leave one of them out"),
        ({"dimensions": 0}, "dimensions", "1 to 65,536"),
        ({"inputs": tuple(given(str(n)) for n in range(MOST_INPUTS + 1))}, "inputs", "at most 64"),
        ({"inputs": (given(" "),)}, "inputs[0].name", "what it is for"),
        ({"inputs": (given(), given())}, "inputs[1].name", "names must differ"),
        ({"inputs": (given(media_type="png"),)}, "inputs[0].media_type", "such as image/png"),
        ({"inputs": (given(data=""),)}, "inputs[0]", "and not both"),
        ({"inputs": (given(key="acme/1"),)}, "inputs[0]", "and not both"),
        ({"inputs": (given(data="iVBORw="),)}, "inputs[0].data", "base64"),
        ({"inputs": (given(data="iVBO Rw="),)}, "inputs[0].data", "base64"),
        ({"inputs": (given(data="", key="other/1"),)}, "inputs[0].key", "begin with acme/"),
        ({"inputs": (given(data="", key="acme"),)}, "inputs[0].key", "begin with acme/"),
        ({"inputs": (given(data="", key="acme/" + "x" * 1_024),)}, "inputs[0].key", "at most 1,024"),
        ({"inputs": (given(sha256="abc"),)}, "inputs[0].sha256", "64 hexadecimal digits"),
        ({"messages": saying("object:other/1")}, "messages[0].content[0].image_url", "begin with acme/"),
        (formed({"type": "nope"}), "response_format", "no JSON schema that can be used"),
        (formed({"$ref": "http://127.0.0.1:1/"}), "response_format", "no JSON schema that can be used"),
        (formed(3), "response_format", "a schema is an object"),
    ],
)
def test_a_bad_one_names_its_field_and_what_would_be_right(fields: dict[str, Any], field: str, words: str) -> None:
    found = check_files(JobSubmit(**fields), "acme")
    assert found is not None
    assert (found.reason, found.field) == ("invalid", field)
    assert words in found.message


def test_a_tenants_keys_begin_with_its_encoded_name() -> None:
    job = JobSubmit(inputs=(given(data="", key="a%2Eb/1"),))
    assert check_files(job, "a.b") is None
    assert check_files(job, "a") is not None
