from __future__ import annotations

import pytest

from actors.executor.backends.comfyui_files import Output, gpu_seconds, media_type, outputs_of, picture_size, texts_of
from actors.executor.backends.files import File
from tests.fakes.comfyui import picture


def test_every_list_of_files_counts_once() -> None:
    one = {"filename": "a.png", "subfolder": "x", "type": "output"}
    entry = {
        "outputs": {
            "9": {"images": [one, one], "animated": [True], "text": ["t", ""]},
            "10": {"gifs": [{"filename": "b.mp4", "format": "video/h264-mp4", "fullpath": "/out/b.mp4"}]},
            "11": {"images": [{"filename": "c.png", "type": "temp"}], "audio": None, "3d": [{"filename": ""}, 5]},
            "12": None,
        }
    }
    assert outputs_of(entry) == (Output("a.png", "x"), Output("b.mp4"))
    assert texts_of(entry) == ("t",)
    del entry["outputs"]["9"], entry["outputs"]["10"]
    assert outputs_of(entry) == (Output("c.png", "", "temp"),)
    assert outputs_of({}) == ()
    assert texts_of({"outputs": {"1": {"text": "whole"}, "2": {"text": [["a"], 5]}, "3": {"string": ["b"]}}}) == (
        "whole",
        "a",
        "b",
    )


INPUT = {"images": [{"filename": "example.png", "subfolder": "", "type": "input"}]}


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        (
            {"3": INPUT, "9": {"images": [{"filename": "t.png", "subfolder": "", "type": "temp"}]}},
            [("t.png", "", "temp")],
        ),
        (
            {"3": INPUT, "9": {"images": [{"filename": "a_1.png", "subfolder": "", "type": "output"}]}},
            [("a_1.png", "", "output")],
        ),
        ({"3": INPUT}, []),
        ({"9": {"video": ["output/video/v_00001.mp4"]}}, [("v_00001.mp4", "video", "output")]),
        ({"9": {"video": ["/opt/ComfyUI/output/v.mp4", "C:\\ComfyUI\\temp\\a\\b.png"]}}, [("v.mp4", "", "output")]),
        ({"9": {"files": ["/opt/ComfyUI/input/v.mp4", "just a word", "output/no ending"]}}, []),
        ({"9": {"text": ["output/x.png"]}}, []),
        ({"9": {"result": ["3d/mesh_00001_.glb", {"position": 1}, None]}}, [("mesh_00001_.glb", "3d", "output")]),
        ({"9": {"result": ["/etc/x.glb", "a word", "x.png"]}}, []),
        ({"9": {"video": {"filename": "v.mp4", "subfolder": "", "type": "output"}}}, [("v.mp4", "", "output")]),
        ({"9": {"images": [[{"filename": "a.png", "type": "output"}], [None, 3]]}}, [("a.png", "", "output")]),
        ({"9": {"images": [{"filename": "example.png", "type": "INPUT"}]}}, []),
        (
            {"9": {"images": [{"filename": "example.png", "type": "", "fullpath": "/opt/ComfyUI/input/example.png"}]}},
            [],
        ),
        (
            {"9": {"images": [{"filename": "example.png [input]"}, {"filename": "t.png [temp]"}]}},
            [("t.png", "", "temp")],
        ),
        (
            {"9": {"latents": [{"filename": "l.latent", "subfolder": "latents", "type": "output"}]}},
            [("l.latent", "latents", "output")],
        ),
    ],
)
def test_what_the_graph_made_is_no_input_of_the_job(
    outputs: dict[str, object], found: list[tuple[str, str, str]]
) -> None:
    """Case 30."""
    assert [(one.filename, one.subfolder, one.type) for one in outputs_of({"outputs": outputs})] == found


@pytest.mark.parametrize(("filename", "name"), [("a.png", "a.png"), ("x/..\\a:b.png", "a_b.png"), ("x/", "file")])
def test_names_have_no_folders(filename: str, name: str) -> None:
    assert Output(filename).name == name


@pytest.mark.parametrize(
    ("said", "head", "filename", "found"),
    [
        ("image/webp", b"", "a.png", "image/webp"),
        ("", b"\xff\xd8\xff", "a", "image/jpeg"),
        ("application/octet-stream", b"", "a.mp4", "video/mp4"),
        ("text/plain", b"", "a", "text/plain"),
        ("", b"", "a", "application/octet-stream"),
    ],
)
def test_what_a_file_is(said: str, head: bytes, filename: str, found: str) -> None:
    assert media_type(said, head, filename) == found


def test_how_long_the_server_worked() -> None:
    messages = [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 3500}]]
    assert gpu_seconds({"status": {"messages": messages}}) == 2.5
    assert gpu_seconds({"status": {"messages": messages[:1]}}) is None
    assert gpu_seconds({}) is None


def test_sizes_come_from_the_header() -> None:
    file = File(picture(31, 17))
    assert picture_size(file) == (31, 17)
    jpeg = File(b"\xff\xd8\xff\xe1\x13\x8a" + bytes(5000) + b"\xff\xc0\x00\x11\x08\x00\x20\x00\x40" + bytes(20))
    assert picture_size(jpeg) == (64, 32)
    none = File(b"no picture")
    assert picture_size(none) == (0, 0)
    assert file.read() == picture(31, 17)
    for each in (file, jpeg, none):
        each.close()
