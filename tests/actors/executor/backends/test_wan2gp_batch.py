import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import open_backend
from actors.executor.backends.port import Answer, Artifact, Backend, BackendError, Call, Input, Offer, Step, Vitals
from actors.executor.backends.wan2gp_batch import problem_in, read_file, step_in
from actors.executor.recipes.choosing import seed_for
from messages.values import Media
from tests.actors.executor.backends.conformance import all_of, checked

# Stands for Wan2GP's program: reads its arguments strictly, and prints and exits as that does.
PROGRAM = r"""
import json, os, pathlib, sys, time
args = sys.argv[1:]
assert args[0] == "--process" and args[2] == "--output-dir", args
job = json.loads(pathlib.Path(args[1]).read_text())
out = pathlib.Path(args[3])
pathlib.Path("seen.json").write_text(json.dumps({"job": job, "more": args[4:], "env": sorted(os.environ)}))
for name in ("image_start",):
    if name in job:
        assert pathlib.Path(job[name]).read_bytes().startswith(b"\x89PNG")
fate = pathlib.Path("fate").read_text() if pathlib.Path("fate").exists() else ""
print("[Task 1/1] starting", flush=True)
if fate == "skip":
    print("[SKIP] Task 1: resolution is not a size\nQueue completed: 0/1 tasks in 0s", flush=True)
    sys.exit(0)
if fate == "memory":
    print("torch.OutOfMemoryError: CUDA out of memory", flush=True)
    sys.exit(1)
if fate == "hang":
    pathlib.Path("running").write_text(str(os.getpid()))
    time.sleep(600)
if fate == "stall":
    pathlib.Path("running").write_text(str(os.getpid()))
    sys.stdout.write("\r[3/30] Prompt 1/1 - Denoising | 12s\r")
    sys.stdout.flush()
    time.sleep(600)
for step in (3, 30):
    sys.stdout.write("\r[%d/30] Prompt 1/1 - Denoising | 12s" % step)
    sys.stdout.flush()
if fate != "nothing":
    (out / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    (out / "clip.json").write_text("{}")
print("\nTask 1 completed\nQueue completed: 1/1 tasks in 1s", flush=True)
"""
CALL = Call(
    key="acme/j-1/1", model="t2v_1.3B", asset="video", messages=({"role": "user", "content": "a pond"},),
    max_output_tokens=1, media=Media(images=1, width=832, height=480, steps=30, frames=81),
)  # fmt: skip


def opened(folder: Path, fate: str = "", **options: Any) -> Backend:
    (folder / "wgp.py").write_text(PROGRAM)
    if fate:
        (folder / "fate").write_text(fate)
    more = {"python": sys.executable, "models": ("t2v_1.3B", "i2v_2_2", "whisper"), **options}
    return open_backend("wan2gp_batch", folder.as_uri(), api_key=None, now=lambda: 0.0, options=more)


def test_a_video_is_made_by_one_run_of_the_program(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")

    async def main() -> None:
        backend = opened(tmp_path, arguments=["--profile", "4"])
        assert await backend.health() == Vitals(slots=1)
        *steps, made, answer = await all_of(backend, CALL)
        assert steps == [
            Step(stage="loading"),
            Step(stage="working", share=0.1, text="step 3 of 30, Denoising"),
            Step(stage="working", share=1.0, text="step 30 of 30, Denoising"),
        ]
        assert isinstance(made, Artifact)
        assert (made.name, made.media_type, made.file.size_bytes) == ("clip.mp4", "video/mp4", 512)
        made.file.close()
        assert isinstance(answer, Answer)
        assert answer.seed == seed_for(CALL)
        seen = (tmp_path / "seen.json").read_text()
        assert '"model_type": "t2v_1.3B"' in seen
        assert '"video_length": 81' in seen
        assert '"more": ["--profile", "4"]' in seen
        assert "OPENAI_API_KEY" not in seen, "another's program gets no keys"
        await backend.close()

    checked(main())


def test_an_image_to_begin_with_is_a_file_beside_the_job(tmp_path: Path) -> None:
    async def main() -> None:
        image = Input(name="image", media_type="image/png", data=b"\x89PNG\r\n\x1a\n")
        known: dict[str, Any] = {
            "model": "i2v_2_2",
            "asset": "video",
            "messages": CALL.messages,
            "max_output_tokens": 1,
        }
        *_, made, _ = await all_of(opened(tmp_path), Call(**known, inputs=(image,)))
        assert isinstance(made, Artifact)
        made.file.close()

    checked(main())


@pytest.mark.parametrize(
    ("fate", "kind", "said"),
    [
        ("skip", "bad_request", "resolution is not a size"),
        ("memory", "server_error", "out of memory"),
        ("nothing", "empty", "no file"),
    ],
)
def test_how_a_run_may_fail(tmp_path: Path, fate: str, kind: str, said: str) -> None:
    async def main() -> None:
        with pytest.raises(BackendError) as caught:
            await all_of(opened(tmp_path, fate), CALL)
        assert (caught.value.kind, said in caught.value.message) == (kind, True)

    checked(main())


def test_who_stops_waiting_ends_the_program_and_the_next_has_its_turn(tmp_path: Path) -> None:
    async def main() -> None:
        backend = opened(tmp_path, "hang")
        first = asyncio.create_task(all_of(backend, CALL))
        while not (tmp_path / "running").exists():  # noqa: ASYNC110  # Another process sets no event.
            await asyncio.sleep(0.01)
        waiting = backend.run(CALL)
        assert await anext(waiting) == Step(stage="queued")
        await waiting.aclose()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "running").read_text()), 0)
        (tmp_path / "fate").unlink()
        *_, made, _ = await all_of(backend, CALL)
        assert isinstance(made, Artifact)
        made.file.close()

    checked(main())


