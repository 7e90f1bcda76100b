"""How the GPUs of this host are, through NVML. Every call here may block for seconds: run it beside the event loop."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from messages import Gpu, GpuProcess

T = TypeVar("T")
log = logging.getLogger("turnout.sensor")

MOST_PROCESSES = 32
ANEW_AFTER_LOOKS = 15
"""While a GPU can't be read, NVML is initialised anew after so many looks: it then sees one that was reset."""
_MEBIBYTE = 1 << 20
_MIG_ENABLED = 1
_UNKNOWN = frozenset({2, 3, 4, 6, 7, 13, 21, 25, 27})
"""Codes that mean "this figure is not to be had here" (not supported, no permission, function not found, …), not that the
GPU is in trouble."""
_WORDS = {
    4: "this user may not ask the NVIDIA driver (no permission)",
    9: "the NVIDIA driver is installed, but not loaded",
    12: "there is no NVIDIA driver here (NVML's library was not found)",
    13: "the NVIDIA driver is too old: its library lacks a function that is needed",
    15: "it is lost: it has fallen off the bus; reset it, or restart the machine",
    16: "it must be reset before it can be used",
    18: "the NVIDIA driver was upgraded while it was loaded: its library and its kernel module differ in version; "
    "restart the machine",
}
"""What the codes of nvmlReturn_t mean for whoever runs this."""


class Look(msgspec.Struct, frozen=True):
    """What one look at this host's GPUs found."""

    gpus: tuple[Gpu, ...] = ()
    """As they are; without the time, which is the caller's to say."""
    problem: str = ""
    """Why none could be read, in words; empty: fine."""


class Nvml:
    """The GPUs of this host. NVML is loaded by the first look, stays initialised, and is initialised anew after an error.

    Not for two threads at once.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self._nvml: Any = None
        self._looks_in_trouble = 0

    def look(self) -> Look:
        """Read them all. Blocks, at worst for as long as the driver likes; never raises."""
        nvml: Any = importlib.import_module("pynvml")
        try:
            if self._nvml is None:
                nvml.nvmlInit()
                self._nvml = nvml
            return self._read(nvml)
        except nvml.NVMLError as error:
            self._let_go(nvml)
            return Look(problem=_in_words(error))
        except Exception as error:  # A sensor that fails must not take its process with it.
            log.exception("reading the GPUs failed")
            self._let_go(nvml)
            return Look(problem=f"reading NVML failed: {error!r}")

    def _let_go(self, nvml: Any) -> None:
        """Initialise anew at the next look."""
        if self._nvml is not None:
            self._nvml = None
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                log.debug("NVML did not shut down: %s", error)

    def _read(self, nvml: Any) -> Look:
        driver = _known(nvml, nvml.nvmlSystemGetDriverVersion) or ""
        count = nvml.nvmlDeviceGetCount()
        if not count:
            self._let_go(nvml)  # One that is plugged in or freed later is seen only then.
            return Look(problem="the NVIDIA driver is here, but it shows no GPU")
        gpus = tuple(self._gpu(nvml, index, driver) for index in range(count))
        self._looks_in_trouble = self._looks_in_trouble + 1 if any(gpu.problem for gpu in gpus) else 0
        if self._looks_in_trouble >= ANEW_AFTER_LOOKS:
            self._looks_in_trouble = 0
            self._let_go(nvml)
        return Look(gpus)

    def _gpu(self, nvml: Any, index: int, driver: str) -> Gpu:
        found: dict[str, Any] = {"host": self.host, "index": index, "driver": driver, "at": 0.0}
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            found["name"] = _known(nvml, lambda: nvml.nvmlDeviceGetName(handle)) or ""
            found["uuid"] = _known(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)) or ""
            rates = _known(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
            load = None if rates is None else rates.gpu / 100
            temperature = _temperature(nvml, handle)
            mig = _known(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
            if mig is not None and mig[0] == _MIG_ENABLED:
                text = "it is split into MIG instances, whose memory is not measured"
                return Gpu(**found, load=load, temperature_c=temperature, problem=text)
            memory = _known(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
            if memory is not None:
                found |= {f"memory_{part}_mb": getattr(memory, part) // _MEBIBYTE for part in ("total", "free", "used")}
            return Gpu(**found, load=load, temperature_c=temperature, processes=_processes(nvml, handle))
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
                raise  # Not this one is in trouble, but all are.
            about = {key: found[key] for key in ("host", "index", "driver", "at", "name", "uuid") if key in found}
            return Gpu(**about, problem=_in_words(error))


def _in_words(error: Any) -> str:
    return _WORDS.get(error.value) or f"NVML says: {error}"


def _known(nvml: Any, call: Callable[[], T]) -> T | None:
    """What a call answers; None when this figure is not to be had on this GPU, or by this user."""
    try:
        return call()
    except nvml.NVMLError as error:
        if error.value not in _UNKNOWN:
            raise
        return None


def _temperature(nvml: Any, handle: Any) -> float | None:
    """Older drivers know only the older call."""
    found = _known(nvml, lambda: nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))
    if found is None:
        found = _known(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return None if found is None else float(found)


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    """Who computes or draws on it, the largest first. Who does both is listed once, with the larger figure."""
    found: dict[int, int | None] = {}
    told = False
    for kind in ("Compute", "Graphics"):
        listed: Any = None
        for version in ("_v3", "_v2"):  # Older drivers know only the older call.
            call = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses{version}")
            listed = _known(nvml, lambda call=call: call(handle))
            if listed is not None:
                break
        told = told or listed is not None
        for process in listed or ():
            used = None if process.usedGpuMemory is None else process.usedGpuMemory // _MEBIBYTE
            before = found.get(process.pid)
            found[process.pid] = used if before is None else max(before, used or 0)
    if not told:
        return None
    ordered = sorted(found.items(), key=lambda one: (-(one[1] or 0), one[0]))
    return tuple(GpuProcess(pid=pid, memory_mb=used) for pid, used in ordered[:MOST_PROCESSES])
