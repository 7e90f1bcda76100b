from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.comfyui_progress import PREVIEW_BYTES, Progress
from actors.executor.backends.port import Step

GRAPH = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {}, "_meta": {"title": "Prompt"}},
    "3": {"class_type": "KSampler", "inputs": {}},
    "9": {"class_type": "SaveImage", "inputs": {}},
}
PNG = b"\x89PNG-preview"


def said(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": {"prompt_id": "p", **data}})


def test_a_whole_run() -> None:
    progress = Progress("p", GRAPH)
    assert progress.step == Step(stage="queued")
    story = [
        (said("execution_start"), Step(stage="loading", share=0.0)),
        (said("execution_cached", nodes=["4"]), Step(stage="loading", share=0.0)),
        (said("executing", node="6"), Step(stage="working", share=0.0, text="Prompt")),
        (said("executing", node="3"), Step(stage="working", share=1 / 3, text="KSampler")),
        (said("progress", node="3", value=1, max=2), Step(stage="working", share=0.5, text="KSampler: step 1 of 2")),
        (said("progress", node="3", value=2, max=2), Step(stage="working", share=2 / 3, text="KSampler: step 2 of 2")),
        (said("executing", node="9"), Step(stage="working", share=2 / 3, text="SaveImage")),
        (said("executed", node="9", output=None), Step(stage="working", share=1.0, text="SaveImage")),
    ]
    for message, step in story:
        progress.take(message)
        assert progress.step == step
    assert not progress.ending
    progress.take(said("execution_success"))
    assert (progress.ending, progress.over) == (True, False)
    progress.take(said("executing", node=None))
    assert progress.over
    assert progress.failure is None


def test_newer_servers_tell_all_nodes_at_once() -> None:
    progress = Progress("p", GRAPH)
    progress.take(said("execution_start"))
    states = {"4": {"state": "finished"}, "6": {"state": "finished"}, "3": {"state": "running", "value": 5, "max": 10}}
    assert progress.take(said("progress_state", nodes=states))
    assert progress.step == Step(stage="working", share=0.625, text="KSampler: step 5 of 10")


def test_a_loader_loads() -> None:
    progress = Progress("p", GRAPH)
    assert progress.take(said("executing", node="4"))
    assert progress.step == Step(stage="loading", share=0.0, text="CheckpointLoaderSimple")


def test_other_prompts_are_not_ours() -> None:
    progress = Progress("p", GRAPH)
    assert not progress.take(json.dumps({"type": "executing", "data": {"prompt_id": "q", "node": "3"}}))
    assert not progress.take(json.dumps({"type": "executing", "data": {"node": "3"}}))
    assert not progress.started
    assert not progress.take(json.dumps({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 3}}}}))
    assert progress.queue_remaining == 3


def test_how_it_fails() -> None:
    progress = Progress("p", GRAPH, ("the-key",))
    progress.take(
        said("execution_error", node_id="3", exception_type="torch.OutOfMemoryError", exception_message="the-key\n")
    )
    assert progress.failure is not None
    assert progress.failure.kind == "server_error"
    assert "the-key" not in progress.failure.message + progress.failure.body
    progress = Progress("p", GRAPH)
    progress.take(said("execution_interrupted", node_id="3", node_type="KSampler"))
    assert progress.failure is not None
    assert progress.failure.retry == "elsewhere"


def with_metadata(prompt_id: str, image: bytes) -> bytes:
    about = json.dumps({"prompt_id": prompt_id}).encode()
    return struct.pack(">II", 4, len(about)) + about + image


@pytest.mark.parametrize(
    ("frame", "image"),
    [
        (struct.pack(">II", 1, 2) + PNG, PNG),
        (struct.pack(">II", 1, 1) + b"\xff\xd8x", b"\xff\xd8x"),
        (with_metadata("p", PNG), PNG),
        (with_metadata("q", PNG), b""),
        (struct.pack(">II", 1, 1) + b"GIF89a", b""),
        (struct.pack(">II", 1, 2) + PNG + bytes(PREVIEW_BYTES), b""),
        (struct.pack(">II", 3, 1) + b"3text", b""),
        (struct.pack(">II", 4, 3) + b"{x}" + PNG, b""),
        (struct.pack(">II", 4, 2**31) + PNG, b""),
        (b"\0\0", b""),
        (b"", b""),
    ],
)
def test_previews(frame: bytes, image: bytes) -> None:
    assert Progress("p", GRAPH).preview(frame) == image


node = st.sampled_from(["4", "6", "3", "9", "nobody"])
number = st.one_of(
    st.integers(-5, 50), st.floats(allow_nan=False, allow_infinity=False), st.none(), st.text(max_size=2)
)
messages = st.one_of(
    st.builds(lambda n: said("executing", node=n), node),
    st.builds(lambda n, v, m: said("progress", node=n, value=v, max=m), node, number, number),
    st.builds(
        lambda n, v: said("progress_state", nodes={n: {"state": v, "value": 1, "max": 3}}), node, st.text(max_size=9)
    ),
    st.builds(lambda n: said("execution_cached", nodes=[n]), node),
    st.builds(lambda n: said("executed", node=n), node),
    st.sampled_from(
        [said("execution_start"), said("execution_cached", nodes=None), said("new"), "", "[]", '{"data":{}}', "{"]
    ),
)


@given(st.lists(messages, max_size=30))
def test_the_share_never_falls(story: list[str]) -> None:
    progress = Progress("p", GRAPH)
    last = 0.0
    for message in story:
        before = progress.step
        assert progress.take(message) == (progress.step != before)
        share = progress.step.share
        assert share is None or 0 <= last <= share <= 1
        last = share or last


@given(st.binary(max_size=200))
def test_any_frame_can_be_read(frame: bytes) -> None:
    assert Progress("p", GRAPH).preview(frame) in frame
