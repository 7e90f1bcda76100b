"""Whether the files that were made are what the job asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.executor.backends import port, sniff
from actors.executor.check_files import Made, files_fault, files_remarks, is_of
from messages import Artifact, JobSubmit, Media, ObjectRef, Origin, Parameters, Work
from tests.messages.samples import slip, work

PNG = b"\x89PNG\r\n\x1a\n"
MP4 = b"\0\0\0\x18ftypmp42"
WEBM = b"\x1a\x45\xdf\xa3"
HTML = b"<!doctype html><title>502</title>"


def made(declared: str = "image/png", head: bytes = PNG, *, size: int = 9, **more: Any) -> Made:
    sniffed = sniff.media_type_of(head)
    ref = ObjectRef(key="k", size_bytes=size, sha256="", media_type=sniffed or declared)
    origin = Origin(backend="a", model="m")
    return Made(Artifact(name="f", ref=ref, origin=origin, expires_at=0.0, **more), declared, sniffed, head)


def ended(finish_reason: port.FinishReason, text: str = "") -> port.Answer:
    return port.Answer(text=text, finish_reason=finish_reason, model="m", usage=port.Usage())


def wanting(asset: str, **media: Any) -> Work:
    return work(slip=slip(needs={"asset": asset, "media": Media(**media)}))


@pytest.mark.parametrize(
    ("asset", "media_type", "right"),
    [
        ("image", "image/png", True), ("image", "video/mp4", False), ("video", "video/mp4", True),
        ("video", "image/gif", True), ("video", "image/png", False), ("audio", "audio/wav", True),
        ("audio", "video/mp4", True), ("audio", "image/png", False), ("text", "image/png", False),
    ],
)  # fmt: skip
def test_what_is_of_a_kind(asset: Any, media_type: str, right: bool) -> None:
    assert is_of(asset, media_type) is right


@pytest.mark.parametrize(
    ("asset", "files", "reason"),
    [
        ("image", [made()], ""),
        ("image", [], "empty"),
        ("image", [made("video/mp4", MP4)], "empty"),
        ("video", [made(), made("video/mp4", MP4)], ""),
        ("image", [made(head=HTML)], "invalid_structure"),
        ("image", [made("image/jpeg", b"\0\0")], "invalid_structure"),
        ("image", [made(size=0)], "invalid_structure"),
        ("image", [made("image/svg+xml", b"<svg xmlns=")], ""),
        ("video", [made("video/mp4", HTML)], "invalid_structure"),
        ("video", [made("video/x-odd", b"\0\1")], ""),
        ("audio", [made("audio/mpeg", b'{"error": 1}')], "invalid_structure"),
    ],
)
def test_a_job_of_media_needs_a_file_of_its_kind_that_is_one(asset: str, files: list[Made], reason: str) -> None:
    found = files_fault(files, wanting(asset), JobSubmit(prompt="a fox"), ended("stop"))
    assert (found.reason if found else "") == reason


def test_nothing_made_says_how_it_ended_and_what_came_instead() -> None:
    found = files_fault([made("video/mp4", MP4)], wanting("image"), JobSubmit(), ended("content_filter"))
    assert found is not None
    assert found.message == "a made no image, but video/mp4 (finish reason 'content_filter')"


@pytest.mark.parametrize(
    ("files", "text", "asset", "reason"),
    [
        ([made("video/mp4", MP4)], "", None, ""),
        ([], "a caption", None, ""),
        ([], "", None, "empty"),
        ([made(head=HTML)], "", None, "invalid_structure"),
        ([made("video/mp4", MP4)], "", "image", "bad_request"),
        ([], "a caption", "image", "bad_request"),
        ([made()], "", "image", ""),
    ],
)
def test_a_graph_makes_what_its_nodes_make(files: list[Made], text: str, asset: Any, reason: str) -> None:
    submit = JobSubmit(graph={"1": {"class_type": "SaveWEBM"}}, asset=asset)
    found = files_fault(files, wanting("image"), submit, ended("stop", text))
    assert (found.reason if found else "") == reason


def test_a_recipe_that_makes_something_else_is_no_illness_of_the_backend() -> None:
    submit = JobSubmit(prompt="a fox", recipe="mine")
    reasons = [
        found.reason
        for files in ([made("video/mp4", MP4)], [])
        if (found := files_fault(files, wanting("image"), submit, ended("stop")))
    ]
    assert reasons == ["unknown_model", "empty"]


def test_a_graph_that_makes_something_else_is_told_what() -> None:
    submit = JobSubmit(graph={"1": {"class_type": "SaveWEBM"}}, asset="image")
    found = files_fault([made("video/mp4", MP4)], wanting("image"), submit, ended("stop"))
    assert found is not None
    assert (found.field, found.message.partition(";")[0]) == (
        "asset", "the graph makes video/mp4, not the image that was asked for",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("files", "said", "names"),
    [
        ([made()], {}, []),
        ([made()], {"count": 2}, ["count"]),
        ([made(), made()], {"count": 2}, []),
        ([made("image/jpeg")], {}, ["media_type"]),
        ([made(width=1024, height=1024)], {"width": 1024, "height": 768}, ["size"]),
        ([made(width=1024, height=760)], {"width": 1024, "height": 768}, []),
        ([made(width=1024, height=760)], {}, []),
        ([made()], {"width": 64, "height": 64}, []),
        ([made(width=1024, height=1024)], {"width": 1024}, []),
        ([made(width=1024, height=1024)], {"height": 512}, ["size"]),
        ([made("image/jpeg", width=9, height=9)] * 300, {"width": 1024, "height": 768}, ["media_type", "size"]),
    ],
)
def test_what_can_be_used_all_the_same_is_told_once(files: list[Made], said: dict[str, Any], names: list[str]) -> None:
    found = list(files_remarks(files, wanting("image"), JobSubmit(prompt="a fox", **said)))
    assert [check.name for check in found] == names
    assert all(check.verdict == "soft_fail" and check.message for check in found)


def test_what_nobody_said_is_not_checked() -> None:
    preset = msgspec.structs.replace(
        wanting("image", images=4, width=768, height=768), parameters=Parameters(width=768, height=768)
    )
    assert list(files_remarks([made(width=96, height=72)], preset, JobSubmit(prompt="a fox"))) == []


def test_how_many_of_a_batch_differ_is_said() -> None:
    files = [made(width=96, height=72)] * 2 + [made(width=1024, height=768)]
    (found,) = files_remarks(files, wanting("image"), JobSubmit(width=1024, height=768))
    assert found.message == "2 of 3 files (f first) are 96 x 72; 1024 x 768 was asked for"


def test_names_of_one_container_are_no_difference() -> None:
    files = [made("audio/mp4", MP4), made("video/x-matroska", WEBM)]
    assert list(files_remarks(files, wanting("audio"), JobSubmit())) == []
