"""A package index of tomorrow: each locked package as it is, and later releases of it that would break everything.

The locked wheels are small stand-ins: they carry the name, version and metadata of the real ones, which is all that an installer
decides by. Only what our own build needs is whole, packed again from what is installed here.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tests.install.locks import BUILD, DEV, LOWEST, ROOT, RUNTIME, Pin, read

_DECIDES = ("Requires-Dist", "Provides-Extra", "Requires-Python")
"""The fields that an installer decides by."""


def _later(version: str) -> tuple[str, str]:
    """A release that every range accepts which is open at its end, and one within the same major version."""
    return f"{version}.1", "9999.0"


def _wheel(name: str, version: str, metadata: str, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in content.items()
    )
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return f"{stem}-py3-none-any.whl", packed.getvalue()


def _metadata(name: str, version: str, fields: Iterable[tuple[str, str]] = ()) -> str:
    return "\n".join([
        "Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"{key}: {value}" for key, value in fields), "",
    ])  # fmt: skip


def _installed(pin: Pin) -> Distribution:
    try:
        found = distribution(pin.name)
    except PackageNotFoundError:
        raise AssertionError(f"{pin.name} is locked and not installed: `make setup`") from None
    assert found.version == pin.version, (
        f"{pin.name} is locked as {pin.version}, {found.version} is installed: `make setup`"
    )
    return found


def _code(found: Distribution) -> dict[str, bytes]:
    """The files of a pure package, without its metadata, scripts and caches."""
    left_out = ("..", "__pycache__", f"{found.name.replace('-', '_')}-{found.version}.dist-info")
    files = [file for file in found.files or () if not any(part in left_out for part in file.parts)]
    return {file.as_posix(): Path(str(file.locate())).read_bytes() for file in files}


class Index:
    """A folder that an installer takes for an index, and a checkout whose locks name its wheels."""

    def __init__(self, folder: Path) -> None:
        """Fill it with what the locks of today name, and with what comes tomorrow."""
        self._folder = folder
        self._hashes: dict[tuple[str, str], str] = {}
        whole = read(BUILD)
        for pin in {pin.name: pin for lock in (RUNTIME, BUILD, DEV) for pin in read(lock).values()}.values():
            if pin.here:
                self._offer(pin, whole=pin.name in whole)

    @property
    def url(self) -> str:
        """Its address."""
        return self._folder.as_uri()

    def _offer(self, pin: Pin, *, whole: bool) -> None:
        found = _installed(pin)
        fields = [(key, value) for key in _DECIDES for value in found.metadata.get_all(key) or ()]
        place = self._folder / pin.name
        place.mkdir(parents=True)
        name, data = _wheel(
            pin.name, pin.version, _metadata(pin.name, pin.version, fields), _code(found) if whole else {}
        )
        (place / name).write_bytes(data)
        self._hashes[pin.name, pin.version] = hashlib.sha256(data).hexdigest()
        for version in _later(pin.version):
            later, data = _wheel(pin.name, version, _metadata(pin.name, version), {})
            (place / later).write_bytes(data)
        links = "".join(f'<a href="{file.name}">{file.name}</a><br>\n' for file in sorted(place.glob("*.whl")))
        (place / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n", encoding="utf-8")

    def checkout(self, folder: Path) -> Path:
        """Everything of ours that an installation reads, with the hashes of this index in the locks."""
        folder.mkdir()
        config = ROOT / "pyproject.toml"
        for file in (config, ROOT / "Makefile", ROOT / "README.md", ROOT / "LICENSE", ROOT / LOWEST):
            shutil.copy(file, folder)
        for package in ("messages", "bus", "actors", "scenarios"):
            (folder / package).mkdir()
            (folder / package / "__init__.py").touch()
        for lock in (RUNTIME, BUILD, DEV):
            pins = [
                Pin(pin.name, pin.version, pin.marker, (self._hashes.get((pin.name, pin.version), "0" * 64),))
                for pin in read(lock).values()
            ]
            (folder / lock).write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
        return folder
