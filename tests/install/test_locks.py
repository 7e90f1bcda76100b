"""What is installed is what the locks name, whatever an index offers; and the locks agree with one another."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.locks import BUILD, DEV, LOWEST, ROOT, RUNTIME, here, project, read
from tests.install.makefile import lines, make, plain
from tests.install.tomorrow import Index

PIPS = {
    "23.2.1": "7ccf472345f20d35bdc9d1841ff5f313260c2c33fe417f48c30ac46cccabf5be",  # Comes with Python 3.11.
    "26.3": "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13",
}
RUNS = ("demo", "dev", "bench", "wheel")
"""Targets that run or build turnout, and need nothing to work on it."""
EVERY = (*RUNS, "setup", "test", "check", "format", "soak", "live", "live-local", "lowest")
LISTED = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(tmp_path_factory.mktemp("index"))


def fetched(version: str, folder: Path) -> Path:
    """Where this version of pip can be imported from; fetched once into .venv."""
    kept = Path(sys.prefix) / "pips"
    wheel = kept / f"pip-{version}-py3-none-any.whl"
    if not wheel.exists():
        wanted = folder / "pip.txt"
        wanted.write_text(f"pip=={version} --hash=sha256:{PIPS[version]}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-r", str(wanted)]
        subprocess.run([*command, "--dest", str(kept)], check=True, stdout=subprocess.DEVNULL)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == PIPS[version]
    zipfile.ZipFile(wheel).extractall(folder / "pip")
    return folder / "pip"


def environment(index: Index, pip: Path, home: Path) -> dict[str, str]:
    return plain(home, PIP_INDEX_URL=index.url, PYTHONPATH=str(pip))


def installed(folder: Path, env: dict[str, str]) -> dict[str, str]:
    """What an environment holds beside pip, setuptools and turnout."""
    said = subprocess.run(
        [folder / ".venv" / "bin" / "python", "-I", "-c", LISTED], env=env, check=True, capture_output=True, text=True
    ).stdout
    own = {"pip", "setuptools", "turnout"}
    names = {canonicalize_name(name): version for name, version in json.loads(said).items()}
    assert "turnout" in names
    return {name: version for name, version in names.items() if name not in own}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PIPS)
def test_no_later_release_of_anything_changes_what_is_installed(index: Index, version: str, tmp_path: Path) -> None:
    env = environment(index, fetched(version, tmp_path), tmp_path)
    folder = index.checkout(tmp_path / "checkout")
    for target, locks in ((".venv/.ready", (RUNTIME, BUILD)), ("setup", (RUNTIME, BUILD, DEV))):
        done = make(folder, env, target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert installed(folder, env) == here(*locks)
    told = subprocess.run(
        [folder / ".venv/bin/python", "-m", "pip", "--version"], env=env, check=True, capture_output=True, text=True
    )
    assert told.stdout.startswith(f"pip {version} ")


def test_the_later_releases_break_an_installation_that_resolves(index: Index, tmp_path: Path) -> None:
    """Else the test above could not fail: the oldest pip wants a hash of the later google-auth for google-auth[requests]."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--require-hashes", "-r", DEV]
    done = subprocess.run(
        command,
        cwd=index.checkout(tmp_path / "checkout"),
        env=environment(index, fetched(min(PIPS), tmp_path), tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "must have their versions pinned with ==" in done.stderr


@pytest.mark.parametrize("target", EVERY)
def test_every_installation_takes_a_lock_or_no_index_at_all(target: str) -> None:
    found = [line for line in lines(target) if re.search(r"-m pip .*\b(install|wheel|download)\b", line)]
    assert found
    for line in found:
        words = set(line.split())
        assert "--no-deps" in words, line
        assert words >= {"--require-hashes", "--only-binary"} or words >= {"--no-index", "--no-build-isolation"}, line


@pytest.mark.parametrize("target", RUNS)
def test_running_turnout_installs_no_tool_of_ours(target: str) -> None:
    text = "\n".join(lines(target))
    assert RUNTIME in text
    assert DEV not in text


def test_a_locked_file_names_no_index() -> None:
    for lock in (RUNTIME, BUILD, DEV, LOWEST):
        assert read(lock)
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert "index" not in text


def test_the_locks_agree() -> None:
    runtime, build, dev = ({name: pin.version for name, pin in read(lock).items()} for lock in (RUNTIME, BUILD, DEV))
    assert {**dev, **runtime} == dev
    assert {name: version for name, version in build.items() if dev.get(name, version) != version} == {}


@pytest.mark.parametrize("lock", [RUNTIME, LOWEST])
def test_the_bounds_hold_what_is_locked(lock: str) -> None:
    pins = read(lock)
    for wanted in map(Requirement, project()["project"]["dependencies"]):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)].version), f"{lock}: {wanted}"


def test_every_dependency_has_a_lowest_version_and_it_is_the_one_that_is_tested() -> None:
    lowest = read(LOWEST)
    for wanted in map(Requirement, project()["project"]["dependencies"]):
        bounds = {one.version for one in wanted.specifier if one.operator in {">=", "=="}}
        assert bounds == {lowest[canonicalize_name(wanted.name)].version}, str(wanted)


def test_what_builds_is_locked_as_a_whole() -> None:
    config = project()
    needs = [Requirement(one) for one in config["build-system"]["requires"]]
    assert {str(one) for one in needs} <= {str(Requirement(one)) for one in config["dependency-groups"]["build"]}
    for wanted in map(Requirement, config["dependency-groups"]["build"]):
        assert wanted.specifier.contains(read(BUILD)[canonicalize_name(wanted.name)].version), str(wanted)
