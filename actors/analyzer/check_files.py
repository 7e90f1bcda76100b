"""What is wrong with the files, texts, recipe and schema that a submission brings along. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from actors import json_schema
from actors.problem import invalid
from messages import Input, JobSubmit, Problem, token

MOST_INPUTS = 64
MOST_TEXTS = 2_048
MOST_DIMENSIONS = 65_536
MOST_NEGATIVE = 20_000
MOST_NAME = 128
MOST_KEY = 1_024
SCHEME: Final = "object:"
_TYPE = re.compile(r"[a-z]+/[\w.+-]+(;.*)?", re.ASCII)
_RECIPE = re.compile(r"[\w.-]+", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def check_files(submit: JobSubmit, tenant: str) -> Problem | None:
    """The first problem, or None. `tenant` is whose job it is: it may name its own files only."""
    return (
        _check_recipe(submit)
        or _check_texts(submit)
        or _check_inputs(submit, tenant)
        or _check_images(submit, tenant)
        or _check_schema(submit)
    )


def _check_recipe(submit: JobSubmit) -> Problem | None:
    if submit.recipe and (len(submit.recipe) > MOST_NAME or not _RECIPE.fullmatch(submit.recipe)):
        right = f"use a name such as text-to-image: at most {MOST_NAME} letters, digits, dots, dashes and underscores."
        return invalid("recipe", submit.recipe, right)
    if len(submit.negative_prompt) > MOST_NEGATIVE:
        return invalid("negative_prompt", submit.negative_prompt, f"use at most {MOST_NEGATIVE:,} characters.")
    return None


def _check_texts(submit: JobSubmit) -> Problem | None:
    if len(submit.texts) > MOST_TEXTS:
        return invalid("texts", f"{len(submit.texts):,} texts", f"use at most {MOST_TEXTS:,} in one job.")
    for place, text in enumerate(submit.texts):
        if not text.strip():
            return invalid(f"texts[{place}]", text, "an empty text has no embedding; leave it out.")
    if submit.dimensions is not None and not 1 <= submit.dimensions <= MOST_DIMENSIONS:
        return invalid("dimensions", submit.dimensions, f"use 1 to {MOST_DIMENSIONS:,}, or leave it out.")
    if submit.texts and submit.messages:
        return invalid("messages", "given", "texts are embedded, and messages are not; leave one of them out.")
    return None


def _check_inputs(submit: JobSubmit, tenant: str) -> Problem | None:
    if len(submit.inputs) > MOST_INPUTS:
        return invalid("inputs", f"{len(submit.inputs)} files", f"use at most {MOST_INPUTS}.")
    names = [given.name for given in submit.inputs]
    for place, given in enumerate(submit.inputs):
        if problem := _check_input(f"inputs[{place}]", given, tenant):
            return problem
        if given.name in names[:place]:
            return invalid(f"inputs[{place}].name", given.name, "another file has this name; names must differ.")
    return None


def _check_input(path: str, given: Input, tenant: str) -> Problem | None:
    if not given.name.strip() or len(given.name) > MOST_NAME or not given.name.isprintable():
        return invalid(f"{path}.name", given.name, "say what it is for: image, mask, end_image, video, audio.")
    if not _TYPE.fullmatch(given.media_type):
        return invalid(f"{path}.media_type", given.media_type, "use a media type such as image/png.")
    if bool(given.data) == bool(given.key):
        right = "give its bytes as base64 in data, or its key in the object store, and not both."
        return invalid(path, "both" if given.data else "neither", right)
    if given.key and (problem := _check_key(f"{path}.key", given.key, tenant)):
        return problem
    if given.data and (len(given.data) % 4 or not _BASE64.fullmatch(given.data)):
        return invalid(f"{path}.data", given.data[:40], "use base64 with its padding, on one line.")
    if given.sha256 and not _DIGEST.fullmatch(given.sha256):
        return invalid(f"{path}.sha256", given.sha256, "use 64 hexadecimal digits, or leave it out.")
    return None


def _check_key(path: str, key: str, tenant: str) -> Problem | None:
    start = f"{token(tenant)}/"
    if not key.startswith(start) or len(key) > MOST_KEY:
        right = f"the keys of this tenant begin with {start} and have at most {MOST_KEY:,} characters."
        return invalid(path, key, right)
    return None


def _check_images(submit: JobSubmit, tenant: str) -> Problem | None:
    """Images in messages that lie in the object store."""
    for number, message in enumerate(submit.messages):
        content: Any = message.get("content")
        if not isinstance(content, list):
            continue
        for place, part in enumerate(cast("list[Any]", content)):
            image: Any = cast("dict[str, Any]", part).get("image_url") if isinstance(part, dict) else None
            url: Any = cast("dict[str, Any]", image).get("url") if isinstance(image, dict) else image
            if isinstance(url, str) and url.startswith(SCHEME):
                path = f"messages[{number}].content[{place}].image_url"
                if problem := _check_key(path, url.removeprefix(SCHEME), tenant):
                    return problem
    return None


def _check_schema(submit: JobSubmit) -> Problem | None:
    """An answer can't be checked by a schema that is none."""
    schema = json_schema.schema_of(submit.response_format)
    if schema is None:
        return None
    try:
        json_schema.check_schema(schema)
    except ValueError as error:
        return invalid("response_format", "its schema", f"it is no JSON schema that can be used: {error}")
    return None
