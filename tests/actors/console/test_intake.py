"""From flags and lines to submissions."""

import json
from pathlib import Path

import pytest

from actors.console.intake import graph_of, job_of, jobs_of_lines, microdollars, span, texts_of
from actors.console.screen import Wrong
from messages import JobSubmit


def test_lines_become_jobs_and_flags_fill_the_gaps() -> None:
    lines = ['{"prompt": "a", "model": "m1"}', "", '\ufeff{"messages": [{"role": "user", "content": "b"}]}']
    jobs = jobs_of_lines(lines, {"tenant": "acme", "model": "m2"}, "jobs")
    assert [(job.tenant, job.model) for job in jobs] == [("acme", "m1"), ("acme", "m2")]


def test_every_bad_line_is_named_with_its_field() -> None:
    lines = [
        '{"prompt": "fine"}',
        '{"promt": "x"}',
        "nonsense",
        '{"prompt": "x", "deadline_seconds": "soon"}',
        "[1]",
        '{"prompt": "x", "id": "a"}',
        '{"prompt": "y", "id": "a"}',
        "{}",
    ]
    with pytest.raises(Wrong) as wrong:
        jobs_of_lines(lines, {}, "jobs.jsonl")
    said = wrong.value.text
    assert "jobs.jsonl: 6 bad lines, nothing was sent" in said
    assert "line 2: promt: it is not a field of a job; did you mean prompt?" in said
    assert "line 3: it is no JSON" in said
    assert "line 4: deadline_seconds:" in said
    assert "'soon'" in said
    assert "line 5: it is no JSON object" in said
    assert "line 7: id: 'a' is used in line 6 already" in said
    assert "line 8: prompt: it is missing" in said
    assert "line 1:" not in said


def test_many_bad_lines_are_cut() -> None:
    with pytest.raises(Wrong) as wrong:
        jobs_of_lines(["x"] * 25, {}, "jobs")
    assert "… and 15 more" in wrong.value.text


def test_an_empty_file_is_no_success() -> None:
    with pytest.raises(Wrong, match="there is no job in it"):
        jobs_of_lines(["", "  "], {}, "jobs")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "prompt: it is missing"),
        ({"prompt": "  "}, "prompt: it is missing"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "either prompt or messages"),
        ({"prompt": "a", "id": "x" * 129}, "id: it has 129 characters"),
        ({"prompt": "a", "quality": "best"}, "quality: Invalid enum value 'best'"),
        ({"prompt": 5}, "prompt: Expected `str`, got `int` (it is 5)"),
        ({"prompt": "a", "zzzzzzzz": 1}, "zzzzzzzz: it is not a field of a job; known are tenant, id, prompt"),
    ],
)
def test_a_wrong_field_is_named(fields: dict, said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # The text is looked at.
        job_of(fields)
    assert said in str(error.value)


def test_a_job_of_fields() -> None:
    assert job_of({"prompt": "a", "temperature": 1}) == JobSubmit(prompt="a", temperature=1.0)


@pytest.mark.parametrize(("text", "value"), [("0.05", 50_000), ("$1", 1_000_000), ("0", 0), ("0.0000001", 0)])
def test_dollars(text: str, value: int) -> None:
    assert microdollars(text) == value


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much", ""])
def test_no_dollars(text: str) -> None:
    with pytest.raises(Wrong, match="--max-cost"):
        microdollars(text)


def test_the_flag_of_dollars_is_named() -> None:
    with pytest.raises(Wrong, match="--value-per-hour"):
        microdollars("-1", "--value-per-hour")


def test_a_graph_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
    file.write_text(json.dumps(graph))
    assert graph_of(str(file)) == graph
    assert job_of({"graph": graph}).graph == graph


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "it is no JSON"),
        ("[1]", "it is no graph"),
        ("{}", "it is no graph"),
        ('{"nodes": []}', "ComfyUI's editor"),
    ],
)
def test_no_graph(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "graph.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Wrong) as wrong:
        graph_of(str(file))
    assert str(file) in wrong.value.text
    assert said in wrong.value.text


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("1.5 min", 90)])
def test_spans(text: str, value: float) -> None:
    assert span(text) == value


@pytest.mark.parametrize("text", ["0", "-5", "soon", "1d", ""])
def test_no_spans(text: str) -> None:
    with pytest.raises(Wrong, match="--deadline"):
        span(text)


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ("one\n\n two \n", ["one", " two "]),
        ('\ufeff["a", "b\\nc"]', ["a", "b\nc"]),
        ("[draft] note", None),
        ("", None),
        ("[1]", None),
    ],
)
def test_texts_are_lines_or_a_list(tmp_path: Path, written: str, texts: list[str] | None) -> None:
    (tmp_path / "texts").write_text(written, encoding="utf-8")
    if texts is None:
        with pytest.raises(Wrong):
            texts_of(str(tmp_path / "texts"))
    else:
        assert texts_of(str(tmp_path / "texts")) == texts


@pytest.mark.parametrize(
    "fields",
    [
        {"texts": ["a"]}, {"recipe": "upscale"},
    ],
)  # fmt: skip
def test_some_jobs_need_no_prompt(fields: dict[str, object]) -> None:
    assert job_of(fields).prompt == ""
    with pytest.raises(ValueError, match="prompt: it is missing"):
        job_of({"model": "upscale"})
