"""The contract for outsiders, generated from the message types: AsyncAPI 3 with JSON Schemas. Pure."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

import msgspec

from messages.asking import (
    EstimateIs,
    EstimateOf,
    PoliciesAre,
    PoliciesOf,
    PreviewIs,
    PreviewOf,
    QuoteIs,
    QuoteOf,
    Rebalance,
    Rebalanced,
)
from messages.fleet import AttemptsAre, AttemptsOf, JobsAre, JobsOf
from messages.jobs import JobCancel, JobRate, JobSubmit, NeedsAre, NeedsOf
from messages.message import ALL, Channel, Kind, Message

FROM_OUTSIDE: tuple[type[Message], ...] = (JobSubmit, JobCancel, JobRate)
"""What clients may publish."""
QUESTIONS: tuple[tuple[type[Message], type[Message]], ...] = (
    (JobsOf, JobsAre),
    (AttemptsOf, AttemptsAre),
    (NeedsOf, NeedsAre),
    (PreviewOf, PreviewIs),
    (EstimateOf, EstimateIs),
    (QuoteOf, QuoteIs),
    (PoliciesOf, PoliciesAre),
    (Rebalance, Rebalanced),
)
_HEADERS = "CloudEvents"
_PROMISES = {
    Kind.WORK: "kept in a stream, handled by one instance, at least once",
    Kind.FACT: "latest value per key, replayed to whoever starts to listen",
    Kind.RECORD: "kept in a stream for a while, replayable",
    Kind.SIGNAL: "not kept, at most once; numbers show gaps",
    Kind.ASK: "request and reply",
}


def asyncapi(version: str) -> dict[str, Any]:
    """The whole document, ready to be printed as JSON."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "turnout",
            "version": version,
            "description": "A router for AI generation jobs. Publish a job on `job.submit.<tenant>`, listen on "
            "`job.*.<tenant>.>`: what is kept in the stream EV as `ev.<x>` is republished as `job.<x>`. Every placeholder "
            "is one token; any other character than letters, digits and `_ : = @ ~ + -` is percent-encoded.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": schemas()},
    }


def schemas() -> dict[str, Any]:
    """JSON Schemas of all messages and their parts, by class name, with the docstrings of the fields."""
    types = list(ALL.values())
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}", schema_hook=_any)
    for made in {*types, *_parts_of(types)}:
        _describe(made, components[made.__name__])
    return {**dict(sorted(components.items())), _HEADERS: _headers()}


def docs_of(made: type) -> dict[str, str]:
    """The docstring under each field of a class, by the field's name."""
    found: dict[str, str] = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(made))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[field.target.id] = " ".join(after.value.value.split())
    return found


def _any(kind: type) -> dict[str, Any]:
    """The schema of a type that JSON Schema does not know: undecoded JSON may be anything."""
    if kind is msgspec.Raw:
        return {}
    raise NotImplementedError


def _parts_of(types: Iterable[type]) -> set[type]:
    """The structs that these types contain, at any depth."""
    found: set[type] = set()
    waiting = [info for made in types for info in (msgspec.inspect.type_info(made),)]
    while waiting:
        info: Any = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                continue
            found.add(info.cls)
            waiting += [field.type for field in info.fields]
        for name in ("types", "item_types"):
            waiting += getattr(info, name, ())
        waiting += [inner for name in ("item_type", "value_type") if (inner := getattr(info, name, None)) is not None]
    return found


def _describe(made: type, schema: dict[str, Any]) -> None:
    schema["description"] = inspect.getdoc(made) or ""
    fields: dict[str, Any] = schema.get("properties", {})
    for name, text in docs_of(made).items():
        if name in fields:
            known = fields[name]
            # Next to a reference a description has no effect in every tool: wrap it.
            fields[name] = (
                {"allOf": [known], "description": text} if "$ref" in known else {**known, "description": text}
            )
    if made in FROM_OUTSIDE and "type" in schema.get("required", ()):
        schema["required"] = [name for name in schema["required"] if name != "type"]
        if not schema["required"]:
            del schema["required"]


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "CloudEvents 1.0 in binary mode, W3C trace context, and NATS's own. turnout sends all of them; "
        "clients may leave them out. `Nats-Msg-Id` makes a repeated publish harmless.",
        "properties": {
            "ce-specversion": {"const": "1.0"},
            "ce-id": {**text, "description": "Id of the event; with `ce-source` it is unique."},
            "ce-type": {**text, "description": "`turnout.` and the message's name, as in the field `type`."},
            "ce-source": {**text, "description": "Which process said it."},
            "ce-time": {**text, "format": "date-time"},
            "ce-datacontenttype": {
                "enum": ["application/json", "application/msgpack"],
                "description": "JSON when it is absent.",
            },
            "traceparent": {**text, "description": "W3C trace context; one trace per job."},
            "Nats-Msg-Id": {**text, "description": "A message with an id seen lately is not stored again."},
        },
    }


