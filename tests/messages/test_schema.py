"""The document for outsiders: AsyncAPI 3 in its basic structure, complete, and true to the types."""

import re

import jsonschema
import msgspec
import pytest

from bus import codec
from messages import Done, JobSubmit, Message, Result
from messages.message import ALL
from messages.schema import FROM_OUTSIDE, QUESTIONS, asyncapi, docs_of, schemas

DOCUMENT = asyncapi("1.2.3")


def resolved(reference: str) -> object:
    """What a reference inside the document points at."""
    here: object = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        assert isinstance(here, dict), reference
        here = here[part]
    return here


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    return [found for inner in value for found in references(inner)] if isinstance(value, list) else []


def test_it_has_the_parts_of_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"] == "turnout"
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert set(DOCUMENT) <= {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    for name in (*DOCUMENT["channels"], *DOCUMENT["operations"], *DOCUMENT["components"]["schemas"]):
        assert re.fullmatch(r"[\w.\-]+", name)


def test_all_references_lead_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 100
    for reference in found:
        resolved(reference)


def test_every_placeholder_of_an_address_is_a_parameter() -> None:
    for channel in DOCUMENT["channels"].values():
        placeholders = set(re.findall(r"{(\w+)}", channel["address"]))
        assert placeholders == set(channel.get("parameters", {}))
        assert all(parameter["description"] for parameter in channel.get("parameters", {}).values())
        assert channel["messages"]


def test_addresses_are_unique() -> None:
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values()]
    assert len(addresses) == len(set(addresses))


def test_operations_fit_their_channels() -> None:
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = resolved(operation["channel"]["$ref"])
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")
        if "reply" in operation:
            assert resolved(operation["reply"]["channel"]["$ref"])
        assert channel


def test_outsiders_may_send_three_things_and_ask() -> None:
    received = {name for name, operation in DOCUMENT["operations"].items() if operation["action"] == "receive"}
    wanted = {f"receive{made.__name__}" for made in FROM_OUTSIDE}
    assert received == wanted | {f"answer{question.__name__}" for question, _ in QUESTIONS}
    sent = {name for name, operation in DOCUMENT["operations"].items() if operation["action"] == "send"}
    assert {"sendDone", "sendDecided", "sendChunk", "sendBackend"} <= sent
    assert not {"sendWork", "sendLedgerEntry", "sendExecutorAlive"} & sent


def test_what_is_republished_says_from_where() -> None:
    done = DOCUMENT["channels"]["Done.public"]
    assert done["address"] == "job.done.{tenant}.{job}"
    assert done["x-republished-from"] == "ev.done.{tenant}.{job}"
    stored = DOCUMENT["channels"]["Done"]
    assert (stored["address"], stored["x-stream"], stored["x-first-writer"]) == ("ev.done.{tenant}.{job}", "EV", True)
    assert DOCUMENT["channels"]["Backend.public"]["address"] == "fact.backend.{backend}"


def test_every_message_is_there_with_its_headers() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert {message["name"] for message in messages.values()} == set(ALL)
    headers = resolved(messages["Done"]["headers"]["$ref"])
    assert isinstance(headers, dict)
    assert {"ce-id", "ce-type", "ce-source", "ce-time", "traceparent", "Nats-Msg-Id"} <= set(headers["properties"])


def test_field_docstrings_become_descriptions() -> None:
    properties = DOCUMENT["components"]["schemas"]["JobSubmit"]["properties"]
    assert properties["temperature"]["description"] == "0 to 2."
    assert properties["system"]["description"] == docs_of(JobSubmit)["system"]
    needs = DOCUMENT["components"]["schemas"]["Slip"]["properties"]["needs"]
    assert "description" in needs or "$ref" in needs


def valid(message: Message) -> None:
    schema = {"$ref": f"#/components/schemas/{type(message).__name__}", "components": {"schemas": schemas()}}
    jsonschema.Draft202012Validator(schema).validate(msgspec.json.decode(codec.encode(message)))


def test_real_messages_are_valid() -> None:
    valid(JobSubmit(tenant="t", prompt="hello", deadline_seconds=5.0))
    valid(Done(tenant="t", job="j", ending="succeeded", result=Result(text="x"), at=1.0))


def test_a_job_needs_no_type_and_no_unknown_field() -> None:
    schema = {"$ref": "#/components/schemas/JobSubmit", "components": {"schemas": schemas()}}
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"prompt": "hello"})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"promt": "hello"})


def test_it_is_the_same_every_time() -> None:
    assert msgspec.json.encode(asyncapi("1")) == msgspec.json.encode(asyncapi("1"))
