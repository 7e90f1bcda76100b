"""JSON schemas that jobs give and patterns that policies give: read once, checked within bounds. Pure.

Both come from outside, so nothing here fetches what a schema refers to, and no pattern can run away: the engine never goes
back, and takes time in proportion to the text (look-around and back-references, which need more, are no patterns here).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, cast

import jsonschema_rs
import msgspec

TEXT_CHARACTERS: Final = 200_000
"""As much of a text is searched."""
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20)


class NoPattern(ValueError):
    """A regular expression that is none, or needs look-around or back-references."""


def schema_of(response_format: dict[str, Any] | None) -> object | None:
    """The schema of a response format in OpenAI form; None when it has none."""
    if not response_format or response_format.get("type") != "json_schema":
        return None
    named: Any = response_format.get("json_schema")
    return cast("dict[str, Any]", named).get("schema") if isinstance(named, dict) else None


def check_schema(schema: object) -> None:
    """Raise ValueError that says why something is no JSON schema, or refers to what lies elsewhere."""
    _compiled(schema)


def misfit(value: object, schema: object) -> tuple[str, str] | None:
    """The first place where a value does not fit the schema, as a path, and why; None when it fits.

    Raises ValueError when the schema is none.
    """
    checker = _compiled(schema)
    try:
        for error in checker.iter_errors(value):
            return ".".join(map(str, error.instance_path)), error.message[:500]
    except (ValueError, RecursionError) as error:  # Nested too deeply to be looked at.
        return "", str(error)[:500]
    return None


def has(text: str, pattern: str) -> bool:
    """Whether a pattern is found anywhere in the text. Raises NoPattern."""
    return _searching(pattern).is_valid(text[:TEXT_CHARACTERS])


def _compiled(schema: object) -> jsonschema_rs.Validator:
    if not isinstance(schema, dict | bool):
        raise ValueError("a schema is an object")  # noqa: TRY004  # One kind of error for all that is no schema.
    try:
        return jsonschema_rs.validator_for(
            cast("dict[str, Any] | bool", schema), offline=True, validate_formats=False, pattern_options=_PATTERNS
        )
    except (ValueError, jsonschema_rs.ReferencingError, RecursionError, msgspec.MsgspecError) as error:
        raise ValueError(_first_line(error)) from None


@lru_cache(maxsize=256)
def _searching(pattern: str) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for({"type": "string", "pattern": pattern}, pattern_options=_PATTERNS)
    except ValueError as error:
        why = "it is none, or needs look-around or back-references"
        raise NoPattern(f"{pattern!r} can't be used as a pattern: {why} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
