from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest
from aiohttp import web

from actors.executor.backends.comfyui_files import Output
from actors.executor.backends.comfyui_transfer import artifact, upload
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import BackendError, Input
from actors.executor.backends.wire import Wire
from tests.fakes.comfyui import MP4, FakeComfyui

FILE = Input(name="image", media_type="image/png", data=b"x")


@contextlib.asynccontextmanager
async def server(fake: FakeComfyui) -> AsyncGenerator[Wire, None]:
    async with fake:
        wire = Wire(Connection(url=fake.url, now=lambda: 0.0))
        try:
            yield wire
        finally:
            await wire.close()


class Renamer(FakeComfyui):
    def __init__(self, body: str) -> None:
        super().__init__()
        self.body = body

    async def _upload(self, request: web.Request) -> web.Response:
        await super()._upload(request)
        return web.Response(text=self.body, content_type="application/json")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"name": "x (1).png", "subfolder": "turnout", "type": "input"}', "turnout/x (1).png"),
        ('{"name": "y.png", "subfolder": ""}', "y.png"),
    ],
)
def test_the_servers_name_for_a_file_counts(run, body: str, name: str) -> None:
    async def main() -> None:
        async with server(Renamer(body)) as wire:
            assert await upload(wire, FILE) == name

    run(main())


@pytest.mark.parametrize("body", ["", "[]", '{"name": 5}'])
def test_an_upload_without_a_name_has_failed(run, body: str) -> None:
    async def main() -> None:
        async with server(Renamer(body)) as wire:
            with pytest.raises(BackendError) as caught:
                await upload(wire, FILE)
            assert caught.value.kind == "invalid_structure"

    run(main())


def test_a_broken_download_is_tried_again(run) -> None:
    fake = FakeComfyui()
    fake.files["output", "", "a.mp4"] = MP4
    fake.fault = "cut"

    async def main() -> None:
        async with server(fake) as wire:
            with pytest.raises(BackendError) as caught:
                await artifact(wire, Output("a.mp4"), {})
            assert caught.value.kind == "cut_stream"
            assert fake.paths.count("GET /view") == 3
            fake.fault = None
            made = await artifact(wire, Output("a.mp4"), {"width": 64, "height": 32, "frames": 10, "fps": 4.0})
            assert (made.width, made.height, made.seconds, made.file.read()) == (64, 32, 2.5, MP4)
            made.file.close()

    run(main())
