"""Whether an answer is what the job asked for: not empty, in its form, and by the policy's rules. Pure.

What is wrong in earnest is a problem whose reason is the attempt's outcome, and the job goes elsewhere; the rest is told with
the answer. Rules are about text: of an answer that calls tools, or of media, only `whole` is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from actors import json_schema
from actors.executor.backends import port
from actors.executor.check_files import Made, files_fault, files_remarks
from actors.executor.json_answer import unfenced
from messages import Check, JobSubmit, Problem, Work

_CUT: Final = {"length": "it was cut at its cap on tokens", "content_filter": "a content filter cut it"}


class Found(msgspec.Struct, frozen=True):
    """What the checks found."""

    problem: Problem | None = None
    """What is wrong in earnest; its reason is the attempt's outcome."""
    checks: tuple[Check, ...] = ()
    """What is told with the answer."""


def examined(answer: port.Answer, made: Sequence[Made], work: Work, submit: JobSubmit) -> Found:
    """Look at a whole answer; the gravest fault comes first."""
    problem = fault(answer, made, work, submit)
    if problem:
        return Found(problem)
    told = [Check(name=remark.name, verdict="soft_fail", message=remark.message[:1000]) for remark in answer.remarks]
    told += files_remarks(made, work, submit)
    for name, message, certain in broken_rules(answer, work):
        if certain and not work.checks.soft:
            text = f"{work.backend}: the answer breaks the policy's rule {name!r}: {message}"
            return Found(Problem(reason="validator_hard_fail", message=text, body=answer.text[:2000]))
        told.append(Check(name=name, verdict="soft_fail", message=message))
    return Found(checks=tuple(told))


def wants_json(work: Work) -> bool:
    """Whether the answer is read as JSON."""
    return work.slip.needs.json_output or bool(work.required_fields)


def fault(answer: port.Answer, made: Sequence[Made], work: Work, submit: JobSubmit) -> Problem | None:
    """What is wrong with an answer as an answer: empty, not in the form that was asked for, or without a required field."""
    asset = work.slip.needs.asset
    if asset == "embedding":
        return _embeddings_fault(answer, work, submit)
    if asset != "text":
        return files_fault(made, work, submit, answer)
    if not answer.text.strip() and not answer.tool_calls and not made:
        if answer.refusal:
            text = f"{work.backend}: the model refused: {answer.refusal[:300]}"
            return Problem(reason="empty", message=text, body=answer.refusal[:2000])
        thought = ", after it had thought" if answer.reasoning else ""
        text = f"{work.backend} answered nothing{thought} (finish reason {answer.finish_reason!r})"
        return Problem(reason="empty", message=text, body=answer.reasoning[:2000])
    if answer.tool_calls or not wants_json(work):
        return None  # A tool's answer is awaited first: this is not the job's answer yet.
    value: Any = None
    try:
        value = msgspec.json.decode(unfenced(answer.text))
    except (msgspec.DecodeError, RecursionError) as error:
        if work.slip.needs.json_output:
            text = f"{work.backend} answered no JSON although the job asks for it: {error}"
            if answer.finish_reason == "length":
                most = f"{work.max_output_tokens:,} tokens"
                text = f"{work.backend}: the JSON was cut at its cap of {most}; raise max_output_tokens"
            return Problem(reason="invalid_structure", message=text, body=answer.text[:2000])
    return _misfit(value, answer.text, work, submit) or _lack(value, answer.text, work)


def _misfit(value: object, text: str, work: Work, submit: JobSubmit) -> Problem | None:
    """Where the JSON does not fit the job's own schema."""
    schema = json_schema.schema_of(submit.response_format)
    if schema is None:
        return None
    try:
        found = json_schema.misfit(value, schema)
    except ValueError as error:
        message = f"response_format: its schema can't be used: {error}"
        return Problem(reason="bad_request", field="response_format", message=message)
    if found is None:
        return None
    path, why = found
    message = f"{work.backend} answered JSON that does not fit the job's schema{f' at {path}' if path else ''}: {why}"
    return Problem(reason="invalid_structure", field=path[:200], message=message, body=text[:2000])


def _lack(value: object, text: str, work: Work) -> Problem | None:
    """The first required field that is absent, null or empty: requirement D2, as the seed 001 tests `state_contract`."""
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    for name in work.required_fields:
        found: Any = None if fields is None else fields.get(name)
        if found is None or found in ("", [], {}):
            what = "no JSON object" if fields is None else "JSON"
            return Problem(
                reason="missing_field", field=name, body=text[:2000],
                message=f"{work.backend} answered {what} without {name!r}, which is required of this job's answer",
            )  # fmt: skip
    return None


def _embeddings_fault(answer: port.Answer, work: Work, submit: JobSubmit) -> Problem | None:
    wanted = len(submit.texts) + bool(submit.prompt) or 1
    made = answer.embeddings
    if not made:
        return Problem(reason="empty", message=f"{work.backend} made no embeddings")
    lengths = {len(one) for one in made}
    if len(made) != wanted:
        why = f"{len(made)} embeddings for {wanted} texts"
    elif len(lengths) > 1 or 0 in lengths:
        why = f"embeddings of different lengths: {', '.join(map(str, sorted(lengths)[:5]))}"
    elif submit.dimensions and lengths != {submit.dimensions}:
        # The model has no such lengths, for nobody: it is not ill.
        text = f"{work.backend} made embeddings of length {lengths.pop()} where {submit.dimensions} was asked for"
        return Problem(reason="unknown_model", field="dimensions", message=text)
    else:
        return None
    return Problem(reason="invalid_structure", message=f"{work.backend} made {why}")


def broken_rules(answer: port.Answer, work: Work) -> Iterator[tuple[str, str, bool]]:
    """The rules of the policy that an answer breaks, by name, and how; False when it can't be said."""
    rules = work.checks
    if rules.whole and (cut := _CUT.get(answer.finish_reason)):
        yield "whole", cut, True
    if work.slip.needs.asset != "text" or answer.tool_calls:
        return
    text = unfenced(answer.text) if wants_json(work) else answer.text
    length = len(text)
    if length < rules.min_characters:
        yield "min_characters", f"{length:,} characters, at least {rules.min_characters:,} are wanted", True
    if rules.max_characters and length > rules.max_characters:
        yield "max_characters", f"{length:,} characters, at most {rules.max_characters:,} are wanted", True
    for name, patterns, wanted in (
        ("must_match", rules.must_match, True),
        ("must_not_match", rules.must_not_match, False),
    ):
        for pattern in patterns:
            try:
                if json_schema.has(text, pattern) is not wanted:
                    yield name, f"{pattern!r} is {'not ' if wanted else ''}found in it", True
            except json_schema.NoPattern as error:
                yield name, str(error), False
