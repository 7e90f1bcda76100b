"""`turnout schema`: the contract for outsiders."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import msgspec
from cyclopts import Parameter

from actors.console.output import TEXT, Output
from actors.console.screen import OK, Wrong, out


def schema(
    message: Annotated[str, Parameter(help="Only the JSON Schema of this message, such as JobSubmit.")] = "",
    *,
    output: Output = TEXT,
) -> int:
    """Print AsyncAPI 3 with the JSON Schemas of all messages, for tools and for clients in any language."""
    from messages.schema import asyncapi, schemas

    document = asyncapi(version("turnout"))
    if message:
        known = schemas()
        if message not in known:
            import difflib

            close = difflib.get_close_matches(message, known, n=1, cutoff=0.4)
            raise Wrong(f"there is no message {message!r}", f"turnout schema {close[0]}" if close else "turnout schema")
        document = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": f"#/components/schemas/{message}",
            "components": {"schemas": known},
        }
    if output.machine:
        output.one(document)
        return OK
    out.file.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    return OK
