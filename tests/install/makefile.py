"""The Makefile as it is: what its targets would run, and running them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.install.locks import ROOT


def plain(home: Path, **more: str) -> dict[str, str]:
    """An environment that knows neither an outer make nor this machine's settings of pip and Python."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "LC_ALL": "C.UTF-8", **more}


def make(folder: Path, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run make there, with this Python."""
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def lines(*targets: str) -> list[str]:
    """Every command line that these targets would run where nothing is there yet."""
    said = make(ROOT, plain(ROOT), "--dry-run", "--always-make", *targets)
    assert said.returncode == 0, said.stderr
    return said.stdout.replace("\\\n", " ").splitlines()
