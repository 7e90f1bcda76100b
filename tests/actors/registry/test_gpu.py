from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from actors.registry.gpu import Look
from messages import Gpu, GpuProcess

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
T = TypeVar("T")


class Silence(msgspec.Struct):
    """NVML did not answer in time; meanwhile the loop turned so often."""

    no_answer: str
    turns: int


class Asked(msgspec.Struct):
    """What `reading.py` answers to `ask`."""

    look: Look = Look()
    no_answer: str = ""
    turns: int = 0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our `libnvidia-ml.so.1`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the stand-in for NVML needs Linux and a C compiler (cc)")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / "libnvidia-ml.so.1"),
         str(HERE / "fake_nvml.c")],
        check=True,
    )  # fmt: skip
    return folder


class Reader:
    """A process that reads the GPUs of a stand-in."""

    def __init__(self, library: Path, state: Path, first: dict[str, int]) -> None:
        self.state, self.said = state, dict(first)
        self.set()
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(state), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "reading.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=ROOT,
        )  # fmt: skip
        self.loaded_at_import = self._line(bool)

    def set(self, **changes: int) -> None:
        """Change what the stand-in answers; `free_mb_0` is the first GPU's."""
        self.said |= changes
        lines = [f"{re.sub(r'_(?=[0-9]$)', '.', key)} {value}" for key, value in self.said.items()]
        fresh = self.state.with_suffix(".new")
        fresh.write_text("\n".join(lines))
        fresh.replace(self.state)

    def look(self) -> Look:
        return self.tell("look", Look)

    def ask(self) -> Look | Silence:
        """Ask with patience."""
        answer = self.tell("ask", Asked)
        return Silence(answer.no_answer, answer.turns) if answer.no_answer else answer.look

    def settled(self) -> Look:
        """Ask until it answers, and until its thread has ended."""
        answer = self.ask()
        while isinstance(answer, Silence):
            answer = self.ask()
        while self.tell("threads", int) > 1:
            pass
        return answer

    def tell(self, command: str, kind: type[T]) -> T:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._line(kind)

    def _line(self, kind: type[T]) -> T:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the reading process has ended"
        return msgspec.json.decode(line, type=kind)

    def log(self) -> list[str]:
        """What was noted by the stand-in since it was asked last."""
        path = Path(f"{self.state}.log")
        lines = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def close(self) -> int:
        """The exit code; a call that hangs must not keep the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(60)


Open = Callable[..., Reader]


@pytest.fixture
def opened(library: Path, tmp_path: Path) -> Iterator[Open]:
    readers: list[Reader] = []

    def open_one(**first: int) -> Reader:
        readers.append(Reader(library, tmp_path / f"state{len(readers)}", first))
        return readers[-1]

    yield open_one
    for reader in readers:
        if reader.process.poll() is None:
            reader.process.kill()
            reader.close()


def test_what_a_gpu_says_of_itself(opened: Open) -> None:
    reader = opened(computing_0=2, drawing_0=1)
    assert reader.loaded_at_import is False, "nothing is loaded before the first look"
    gpu = Gpu(
        host="box", index=0, name="Fake GPU 0", uuid="GPU-0000", memory_total_mb=24_576, memory_free_mb=20_000,
        memory_used_mb=4_576, load=0.4, temperature_c=55.0, driver="580.65.06", at=0.0,
        processes=(GpuProcess(pid=101, memory_mb=2_048), GpuProcess(pid=100, memory_mb=1_024)),
    )  # fmt: skip
    assert reader.look() == Look((gpu,))


def test_it_is_initialised_once_and_reads_anew(opened: Open) -> None:
    reader = opened()
    frees: list[int | None] = []
    for free in (20_000, 19_000, 5_000):
        reader.set(free_mb_0=free)
        frees.append(reader.look().gpus[0].memory_free_mb)
    assert frees == [20_000, 19_000, 5_000]
    assert reader.log() == ["init"]


def test_two_gpus_are_two(opened: Open) -> None:
    reader = opened(count=2, total_mb_1=8_192, free_mb_1=100, load_1=100)
    one, two = reader.look().gpus
    assert (one.index, one.uuid, one.memory_total_mb) == (0, "GPU-0000", 24_576)
    assert (two.index, two.uuid, two.memory_total_mb, two.load) == (1, "GPU-0001", 8_192, 1.0)


@pytest.mark.parametrize(
    ("code", "words"), [(9, "not loaded"), (4, "no permission"), (18, "restart the machine"), (999, "Unknown Error")]
)
def test_a_driver_that_cannot_be_used_says_why_until_it_can(opened: Open, code: int, words: str) -> None:
    reader = opened(init=code)
    for _ in range(2):
        seen = reader.look()
        assert seen.gpus == ()
        assert words in seen.problem
    reader.set(init=0)
    assert reader.look().problem == ""
    assert reader.log() == ["refused", "refused", "init"]


def test_a_reloaded_driver_is_initialised_anew(opened: Open) -> None:
    reader = opened()
    assert reader.look().problem == ""
    reader.set(fails=9)
    assert "not loaded" in reader.look().problem
    reader.set(fails=0)
    assert len(reader.look().gpus) == 1
    assert reader.log() == ["init", "shutdown", "init"]


def test_a_driver_without_a_gpu_says_so(opened: Open) -> None:
    reader = opened(count=0)
    assert "no GPU" in reader.look().problem
    reader.set(count=1)
    assert len(reader.look().gpus) == 1


def test_what_is_not_supported_is_unknown_and_not_zero(opened: Open) -> None:
    reader = opened(memory_fails_0=3, load_fails_0=3, new_temperature_fails_0=3, old_temperature_fails_0=3,
                    processes_fail_0=3, old_processes_fail_0=3, uuid_fails_0=4)  # fmt: skip
    (gpu,) = reader.look().gpus
    assert gpu.problem == ""
    assert [key for key in gpu.__struct_fields__ if getattr(gpu, key) is None] == [
        "memory_total_mb", "memory_free_mb", "memory_used_mb", "load", "temperature_c", "processes"
    ]  # fmt: skip
    assert (gpu.name, gpu.uuid) == ("Fake GPU 0", "")


def test_an_older_driver_is_asked_the_older_way(opened: Open) -> None:
    reader = opened(new_temperature_fails_0=13, processes_fail_0=13, computing_0=1)
    (gpu,) = reader.look().gpus
    assert gpu.temperature_c == 56.0
    assert gpu.processes == (GpuProcess(pid=100, memory_mb=1_024),)


def test_processes_whose_memory_is_not_told_are_listed(opened: Open) -> None:
    reader = opened(computing_0=2, untold_0=1)
    (gpu,) = reader.look().gpus
    assert gpu.processes == (GpuProcess(pid=100), GpuProcess(pid=101))
    reader.set(computing_0=40, untold_0=0)
    (gpu,) = reader.look().gpus
    assert gpu.processes is not None
    assert [one.pid for one in gpu.processes] == list(range(139, 107, -1)), "the largest 32"


def test_one_that_is_lost_does_not_hide_the_other(opened: Open) -> None:
    reader = opened(count=2, memory_fails_1=15)
    for _ in range(15):
        one, two = reader.look().gpus
        assert (one.problem, one.memory_free_mb) == ("", 20_000)
        assert (two.uuid, two.memory_free_mb) == ("GPU-0001", None)
        assert "lost" in two.problem
    assert reader.log() == ["init", "shutdown"], "a GPU that was reset is seen after a new beginning"
    reader.set(memory_fails_1=0)
    assert [gpu.problem for gpu in reader.look().gpus] == ["", ""]
    assert reader.log() == ["init"]


def test_memory_of_a_split_gpu_is_unknown(opened: Open) -> None:
    reader = opened(count=2, mig_0=1, mig_1=0, load_fails_0=3)
    one, two = reader.look().gpus
    assert "MIG" in one.problem
    assert (one.memory_total_mb, one.memory_free_mb, one.temperature_c) == (None, None, 55.0)
    assert (two.problem, two.memory_total_mb) == ("", 24_576)


def test_a_driver_that_hangs_blocks_nobody_and_piles_up_nothing(opened: Open) -> None:
    reader = opened()
    seen = reader.look()
    assert reader.settled() == seen
    reader.set(hang=1)
    for number in range(4):
        answer = reader.ask()
        assert isinstance(answer, Silence)
        assert answer.no_answer == "NVML has not answered within 0.2 s"
        assert number > 0 or answer.turns > 0, "the loop went on"
        assert reader.tell("threads", int) == 2
    reader.set(hang=0, free_mb_0=7)
    assert reader.settled().gpus[0].memory_free_mb == 7, "what came late is not taken for the present"
    assert reader.log() == ["init"]


def test_a_call_that_hangs_does_not_keep_the_process(opened: Open) -> None:
    reader = opened(hang=1)
    assert isinstance(reader.ask(), Silence)
    assert reader.close() == 0


def test_a_broken_library_is_no_driver(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"no library")
    reader = Reader(tmp_path, tmp_path / "state", {})
    try:
        seen = reader.look()
    finally:
        reader.close()
    assert seen.gpus == ()
    assert seen.problem == "there is no NVIDIA driver here (NVML's library was not found)"