def _messages() -> dict[str, Any]:
    return {
        made.__name__: {
            "name": made.type_name,
            "title": made.__name__,
            "summary": _first_sentence(made),
            "contentType": "application/json",
            "headers": {"$ref": f"#/components/schemas/{_HEADERS}"},
            "payload": {"$ref": f"#/components/schemas/{made.__name__}"},
        }
        for made in ALL.values()
    }


def _channels() -> dict[str, Any]:
    """A channel for what every message is stored under, and one for where outsiders see it."""
    found: dict[str, Any] = {}
    for made in ALL.values():
        found[made.__name__] = _channel(made, made.channel.prefix)
        public = public_prefix(made.channel)
        if public != made.channel.prefix:
            found[f"{made.__name__}.public"] = {
                **_channel(made, public),
                "x-republished-from": _address(made.channel, made.channel.prefix),
            }
    return found


def public_prefix(channel: Channel) -> str:
    """The fixed tokens of the subject on which outsiders see it."""
    return channel.public.removesuffix(".*" * len(channel.keys))


def _address(channel: Channel, prefix: str) -> str:
    return ".".join([prefix, *(f"{{{key}}}" for key in channel.keys)])


def _channel(made: type[Message], prefix: str) -> dict[str, Any]:
    channel = made.channel
    docs = docs_of(made)
    found: dict[str, Any] = {
        "address": _address(channel, prefix),
        "title": made.__name__,
        "description": inspect.getdoc(made) or "",
        "messages": {made.__name__: {"$ref": f"#/components/messages/{made.__name__}"}},
    }
    if channel.keys:
        found["parameters"] = {key: {"description": docs.get(key) or _PARAMETERS.get(key, key)} for key in channel.keys}
    found["x-kind"] = channel.kind.value
    found["x-promise"] = _PROMISES[channel.kind]
    if channel.stream:
        found["x-stream"] = channel.stream
        found["x-retention"] = _RETENTION.get(channel.stream, "")
    if channel.first_writer:
        found["x-first-writer"] = True
    if channel.compared:
        found["x-compare-and-set"] = True
    return found


_PARAMETERS = {
    "tenant": "Whose job it is.",
    "job": "Id of the job.",
    "n": "Number of the round, from 1.",
    "backend": "Name of the backend.",
    "model": "Name of the model.",
    "workflow": "Name of the workflow, or `-`.",
    "instance": "Name of the process.",
    "policy": "Name of the policy.",
    "name": "Name of the deployment.",
}
_RETENTION = {
    "IN": "3 days",
    "EV": "7 days",
    "WORK": "until it is acknowledged",
    "LEDGER": "totals are kept",
    "KV_facts": "the latest value per key",
}


def _operations() -> dict[str, Any]:
    """What outsiders may say (turnout receives it), what they may hear (turnout sends it), what they may ask."""
    found: dict[str, Any] = {}
    for made in FROM_OUTSIDE:
        found[f"receive{made.__name__}"] = _operation("receive", made, made.__name__)
    answers = {made for _, made in QUESTIONS}
    for made in ALL.values():
        public = public_prefix(made.channel)
        if made in FROM_OUTSIDE or made in answers or not public.startswith(("job.", "fact.")):
            continue
        place = made.__name__ if public == made.channel.prefix else f"{made.__name__}.public"
        found[f"send{made.__name__}"] = _operation("send", made, place)
    for question, answer in QUESTIONS:
        found[f"answer{question.__name__}"] = {
            **_operation("receive", question, question.__name__),
            "reply": {
                "address": {"description": "The inbox of the request.", "location": "$message.header#/reply"},
                "channel": {"$ref": f"#/channels/{answer.__name__}"},
                "messages": [{"$ref": f"#/channels/{answer.__name__}/messages/{answer.__name__}"}],
            },
        }
    return found


def _operation(action: str, made: type[Message], place: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": _first_sentence(made),
        "channel": {"$ref": f"#/channels/{place}"},
        "messages": [{"$ref": f"#/channels/{place}/messages/{made.__name__}"}],
    }


def _first_sentence(made: type) -> str:
    return (inspect.getdoc(made) or made.__name__).splitlines()[0]
