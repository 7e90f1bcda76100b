from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.check_media import MAKES, MOST, MOST_LORAS, MOST_NODES, check_media
from actors.analyzer.graph import asks_of
from messages import Input, JobSubmit
from tests.actors.analyzer.test_graph import SDXL, WAN

NODE: dict[str, Any] = {"class_type": "KSampler", "inputs": {}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"asset": "image", "count": 4, "width": 1, "height": 16_384, "steps": 10_000, "loras": ("a", "b")},
        {"asset": "video", "frames": 81, "fps": 16.0, "seconds": 5.0},
        {"frames": 120, "fps": 24.0, "seconds": 4.5},
        {"asset": "audio", "seconds": 86_400.0, "steps": 50},
        {"asset": "text", "loras": ("style",)},
        {"asset": "embedding"},
        {"graph": SDXL},
        {"graph": WAN, "asset": "video"},
        {"graph": {"1": {"class_type": "SaveImage"}}},
        {"asset": "embedding", "texts": ("a",), "dimensions": 3},
        {"asset": "video", "recipe": "image-to-video", "negative_prompt": "fog"},
        {"asset": "text", "inputs": (Input(name="image", media_type="image/png", data="eA=="),)},
    ],
)
def test_a_good_submission_has_no_problem(fields: dict[str, Any]) -> None:
    assert check_media(JobSubmit(prompt="a fox", **fields)) is None


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        *(({name: 0}, name, "leave it out") for name in MOST),
        *(({name: most * 2}, name, f"{most:,}") for name, most in MOST.items()),
        ({"count": -1}, "count", "use 1 to 1,000"),
        ({"fps": float("nan")}, "fps", "more than 0"),
        ({"seconds": float("inf")}, "seconds", "at most 86,400"),
        ({"seconds": -0.5}, "seconds", "more than 0"),
        ({"asset": "text", "frames": 8}, "frames", "asset text has no frames; leave it out, or ask for video."),
        ({"asset": "image", "frames": 8}, "frames", "ask for video"),
        ({"asset": "image", "seconds": 8.0}, "seconds", "video or audio"),
        ({"asset": "text", "width": 8}, "width", "image or video"),
        ({"asset": "embedding", "steps": 8}, "steps", "asset embedding has no steps"),
        ({"asset": "embedding", "loras": ("a",)}, "loras", "no loras"),
        ({"asset": "text", "graph": SDXL}, "graph", "asset text has no graph"),
        ({"asset": "image", "tools": ({},)}, "tools", "ask for text"),
        ({"asset": "video", "response_format": {"type": "json_object"}}, "response_format", "ask for text"),
        ({"asset": "text", "recipe": "upscale"}, "recipe", "asset text has no recipe"),
        ({"asset": "text", "negative_prompt": "fog"}, "negative_prompt", "image or video or audio"),
        ({"asset": "image", "texts": ("a", "b")}, "texts", "ask for embedding"),
        ({"asset": "text", "dimensions": 3}, "dimensions", "ask for embedding"),
        (
            {"asset": "embedding", "inputs": (Input(name="image", media_type="image/png", data="eA=="),)},
            "inputs",
            "no inputs",
        ),
        ({"recipe": "upscale", "graph": SDXL}, "recipe", "a graph is a workflow of its own"),
        ({"frames": 81, "fps": 16.0, "seconds": 10.0}, "frames", "10 s at 16 frames per second are 160; leave one out"),
        ({"loras": tuple(map(str, range(MOST_LORAS + 1)))}, "loras", "at most 32"),
        ({"loras": ("a", " ")}, "loras[1]", "1 to 256"),
        ({"loras": ("a\n",)}, "loras[0]", "printable"),
        ({"loras": ("x" * 257,)}, "loras[0]", "256"),
        ({"loras": ("a", "b", "a")}, "loras", "named twice"),
        ({"graph": {}}, "graph", "no nodes"),
        ({"graph": dict.fromkeys(map(str, range(MOST_NODES + 1)), NODE)}, "graph", "5,000"),
        ({"graph": {"nodes": [], "links": []}}, "graph", "Export (API)"),
        ({"graph": {"3": "KSampler"}}, "graph.3", "class_type"),
        ({"graph": {"3": {"inputs": {}}}}, "graph.3.class_type", "KSampler"),
        ({"graph": {"3": {"class_type": 7}}}, "graph.3.class_type", "name of its class"),
        ({"graph": {"3": {"class_type": "K", "inputs": []}}}, "graph.3.inputs", "object"),
        (
            {"graph": {"3": {"class_type": "K", "inputs": {"model": ["9", 0]}}}},
            "graph.3.inputs.model",
            "not in the graph",
        ),
    ],
)
def test_a_bad_submission_names_the_field_and_what_would_be_right(
    fields: dict[str, Any], field: str, words: str
) -> None:
    problem = check_media(JobSubmit(prompt="a fox", **fields))
    assert problem is not None
    assert (problem.reason, problem.field) == ("invalid", field)
    assert field in problem.message
    assert words in problem.message


@pytest.mark.parametrize(
    ("kind", "inputs", "field"),
    [
        ("KSampler", {"steps": 1e300}, "steps"),
        ("EmptyLatentImage", {"width": 1e300, "height": 1e300}, "width"),
        ("EmptyLatentImage", {"batch_size": 1_001}, "count"),
        ("WanImageToVideo", {"length": 10**30}, "frames"),
        ("CreateVideo", {"fps": 241}, "fps"),
    ],
)
def test_a_graph_may_ask_for_no_more_than_a_job(kind: str, inputs: dict[str, Any], field: str) -> None:
    problem = check_media(JobSubmit(graph={"1": {"class_type": kind, "inputs": inputs}}))
    assert problem is not None
    assert (problem.reason, problem.field) == ("invalid", "graph")
    assert f"as its {field}; use at most {MOST[field]:,}." in problem.message


@pytest.mark.parametrize(
    "graph",
    [
        {"1": {"class_type": "CheckpointLoader", "inputs": {"ckpt_name": "m" * 40_000}}},
        {str(n): {"class_type": f"{n:0250d}"} for n in range(200)},
    ],
)
def test_the_names_of_a_graph_fit_into_an_event(graph: dict[str, Any]) -> None:
    problem = check_media(JobSubmit(graph=graph))
    assert problem is not None
    assert problem.field == "graph"
    assert "too long together" in problem.message


def test_every_field_of_media_is_looked_at() -> None:
    assert set(MOST) < set(MAKES)
    assert set(MAKES) <= set(JobSubmit.__struct_fields__)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_type", "inputs", "1"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["1", "2", "nodes"]), JSON, max_size=3))
def test_any_graph_is_refused_with_its_place_or_understood(graph: dict[str, Any]) -> None:
    problem = check_media(JobSubmit(graph=graph))
    if problem is None:
        assert asks_of(graph).media.node_types
    else:
        assert problem.field.startswith("graph")
