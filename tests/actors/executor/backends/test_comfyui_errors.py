from __future__ import annotations

import json
from typing import Any

import pytest

from actors.executor.backends.comfyui_errors import dropped, faults, history_failed, messages_of, refused, run_failed
from actors.executor.backends.port import BackendError


def node_errors(kind: str, details: str = "ckpt_name: 'x' not in []") -> dict[str, Any]:
    return {
        "4": {"errors": [{"type": kind, "message": "m", "details": details}], "class_type": "CheckpointLoaderSimple"}
    }


def answer(kind: str, message: str = "no", errors: Any = None) -> BackendError:
    body = json.dumps({"error": {"type": kind, "message": message, "details": ""}, "node_errors": errors or {}})
    return BackendError("bad_request", "gpu:8188: HTTP 400: no", status=400, body=body)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            answer("prompt_outputs_failed_validation", errors=node_errors("value_not_in_list")),
            "unknown_model",
            "'x' not in []",
        ),
        (
            answer("prompt_outputs_failed_validation", errors=node_errors("value_bigger_than_max")),
            "bad_request",
            "node 4 (Check",
        ),
        (
            answer("invalid_prompt", "Cannot execute because node X does not exist."),
            "unknown_model",
            "node X does not exist",
        ),
        (answer("missing_node_type", "Node 'X' not found."), "unknown_model", "Node 'X' not found"),
        (answer("prompt_no_outputs", "Prompt has no outputs"), "bad_request", "Prompt has no outputs"),
    ],
)
def test_refused_graphs(error: BackendError, kind: str, text: str) -> None:
    found = refused(error)
    assert found.kind == kind
    assert found.message.startswith("gpu:8188: ComfyUI refuses the graph: ")
    assert text in found.message


def test_a_cut_body_still_tells_its_type() -> None:
    error = answer("prompt_outputs_failed_validation", errors=node_errors("value_not_in_list", "x" * 5000))
    assert len(error.body) == 2000
    assert refused(error).kind == "unknown_model"


def test_other_errors_stay_as_they_are() -> None:
    error = BackendError("server_error", "full", status=503)
    assert refused(error) is error


def test_graphs_taken_in_part() -> None:
    assert dropped(node_errors("value_not_in_list"), "gpu").kind == "unknown_model"
    assert dropped(node_errors("required_input_missing"), "gpu").kind == "bad_request"


def test_node_errors_of_any_form() -> None:
    assert list(faults(None)) == []
    assert list(faults({"4": None, "5": {"errors": "x"}})) == []
    assert list(faults({"4": {"errors": [{}, None], "class_type": "A"}})) == ["node 4 (A): None: None"] * 2


@pytest.mark.parametrize(
    ("name", "message", "kind"),
    [
        ("torch.OutOfMemoryError", "Allocation on device 0", "server_error"),
        ("torch.cuda.OutOfMemoryError", "x", "server_error"),
        ("RuntimeError", "HIP out of memory", "server_error"),
        ("builtins.FileNotFoundError", "x", "unknown_model"),
        ("safetensors.SafetensorError", "Error while deserializing header: HeaderTooLarge", "unknown_model"),
        ("builtins.TypeError", "unsupported operand", "bad_request"),
        ("", "", "server_error"),
    ],
)
def test_failed_nodes(name: str, message: str, kind: str) -> None:
    error = run_failed({"node_id": "3", "node_type": "K", "exception_type": name, "exception_message": message + "\n"})
    assert error.kind == kind
    assert error.message.startswith("ComfyUI failed at node 3 (K): ")


def test_the_history_tells_the_same() -> None:
    failed = ["execution_error", {"exception_type": "builtins.ValueError", "exception_message": "no"}]
    entry: dict[str, Any] = {
        "status": {"status_str": "error", "completed": False, "messages": [["execution_start", {}], failed]}
    }
    error = history_failed(entry)
    assert error is not None
    assert error.kind == "bad_request"
    entry["status"]["messages"] = [["execution_interrupted", {}]]
    error = history_failed(entry)
    assert error is not None
    assert error.retry == "elsewhere"
    entry["status"]["messages"] = None
    error = history_failed(entry)
    assert error is not None
    assert error.kind == "server_error"
    assert history_failed({"status": {"status_str": "success", "completed": True}}) is None
    assert history_failed({}) is None
    assert messages_of({"status": {"messages": [["a"], 5, ["b", 1], ["c", {"x": 1}]]}}) == [("b", {}), ("c", {"x": 1})]
