from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.check import check, lenient_id, undecodable
from bus import codec
from messages import Input, JobSubmit, Problem

IMAGE = Input(name="image", media_type="image/png", data="eA==")
MODELS = frozenset({"llama3.1:8b", "qwen2.5-coder:7b"})
RECIPES = {
    "text-to-image": {"image"},
    "text-to-video": {"video"},
    "upscale": {"image", "video"},
    "odd": frozenset[str](),
}
STRATEGIES = ("weighted_score", "cost_first")


GOOD: dict[str, Any] = {"prompt": "hi"}


def problem_of(**fields: Any) -> Problem | None:
    submit = JobSubmit(**{**GOOD, **fields})
    return check(
        submit, tenant="acme", models=MODELS, strategies=STRATEGIES, longest_deadline=86_400.0, recipes=RECIPES
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tenant": "acme", "id": "x" * 128, "user": "ada", "temperature": 0.0},
        {"model": "llama3.1:8b", "strategy": "cost_first"},
        {"preferred_model": "anything", "value_per_hour_microdollars": 0, "style": "x" * 4_000, "mode": "full_mimic"},
        {"capabilities": ("code",), "preferred_capabilities": ("vision",)},
        {"preferred_model": f"/opt/cache/huggingface/hub/{'x' * 160}/Q4_K_M.gguf"},
        {"deadline_seconds": 86_400.0, "max_cost_microdollars": 0, "max_output_tokens": 1, "temperature": 2.0},
        {"prompt": "", "messages": ({"role": "user", "content": "hi"},)},
        {"prompt": "", "messages": ({"role": "user", "content": [{"type": "text", "text": "hi"}]},)},
        {"prompt": "", "messages": ({"role": "assistant", "tool_calls": [{}]}, {"role": "tool", "content": "4"})},
    ],
)
def test_a_good_submission_has_no_problem(fields: dict[str, Any]) -> None:
    assert problem_of(**fields) is None


