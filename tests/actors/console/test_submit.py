"""From the command line to submissions: flags, arguments, the standard input."""

import io
import json
import os
import sys
from collections.abc import Callable

import pytest

from actors.console import app
from actors.console.screen import Wrong
from actors.console.submit import Job, Picture, fields_of

NOBODY = ("--nats", "nats://127.0.0.1:1")
Submit = Callable[..., tuple[int, str]]


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Submit:
    """Runs the command with bytes on its standard input: its exit code, and what it complains about."""
    for name in [name for name in os.environ if name.startswith("TURNOUT_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, stdin: bytes) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return app.run(["submit", *arguments]), capsys.readouterr().err

    return run


@pytest.mark.parametrize("arguments", [(), ("-",), ("--prompt", "-"), ("--quality", "draft")])
def test_the_text_comes_from_the_standard_input(submit: Submit, arguments):
    """Only a job that has its text gets as far as the bus."""
    code, said = submit(*arguments, *NOBODY, stdin=b"hello from a pipe\n")
    assert (code, "no bus at" in said) == (3, True), said


@pytest.mark.parametrize("arguments", [(), ("-",)])
@pytest.mark.parametrize(
    ("stdin", "expected"), [(b"", "there is no prompt"), (b" \n", "there is no prompt"), (b"\xff", "not UTF-8 text")]
)
def test_nothing_to_read_is_wrong_usage(submit: Submit, arguments, stdin, expected):
    code, said = submit(*arguments, *NOBODY, stdin=stdin)
    assert code == 2, said
    assert expected in said


def test_jobs_come_from_the_standard_input(submit: Submit):
    code, said = submit("--file", "-", *NOBODY, stdin=b'{"prompt": "hello"}\n')
    assert code == 3, said
    code, said = submit("-f", "-", *NOBODY, stdin=b'{"promt": "hello"}\n')
    assert (code, "did you mean prompt?" in said) == (2, True), said


def test_a_dash_among_words_is_a_dash(monkeypatch):
    from actors.console import submit as module

    sent = []
    monkeypatch.setattr(module, "send", lambda jobs, options, where: sent.extend(jobs))
    monkeypatch.setattr(module, "play", lambda work: 0)
    assert app.run(["submit", "what", "is", "5", "-", "3"]) == 0
    assert [job.prompt for job in sent] == ["what is 5 - 3"]


def test_only_what_is_given_becomes_a_field():
    assert fields_of(Job()) == {"tenant": "default"}
    given = Job(
        prompt="p", capability=("json", "vision"), response_format="json", deadline="2m", max_cost="0.05", local_only=True,
        fast=True, temperature=0.0, seed=0, tenant="acme",
    )  # fmt: skip
    assert fields_of(given) == {
        "prompt": "p", "capabilities": ["json", "vision"], "response_format": {"type": "json_object"},
        "deadline_seconds": 120.0, "max_cost_microdollars": 50_000, "allow_cloud": False, "prioritize_speed": True,
        "temperature": 0.0, "seed": 0, "tenant": "acme",
    }  # fmt: skip
    given = Job(
        prefer=("vision",), preferred_model="m", preferred_backend="gpu-1", value_per_hour="$3.60", mode="full_mimic",
        role="style_refiner", style="like Klee", product="card", workflow="w", step="s", local_only=False, fast=False,
    )  # fmt: skip
    assert fields_of(given) == {
        "tenant": "default", "preferred_capabilities": ["vision"], "preferred_model": "m", "preferred_backend": "gpu-1",
        "value_per_hour_microdollars": 3_600_000, "mode": "full_mimic", "role": "style_refiner", "style": "like Klee",
        "product": "card", "workflow": "w", "step": "s", "allow_cloud": True, "prioritize_speed": False,
    }  # fmt: skip
    with pytest.raises(Wrong, match="--value-per-hour"):
        fields_of(Job(value_per_hour="much"))
    assert fields_of(Job(max_cost="0"))["max_cost_microdollars"] == 0
    with pytest.raises(Wrong, match="--deadline"):
        fields_of(Job(deadline="0"))


def test_texts_and_recipes_need_no_prompt(tmp_path, monkeypatch):
    from actors.console import submit as module

    sent = []
    monkeypatch.setattr(module, "send", lambda jobs, options, where: sent.extend(jobs))
    monkeypatch.setattr(module, "play", lambda work: 0)
    (tmp_path / "texts.txt").write_text("one\n\ntwo\n")
    (tmp_path / "fox.png").write_bytes(b"png")
    assert app.run(["submit", "--texts", str(tmp_path / "texts.txt"), "--dimensions", "8"]) == 0
    assert app.run(["submit", "--recipe", "upscale", "--input", f"image={tmp_path / 'fox.png'}"]) == 0
    embed, upscale = sent
    assert (embed.texts, embed.dimensions, embed.prompt) == (("one", "two"), 8, "")
    assert (upscale.recipe, [given.name for given in upscale.inputs]) == ("upscale", ["image"])


def test_a_picture_from_flags_and_a_graph_from_a_file(tmp_path, monkeypatch):
    from actors.console import submit as module

    sent = []
    monkeypatch.setattr(module, "send", lambda jobs, options, where: sent.extend(jobs))
    monkeypatch.setattr(module, "play", lambda work: 0)
    flags = ["--asset", "video", "--width", "832", "--height", "480", "--steps", "20", "--frames", "81", "--fps", "16"]
    flags += ["--seconds", "5", "--count", "1", "--lora", "ink", "--lora", "film"]
    assert app.run(["submit", "a fox", *flags]) == 0
    (video,) = sent
    assert (video.asset, video.width, video.height, video.steps, video.frames) == ("video", 832, 480, 20, 81)
    assert (video.fps, video.seconds, video.count, video.loras) == (16.0, 5.0, 1, ("ink", "film"))
    graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    sent.clear()
    assert app.run(["submit", "--graph", str(tmp_path / "graph.json")]) == 0
    assert (sent[0].graph, sent[0].prompt) == (graph, "")
    assert fields_of(Job(), Picture()) == {"tenant": "default"}
