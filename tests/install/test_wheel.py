"""The wheel holds all that turnout needs, and runs where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest

from tests.install.locks import ROOT, RUNTIME, here, project
from tests.install.makefile import make, plain

PACKAGES = ("messages", "bus", "actors", "scenarios")
LOOK = """
import importlib, importlib.metadata, pkgutil, sys
from pathlib import Path

names = sys.argv[1:]
for name in names:
    package = importlib.import_module(name)
    assert Path(sys.prefix) in Path(package.__file__).parents, package.__file__
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
owners = importlib.metadata.packages_distributions()
assert {name: owners[name] for name in names} == {name: ["turnout"] for name in names}, owners
assert "tests" not in owners

from actors.console.app import found
from actors.executor.recipes.loading import shipped as recipes
from actors.price_table import OWN, read_file
from actors.router.shipped import shipped_policies

for point in found().values():
    assert callable(point.load()), point
assert recipes() and shipped_policies() and read_file(OWN)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` builds with the tools of this environment."""
    folder = tmp_path_factory.mktemp("dist")
    tools = f"BIN={Path(sys.executable).parent}"
    done = make(ROOT, plain(folder), "--old-file=.venv/.ready", tools, f"DIST={folder}", "wheel")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def outside(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what requirements.txt locks and the wheel, far from the checkout."""
    place = tmp_path_factory.mktemp("outside")
    home = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    for name in here(RUNTIME):
        for file in distribution(name).files or ():  # nats-server lies among the scripts: ../../../bin
            if "__pycache__" not in file.parts:
                target = Path(os.path.normpath(site / file))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    subprocess.run([*pip, "check"], check=True)
    return home


def run(outside: Path, folder: Path, *command: str) -> str:
    """Run a program of that environment in an empty folder, without anything of the checkout in sight."""
    done = subprocess.run(
        [outside / "bin" / command[0], *command[1:]],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    ours = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {PurePosixPath(name).suffix for name in ours} >= {".py", ".toml", ".jsonl", ".typed"}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert packed.keys() == ours.keys()
    assert packed == ours


def test_its_metadata_say_what_pyproject_says(wheel: Path) -> None:
    config = project()["project"]
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        points = ConfigParser(delimiters=("=",))
        points.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert (metadata["Name"], metadata["Version"]) == (config["name"], config["version"])
    assert metadata["License-Expression"] == config["license"]
    assert {section: dict(points[section]) for section in points.sections()} == {
        "console_scripts": config["scripts"], **config["entry-points"]
    }  # fmt: skip


def test_all_of_it_loads_outside_the_checkout(outside: Path, tmp_path: Path) -> None:
    run(outside, tmp_path, "python", "-I", "-c", LOOK, *PACKAGES)


def test_the_demo_runs_outside_the_checkout(outside: Path, tmp_path: Path) -> None:
    version = project()["project"]["version"]
    assert run(outside, tmp_path, "turnout", "--version").strip() == version
    assert "submit" in run(outside, tmp_path, "turnout", "--help")
    told = run(outside, tmp_path, "turnout", "demo", "--jobs", "9", "--pace", "0.1")
    assert "9 jobs submitted: 9 succeeded." in told.splitlines()