def test_what_is_listed_can_be_named() -> None:
    """Case 29: servers that call their models by their path."""
    folder = "/opt/cache/huggingface/hub/models--someone--Some-Large-70B-Instruct-GGUF/snapshots"
    path = f"{folder}/83fb6e83d0a8aada42d499259bc929d9/Some-Large-70B-Instruct-Q4_K_M.gguf"
    for model in (path, f"{path[:-5]}{'x' * 400}.gguf"):
        submit = JobSubmit(prompt="hi", model=model)
        assert check(submit, tenant="acme", models={model}, strategies=STRATEGIES, longest_deadline=86_400.0) is None


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"tenant": "other"}, "tenant", "'acme'"),
        ({"id": "x" * 129}, "id", "128"),
        ({"id": "a\nb"}, "id", "control"),
        ({"user": "a\tb"}, "user", "control"),
        ({"workflow": "x" * 200}, "workflow", "128"),
        ({"step": "\0"}, "step", "control"),
        ({"batch": "x" * 129}, "batch", "128"),
        ({"prompt": ""}, "prompt", "prompt or in messages"),
        ({"prompt": " \n "}, "prompt", "write what"),
        ({"messages": ({"role": "user", "content": "hi"},)}, "prompt", "not both"),
        ({"prompt": "", "messages": ({"role": "boss", "content": "hi"},)}, "messages[0].role", "user"),
        ({"prompt": "", "messages": ({"content": "hi"},)}, "messages[0].role", "assistant"),
        ({"prompt": "", "messages": ({"role": ["user"], "content": "hi"},)}, "messages[0].role", "user"),
        (
            {"prompt": "", "messages": ({"role": "user", "content": "a"}, {"role": "user", "content": 5})},
            "messages[1].content", "text",
        ),
        ({"prompt": "", "messages": ({"role": "user", "content": None},)}, "messages[0].content", "text"),
        ({"prompt": "", "messages": ({"role": "user", "content": ""},)}, "messages", "content"),
        ({"max_output_tokens": 0}, "max_output_tokens", "1 to"),
        ({"max_output_tokens": 10**400}, "max_output_tokens", "1 to"),
        ({"temperature": 2.1}, "temperature", "0 to 2"),
        ({"temperature": -0.1}, "temperature", "0 to 2"),
        ({"temperature": float("nan")}, "temperature", "0 to 2"),
        ({"seed": -1}, "seed", "0 to"),
        ({"seed": 2**64}, "seed", "or leave it out"),
        ({"deadline_seconds": -5.0}, "deadline_seconds", "more than 0"),
        ({"deadline_seconds": 0.0}, "deadline_seconds", "more than 0"),
        ({"deadline_seconds": 86_401.0}, "deadline_seconds", "86,400"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds", "more than 0"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds", "at most"),
        ({"max_cost_microdollars": -1}, "max_cost_microdollars", "0 to"),
        ({"max_cost_microdollars": 10**30}, "max_cost_microdollars", "0 to"),
        ({"value_per_hour_microdollars": -1}, "value_per_hour_microdollars", "0 to"),
        ({"mode": "a\nb"}, "mode", "control"),
        ({"preferred_model": "x" * 1025}, "preferred_model", "1,024"),
        ({"model": "ü" * 500}, "model", "2,048"),
        ({"style": "x" * 4_001}, "style", "4,000"),
        ({"capabilities": ("x",) * 33}, "capabilities", "32"),
        ({"capabilities": ("",)}, "capabilities", "vision"),
        ({"preferred_capabilities": ("x",) * 33}, "preferred_capabilities", "32"),
        ({"preferred_capabilities": ("a\nb",)}, "preferred_capabilities", "control"),
        (
            {"capabilities": ("vision",), "preferred_capabilities": ("vision",)},
            "preferred_capabilities", "exclude each other",
        ),
        ({"frames": 0}, "frames", "1 to"),
        ({"model": "llama3.1"}, "model", "Did you mean 'llama3.1:8b'?"),
        ({"model": "zzz"}, "model", "Known: llama3.1:8b"),
        ({"strategy": "cost_frist"}, "strategy", "Did you mean 'cost_first'?"),
    ],
)  # fmt: skip
def test_a_bad_submission_names_the_field_and_what_would_be_right(
    fields: dict[str, Any], field: str, words: str
) -> None:
    problem = problem_of(**fields)
    assert problem is not None
    assert (problem.reason, problem.field) == ("invalid", field)
    assert field in problem.message
    assert words in problem.message
    assert len(problem.value) <= 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "upscal"}, (
            "recipe is 'upscal': no backend has it. Did you mean 'upscale'? "
            "Known: odd, text-to-image, text-to-video, upscale."
        )),
        ({"recipe": "text-to-video", "asset": "image"},
         "recipe 'text-to-video' makes video, but asset is image: leave asset out."),
        ({"recipe": "upscale", "asset": "audio"},
         "recipe 'upscale' makes image or video, but asset is audio: leave asset out."),
    ],
)  # fmt: skip
def test_a_recipe_that_nobody_has_or_that_makes_something_else_is_refused(fields: dict[str, Any], message: str) -> None:
    problem = problem_of(**fields)
    assert problem is not None
    assert (problem.reason, problem.field, problem.message) == ("invalid", "recipe", message)


@pytest.mark.parametrize(
    "fields",
    [
        {"recipe": "text-to-video"}, {"recipe": "text-to-video", "asset": "video"}, {"recipe": "upscale", "asset": "video"},
        {"recipe": "odd", "asset": "audio"},
    ],
)  # fmt: skip
def test_a_recipe_that_somebody_has_is_taken(fields: dict[str, Any]) -> None:
    assert problem_of(**fields) is None


def test_while_nobody_is_known_any_recipe_is_taken_and_with_none_known_it_is_refused_without_a_list() -> None:
    submit = JobSubmit(prompt="hi", recipe="upscale")
    assert check(submit, tenant="acme", models=frozenset(), strategies=(), longest_deadline=60.0) is None
    problem = check(submit, tenant="acme", models=MODELS, strategies=(), longest_deadline=60.0)
    assert problem is not None
    assert problem.message == "recipe is 'upscale': no backend has it."


def test_before_any_model_is_known_none_is_refused() -> None:
    submit = JobSubmit(prompt="hi", model="anything")
    assert check(submit, tenant="acme", models=frozenset(), strategies=(), longest_deadline=60.0) is None


