"""The checkout is whole, and nothing in it names the machine or the network it was made on."""

import importlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("messages", "bus", "actors", "scenarios")
OUTPUTS = {".git", ".hypothesis", ".pytest_cache", ".ruff_cache", ".turnout", ".venv", "__pycache__", "build", "dist"}

# Put together here, so that this file does not hold them.
FORBIDDEN = tuple(
    "".join(parts).encode()
    for parts in (
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("py", "pi.org"),
        ("python", "hosted.org"),
        ("npm", "js.org"),
        ("npm", "js.com"),
        ("crates", ".io"),
        ("proxy.", "golang.org"),
    )
)


def files() -> list[Path]:
    """List what git tracks or would track; without git, everything but the known outputs."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
            check=True,
            capture_output=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        found = [path for path in ROOT.rglob("*") if not OUTPUTS.intersection(path.relative_to(ROOT).parts)]
    else:
        found = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    return [path for path in found if path.is_file() and not path.is_symlink()]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_loads_from_this_checkout(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / package / "__init__.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_no_file_names_a_machine_or_a_registry() -> None:
    listed = files()
    assert ROOT / "pyproject.toml" in listed
    found: list[str] = []
    for path in listed:
        try:
            content = path.read_bytes().lower()
        except FileNotFoundError:  # removed since it was listed
            continue
        found += [f"{path.relative_to(ROOT)}: {name.decode()}" for name in FORBIDDEN if name in content]
    assert found == []
