"""The reader against a real NVIDIA driver. Runs where there is one: `pytest -rs tests/actors/registry/test_gpu_real.py`."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from actors.registry.aside import Aside
from actors.registry.gpu import Look, Nvml
from actors.registry.sensor import news
from messages import Gpu

GIBIBYTE = 1 << 30


@pytest.fixture(scope="module")
def look() -> Look:
    nvml: Any = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
        nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        pytest.skip(f"no real NVML here: {error}")
    if not count:
        pytest.skip("no real GPU here: NVML counts none")
    seen = Nvml("box").look()
    assert len(seen.gpus) == count
    return seen


def test_every_gpu_is_read_and_makes_sense(look: Look) -> None:
    assert look.problem == ""
    for index, gpu in enumerate(look.gpus):
        print(gpu)
        assert gpu.index == index
        assert gpu.name
        assert gpu.uuid.startswith("GPU-")
        assert gpu.driver[0].isdigit()
        assert gpu.load is None or 0 <= gpu.load <= 1
        assert gpu.temperature_c is None or 5 < gpu.temperature_c < 110
        if "MIG" in gpu.problem:
            continue
        assert gpu.problem == ""
        if gpu.memory_total_mb is not None:
            assert gpu.memory_free_mb is not None
            assert gpu.memory_used_mb is not None
            assert abs(gpu.memory_total_mb - gpu.memory_free_mb - gpu.memory_used_mb) <= 2


def test_it_is_what_nvidia_smi_shows(look: Look) -> None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        pytest.skip("no nvidia-smi here")
    shown = subprocess.run(
        [tool, "--query-gpu=index,name,uuid,driver_version,memory.total", "--format=csv,noheader,nounits"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(shown) == len(look.gpus)
    for line, gpu in zip(shown, look.gpus, strict=True):
        index, name, uuid, driver, total = (part.strip() for part in line.split(","))
        assert (gpu.index, gpu.name, gpu.uuid, gpu.driver) == (int(index), name, uuid, driver)
        if gpu.memory_total_mb is not None:
            assert abs(gpu.memory_total_mb - int(total)) <= 1


@contextmanager
def taken(size: int) -> Generator[str]:
    """Memory of the first CUDA device, and that device's UUID."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        pytest.skip(f"no CUDA driver here: {error}")

    def call(name: str, *arguments: Any) -> None:
        code = getattr(cuda, name)(*arguments)
        assert code == 0, f"{name} failed with {code}"

    device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    uuid = (ctypes.c_ubyte * 16)()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDeviceGetUuid", uuid, device)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        call("cuCtxSetCurrent", context)
        call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(size))
        digits = bytes(uuid).hex()
        yield f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        call("cuMemFree_v2", memory)
    finally:
        call("cuDevicePrimaryCtxRelease_v2", device)


def test_memory_that_is_taken_is_seen_and_is_news(look: Look) -> None:
    async def read() -> Look:
        return await Aside(Nvml("box").look, what="NVML", patience_seconds=60.0)()

    def of(seen: Look, uuid: str) -> Gpu:
        return next(gpu for gpu in seen.gpus if gpu.uuid == uuid)

    with taken(2 * GIBIBYTE) as uuid:
        if of(look, uuid).memory_free_mb is None:
            pytest.skip(f"the memory of this GPU is not read: {of(look, uuid).problem or 'not supported'}")
        during = asyncio.run(read())
        free, before = of(during, uuid).memory_free_mb, of(look, uuid).memory_free_mb
        assert free is not None
        assert before is not None
        assert before - free >= 2_000
        told = {gpu.index: gpu for gpu in look.gpus}
        assert uuid in {gpu.uuid for gpu in news(during, told, host="box", now=60.0)}
    after = of(asyncio.run(read()), uuid).memory_free_mb
    assert after is not None
    assert after - free >= 2_000


def test_it_can_be_read_again_and_again(look: Look) -> None:
    reader = Nvml("box")
    assert [reader.look().problem for _ in range(50)] == [""] * 50
