"""Real servers of this machine: where they are found, and how one is run beside a test with a tiny model of random weights."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

import msgspec

HERE: Final = Path(__file__).parent
LLAMA_VARIABLE: Final = "TURNOUT_LLAMA_CPP_PYTHON"
TRANSFORMERS_VARIABLE: Final = "TURNOUT_TRANSFORMERS"
COMFY_VARIABLE: Final = "TURNOUT_COMFYUI"
COMFY_PYTHON_VARIABLE: Final = "TURNOUT_COMFYUI_PYTHON"
START_SECONDS: Final = 240.0
"""So long a server may take to answer at all: it may have to read gigabytes of libraries."""
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Nothing is looked for elsewhere."""


class Missing(Exception):
    """A server is not installed; the text says what to set."""


class Server(msgspec.Struct, frozen=True):
    """A server that runs."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def python_with(modules: tuple[str, ...], variable: str, environment: Mapping[str, str]) -> str:
    """The Python that the variable names, or else ours, which has these modules. Raises Missing."""
    python = environment.get(variable, "") or sys.executable
    code = "import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in sys.argv[1:]))"
    try:
        found = subprocess.run([python, "-c", code, *modules], capture_output=True, check=False).returncode == 0
    except OSError as error:
        raise Missing(f"{variable}={python}: {error.strerror}") from None
    if not found:
        raise Missing(f"{python} has not all of {', '.join(modules)}: set {variable} to a Python that has them")
    return python


@contextlib.contextmanager
def llama_cpp_python(folder: Path, environment: Mapping[str, str]) -> Generator[tuple[Server, str]]:
    """llama-cpp-python's server with a tiny model, and the model's name there. Raises Missing."""
    modules = ("llama_cpp", "fastapi", "uvicorn", "gguf")
    python = python_with(modules, LLAMA_VARIABLE, environment)
    model = folder / "tiny.gguf"
    subprocess.run([python, HERE / "tiny_gguf.py", model], check=True)
    command = ["-m", "llama_cpp.server", "--model", str(model), "--n_ctx", "512", "--host", "127.0.0.1"]
    with running([python, *command], folder, "/v1/models") as server:
        yield server, str(model)


@contextlib.contextmanager
def transformers(folder: Path, environment: Mapping[str, str]) -> Generator[tuple[Server, str]]:
    """`transformers serve` with a tiny model, and the model's name there. Raises Missing."""
    modules = ("transformers", "torch", "fastapi", "uvicorn")
    python = python_with(modules, TRANSFORMERS_VARIABLE, environment)
    model = folder / "tiny"
    offline = {**os.environ, **OFFLINE, "HF_HOME": str(folder / "hub")}
    subprocess.run([python, HERE / "tiny_transformers.py", model], check=True, env=offline)
    program = Path(python).with_name("transformers")  # Beside its Python: a module that runs it there is not.
    command = [str(program), "serve", str(model), "--device", "cpu", "--host", "127.0.0.1"]
    with running(command, folder, "/health", {"HF_HOME": str(folder / "hub")}) as server:
        yield server, str(model)


@contextlib.contextmanager
def comfyui(folder: Path, environment: Mapping[str, str]) -> Generator[Server]:
    """ComfyUI on the CPU, without any checkpoint and with `comfy_nodes`. Raises Missing."""
    home = environment.get(COMFY_VARIABLE, "")
    if not home:
        raise Missing(f"{COMFY_VARIABLE} is not set: the folder with ComfyUI's main.py")
    main = Path(home) / "main.py"
    if not main.is_file():
        raise Missing(f"{COMFY_VARIABLE}={home}: there is no main.py")
    own = Path(home) / ".venv" / "bin" / "python"
    given = environment.get(COMFY_PYTHON_VARIABLE, "") or (str(own) if own.exists() else "")
    python = python_with(
        ("torch", "aiohttp", "einops"), COMFY_PYTHON_VARIABLE, {**environment, COMFY_PYTHON_VARIABLE: given}
    )
    base = folder / "comfyui"
    nodes = base / "custom_nodes" / "turnout_test_nodes.py"
    nodes.parent.mkdir(parents=True)
    nodes.write_text((HERE / "comfy_nodes.py").read_text())
    command = [
        python,
        str(main),
        "--cpu",
        "--listen",
        "127.0.0.1",
        "--base-directory",
        str(base),
        "--disable-api-nodes",
    ]
    database = ["--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    with running([*command, *database], folder, "/system_stats") as server:
        yield server


@contextlib.contextmanager
def running(command: list[str], folder: Path, path: str, more: Mapping[str, str] | None = None) -> Generator[Server]:
    """A server that listens on a free port (`--port`), once it answers at this path; stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    environment = {**os.environ, **OFFLINE, **(more or {}), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _await_answer(process, url + path, log)
            yield Server(url, process, log)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            told = log.read_text("utf-8", "replace")[-2000:]
            assert process.poll() is None, f"the server ended:\n{told}"
            assert time.monotonic() < end, f"the server does not answer:\n{told}"
            time.sleep(0.2)