def test_who_closes_at_a_step_ends_the_program_before_anything_else(tmp_path: Path) -> None:
    async def main() -> None:
        backend = opened(tmp_path, "stall")
        run = backend.run(CALL)
        assert (await anext(run), await anext(run)) == (
            Step(stage="loading"), Step(stage="working", share=0.1, text="step 3 of 30, Denoising"),
        )  # fmt: skip
        await run.aclose()
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "running").read_text()), 0)

    checked(main())


def test_files_that_nobody_takes_are_closed_and_ones_that_can_t_be_read_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        backend = opened(tmp_path)
        run = backend.run(CALL)
        while not isinstance(item := await anext(run), Artifact):
            assert isinstance(item, Step)
        item.file.close()
        await run.aclose()

    checked(main())
    missing = tmp_path / "gone.mp4"
    with pytest.raises(BackendError, match="can't be read") as caught:
        read_file(missing)
    assert caught.value.kind == "server_error"


@pytest.mark.parametrize("name", ["https://x/y.safetensors", "../y.safetensors", "a/../../y", "/etc/y", "C:\\y", "\\y"])
def test_a_lora_from_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        backend = opened(tmp_path)
        with pytest.raises(BackendError) as caught:
            await all_of(backend, msgspec.structs.replace(CALL, media=Media(loras=(name,))))
        assert (caught.value.kind, (tmp_path / "seen.json").exists()) == ("unknown_model", False)
        *_, made, _ = await all_of(backend, msgspec.structs.replace(CALL, media=Media(loras=("wan/ink.safetensors",))))
        assert isinstance(made, Artifact)
        made.file.close()
        assert '"activated_loras": ["wan/ink.safetensors"]' in (tmp_path / "seen.json").read_text()

    checked(main())


def test_models_are_those_that_the_settings_name(tmp_path: Path) -> None:
    async def main() -> None:
        assert await opened(tmp_path).discover() == (
            Offer(model="t2v_1.3B", capabilities=("lora", "recipe:text-to-video", "video")),
            Offer(model="i2v_2_2", capabilities=("lora", "recipe:image-to-video", "video")),
        )
        with pytest.raises(BackendError, match="can't be run"):
            await opened(tmp_path, python="no-such-python").health()
        with pytest.raises(BackendError) as caught:
            await all_of(opened(tmp_path, python="no-such-python"), CALL)
        assert caught.value.kind == "connection_error"
        (tmp_path / "wgp.py").unlink()
        backend = open_backend("wan2gp_batch", str(tmp_path), api_key=None, now=lambda: 0.0)
        with pytest.raises(BackendError, match=r"no wgp\.py"):
            await backend.health()

    checked(main())


@pytest.mark.parametrize("url", ["Wan2GP", "file:relative", "http://x"])
def test_an_address_that_is_no_folder(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: .*file:///opt/Wan2GP"):
        open_backend("wan2gp_batch", url, api_key=None, now=lambda: 0.0)


@given(st.text(), st.floats(0, 1))
def test_no_line_breaks_the_reading_and_the_share_never_falls(line: str, before: float) -> None:
    step = step_in(line, before)
    assert step is None or step.share is None or before <= step.share <= 1


def test_only_a_run_that_went_well_has_no_problem() -> None:
    assert problem_in(0, ["Queue completed: 1/1 tasks"]) is None
    interrupted = problem_in(130, [])
    assert interrupted is not None
    assert "exit code 130: it said nothing" in interrupted.message
