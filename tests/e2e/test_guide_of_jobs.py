"""The commands that the guide shows for images, videos and embeddings, typed one after the other as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from actors.settings import BackendSettings
from tests.actors.console.live import run
from tests.e2e.system import System
from tests.fakes.comfyui import FakeComfyui, picture
from tests.fakes.lm_studio import FakeLmStudio

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "jobs.md"
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def commands(heading: str) -> list[list[str]]:
    """The first block of commands below a heading, comments left out."""
    _, _, rest = GUIDE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    block = re.search(r"```console\n(.*?)```", rest, re.DOTALL)
    assert block
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def test_the_commands_for_media_work(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "passages.txt").write_text("one\ntwo words\n")
    (tmp_path / "workflow.json").write_text(json.dumps(GRAPH))
    there = AsyncExitStack()

    async def open_all() -> None:
        comfyui = await there.enter_async_context(FakeComfyui())
        studio = await there.enter_async_context(FakeLmStudio())
        await there.enter_async_context(
            system.serving(
                BackendSettings(name="comfyui", protocol="comfyui", url=comfyui.url, local=True),
                BackendSettings(name="studio", protocol="lm_studio", url=studio.url, local=True),
            )
        )

    shown: dict[str, str] = {}
    system.do(open_all())
    try:
        for words in commands("Images, videos, embeddings"):
            assert words[0] == "turnout"
            code = run(*words[1:], url=system.server.url)
            printed = capsysbinary.readouterr()
            shown[" ".join(words[1:])] = printed.out.decode()
            assert code == 0, f"{' '.join(words)}\n{printed.err.decode()}"
    finally:
        system.do(there.aclose())
    made = {path.name for path in tmp_path.iterdir()} - {"passages.txt", "workflow.json", "fox.png", "run.mp4"}
    assert len(made) == 2, "of the two foxes"
    for name in made:
        assert (tmp_path / name).read_bytes() == picture(1024, 768)
        assert name in shown["get foxes --list"]
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert b"ftyp" in (tmp_path / "run.mp4").read_bytes()[:12]
    [embedded] = [json.loads(text) for words, text in shown.items() if "--texts" in words]
    assert [len(one) for one in embedded] == [512, 512]
    assert shown["submit what is in the picture? --input image=fox.png"].strip()
