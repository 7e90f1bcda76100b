"""Imports point one way: messages <- bus <- actors <- scenarios."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "messages": {"messages"},
    "bus": {"messages", "bus"},
    "actors": {"messages", "bus", "actors"},
    "scenarios": {"messages", "bus", "actors", "scenarios"},
}
OURS = {*MAY_IMPORT, "tests"}


def imported(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything that a module imports, wherever in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=source, names=names, level=level):
                base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                prefix = ".".join([*base, *([source] if source else [])])
                for alias in names:
                    yield node.lineno, prefix if alias.name == "*" else f"{prefix}.{alias.name}"
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case _:
                pass


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def rooms_of(root: Path) -> set[str]:
    return {
        folder.name
        for folder in (root / "actors").glob("*/")
        if folder.is_dir() and folder.name not in {"console", "simbackend"} and any(folder.rglob("*.py"))
    }


def faults_of(module: str, name: str, rooms: set[str]) -> Iterator[str]:
    """Yield what is wrong with `module` importing `name`."""
    layer, top = module.partition(".")[0], name.partition(".")[0]
    if top in OURS and top not in MAY_IMPORT[layer]:
        yield f"{layer} may not import {top}"
    if layer == "messages" and top not in {"messages", "msgspec", *sys.stdlib_module_names}:
        yield "messages imports only msgspec and the standard library"
    if top == "nats" and layer != "bus" and not within(module, "scenarios.bench"):
        yield "only bus imports nats"
    if layer == "actors":
        for room in rooms:
            own = within(module, f"actors.{room}", "actors.node")
            if within(name, f"actors.{room}") and not own:
                yield "only actors.node imports a room"
        if within(name, "actors.node") and not within(module, "actors.node", "actors.console", "actors.wiring"):
            yield "only the console and the scenarios import actors.node"
        if within(name, "actors.console") and not within(module, "actors.console"):
            yield "the console is on top: no other actor imports it"
    elif layer != "scenarios" and within(name, "actors.node"):
        yield "only the console and the scenarios import actors.node"


def faults(root: Path) -> list[str]:
    rooms = rooms_of(root)
    found: list[str] = []
    for layer in MAY_IMPORT:
        for path in sorted((root / layer).rglob("*.py")):
            relative = path.relative_to(root)
            parts = relative.with_suffix("").parts
            module = ".".join(parts[:-1] if path.name == "__init__.py" else parts)
            for line, name in imported(path, module):
                found += [f"{relative.as_posix()}:{line}: {name}: {why}" for why in faults_of(module, name, rooms)]
    return found


def test_imports_point_one_way() -> None:
    assert faults(ROOT) == []


ALLOWED = {
    "messages/job.py": "import msgspec\nfrom messages import ids\nfrom . import ids\nimport enum",
    "messages/__init__.py": "from .job import Job",
    "bus/link.py": "import nats\nfrom nats.js import api\nfrom messages.job import Job",
    "actors/kit.py": "from bus import link\nfrom . import clock",
    "actors/intake/room.py": "from actors import kit\nfrom ..kit import x\nfrom .rules import y",
    "actors/intake/rules.py": "from actors.intake import z",
    "actors/yard/room.py": "from actors.kit import x",
    "actors/node.py": "from actors.intake import room\nfrom .yard.room import serve",
    "actors/console/app.py": "from actors.node import main\nfrom . import screen",
    "scenarios/play.py": "from actors import node\nfrom actors.yard import room\nfrom actors.console import app",
    "scenarios/bench/raw.py": "import nats",
}


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_allowed_imports_pass(tmp_path: Path) -> None:
    plant(tmp_path, ALLOWED)
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("messages/a.py", "import bus"),
        ("messages/a.py", "import httpx"),
        ("messages/a.py", "def f():\n    from actors import kit"),
        ("bus/a.py", "from actors.kit import x"),
        ("bus/a.py", "import importlib\nimportlib.import_module('scenarios.play')"),
        ("bus/a.py", "from tests import helpers"),
        ("actors/a.py", "import scenarios.play"),
        ("actors/a.py", "from actors import intake"),
        ("actors/a.py", "from . import node"),
        ("actors/a.py", "from nats.js import api"),
        ("actors/__init__.py", "from .yard import room"),
        ("actors/intake/a.py", "from actors.yard import room"),
        ("actors/intake/a.py", "from ..yard.room import serve"),
        ("actors/intake/__init__.py", "from .. import yard"),
        ("actors/intake/a.py", "if TYPE_CHECKING:\n    import actors.yard.room"),
        ("actors/intake/a.py", "from actors import node"),
        ("actors/intake/a.py", "import actors.console.app"),
        ("actors/console/a.py", "from actors.yard import room"),
        ("actors/console/a.py", "import nats"),
        ("scenarios/a.py", "import nats.aio.client"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, path: str, text: str) -> None:
    plant(tmp_path, {**ALLOWED, path: text})
    found = faults(tmp_path)
    assert found
    assert all(fault.startswith(f"{path}:") for fault in found)