VALUES: Any = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


FIELDS: Any = dict.fromkeys(JobSubmit.__struct_fields__, VALUES)


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_whatever_comes_is_accepted_or_refused_with_a_field(body: dict[str, Any]) -> None:
    try:
        submit = codec.decode(JobSubmit, msgspec.json.encode(body))
    except codec.Undecodable as error:
        problem = undecodable(str(error))
        assert problem.field in JobSubmit.__struct_fields__
        return
    problem = check(submit, tenant="acme", models=MODELS, strategies=STRATEGIES, longest_deadline=60.0)
    assert problem is None or re.split(r"[.\[]", problem.field)[0] in JobSubmit.__struct_fields__


@pytest.mark.parametrize(
    ("body", "reason", "field", "words"),
    [
        (b"{", "undecodable", "", "not a job in JSON"),
        (b"hello", "undecodable", "", "not a job in JSON"),
        (b"\xff", "undecodable", "", "not a job in JSON"),
        (b"[1]", "undecodable", "", "object"),
        (b'{"prompt":5}', "invalid", "prompt", "str"),
        (b'{"deadline_seconds":"soon"}', "invalid", "deadline_seconds", "float"),
        (b'{"messages":[{"role":"user"},3]}', "invalid", "messages[1]", "object"),
        (b'{"task":"codes"}', "invalid", "task", "codes"),
        (b'{"promt":"hi"}', "invalid", "promt", "Did you mean 'prompt'?"),
        (b'{"max_tokens":5}', "invalid", "max_tokens", "max_output_tokens"),
        (b'{"deadline":5}', "invalid", "deadline", "Did you mean 'deadline_seconds'?"),
    ],
)
def test_a_body_that_is_no_job_says_why(body: bytes, reason: str, field: str, words: str) -> None:
    with pytest.raises(codec.Undecodable) as caught:
        codec.decode(JobSubmit, body)
    problem = undecodable(str(caught.value))
    assert (problem.reason, problem.field) == (reason, field)
    assert words in problem.message


@pytest.mark.parametrize("body", [b'{"%b":1}' % (b"x" * 400_000), b'{"quality":"%b"}' % (b"x" * 400_000)])
def test_a_long_value_does_not_make_a_long_problem(body: bytes) -> None:
    with pytest.raises(codec.Undecodable) as caught:
        codec.decode(JobSubmit, body)
    problem = undecodable(str(caught.value))
    assert problem.reason == "invalid"
    assert problem.field in ("quality", "x" * 128)
    assert len(msgspec.json.encode(problem)) < 4_000


@pytest.mark.parametrize(
    ("body", "found"),
    [(b'{"id":"j-1","promt":1}', "j-1"), (b'{"id":5}', ""), (b"[]", ""), (b"{", ""), (b"\xff", ""), (b"{}", "")],
)
def test_the_id_of_a_body_that_is_no_job(body: bytes, found: str) -> None:
    assert lenient_id(body) == found


@pytest.mark.parametrize("model", ["light-1", "qwen3", "qwen3:latest", "llama3.1:8b"])
def test_a_model_has_several_names(model: str) -> None:
    """That of the backend, with or without `:latest`, or its stable id in the catalogue."""
    submit = JobSubmit(prompt="hi", model=model)
    for served in ("qwen3", "qwen3:latest"):
        problem = check(
            submit, tenant="acme", models={*MODELS, served}, catalogue={"light-1"}, strategies=(), longest_deadline=60.0
        )
        assert problem is None


@pytest.mark.parametrize("fields", [{"texts": ("a",)}, {"recipe": "upscale"}])
def test_some_jobs_need_no_prompt(fields: dict[str, Any]) -> None:
    assert problem_of(prompt="", **fields) is None


@pytest.mark.parametrize("fields", [{}, {"inputs": (IMAGE,)}, {"dimensions": 3}])
def test_others_do(fields: dict[str, Any]) -> None:
    found = problem_of(prompt="", **fields)
    assert found is not None
    assert found.field == "prompt"


def test_a_bare_graph_needs_no_prompt() -> None:
    graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
    assert problem_of(prompt="", graph=graph) is None
