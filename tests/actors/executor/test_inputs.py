"""Files that a job brings along, and whose they are."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.inputs import MOST_BYTES, Unusable, brought
from actors.journal import Journal
from bus.bus import Object
from bus.objects import Damaged
from bus.topology import INPUTS
from messages import Input, JobSubmit, Parameters
from messages.values import Asset
from tests.actors.rig import Rig, play
from tests.messages.samples import slip, work

PNG = b"\x89PNG\r\n\x1a\nrest"
B64 = base64.b64encode(PNG).decode()


def call_of(submit: JobSubmit, asset: Asset, **changes: Any) -> port.Call:
    return calls.call_of(work(slip=slip(needs={"asset": asset}), **changes), submit)


async def get(rig: Rig, submit: JobSubmit, asset: Asset = "image", tenant: str = "acme") -> port.Call:
    return await brought(call_of(submit, asset), submit, Journal(rig.bus), tenant)


def with_image(url: Any) -> JobSubmit:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": url}]
    return JobSubmit(messages=({"role": "system", "content": "hm"}, {"role": "user", "content": parts}))


def test_small_ones_are_decoded_and_large_ones_fetched() -> None:
    given = JobSubmit(
        prompt="x",
        inputs=(
            Input(name="image", media_type="image/png", data=B64),
            Input(name="mask", media_type="image/png", key="acme/up/1", sha256=hashlib.sha256(b"far").hexdigest()),
            Input(name="start", media_type="image/png", key="acme/j-0/1/0"),
        ),
    )

    async def story(rig: Rig) -> None:
        await rig.bus.put_object("acme/up/1", b"far", bucket=INPUTS)
        await rig.bus.put_object("acme/j-0/1/0", b"made before")
        call = await get(rig, given)
        assert call.inputs == (
            port.Input(name="image", media_type="image/png", data=PNG),
            port.Input(name="mask", media_type="image/png", data=b"far"),
            port.Input(name="start", media_type="image/png", data=b"made before"),
        )
        assert call.messages == given.conversation

    play(story)


@pytest.mark.parametrize("url", [{"url": "object:acme/up/1", "detail": "low"}, "object:acme/up/1"])
def test_an_image_in_a_message_is_put_in_its_place(url: Any) -> None:
    async def story(rig: Rig) -> None:
        await rig.bus.put_object("acme/up/1", PNG, bucket=INPUTS)
        call = await get(rig, with_image(url), "text")
        image = call.messages[1]["content"][1]["image_url"]
        assert image["url"] == f"data:image/png;base64,{B64}"
        assert image.get("detail") == (url.get("detail") if isinstance(url, dict) else None)
        assert call.messages[1]["content"][0] == {"type": "text", "text": "what is it?"}

    play(story)


@pytest.mark.parametrize("url", ["https://example.org/object:a.png", f"data:image/png;base64,{B64}"])
def test_other_urls_are_left_alone(url: str) -> None:
    async def story(rig: Rig) -> None:
        submit = with_image({"url": url})
        assert (await get(rig, submit, "text")).messages == submit.messages

    play(story)


def test_of_a_text_job_they_become_parts_of_its_last_message() -> None:
    sound = Input(name="audio", media_type="audio/mpeg", data=base64.b64encode(b"ID3").decode())
    paper = Input(name="a.pdf", media_type="application/pdf", data=base64.b64encode(b"%PDF").decode())
    given = JobSubmit(
        system="s", prompt="look", inputs=(Input(name="image", media_type="image/png", data=B64), sound, paper)
    )

    async def story(rig: Rig) -> None:
        call = await get(rig, given, "text")
        assert call.inputs == ()
        [system, user] = call.messages
        assert system == {"role": "system", "content": "s"}
        assert [part["type"] for part in user["content"]] == ["image_url", "input_audio", "file", "text"]
        assert user["content"][0]["image_url"]["url"] == f"data:image/png;base64,{B64}"
        assert user["content"][1]["input_audio"]["format"] == "mp3"
        assert user["content"][2]["file"]["filename"] == "a.pdf"
        assert user["content"][3] == {"type": "text", "text": "look"}

    play(story)


def test_what_a_backend_can_not_see_is_left_out_and_not_fetched() -> None:
    image = Input(name="image", media_type="image/png", key="acme/nowhere")
    paper = Input(name="a.pdf", media_type="application/pdf", data=base64.b64encode(b"%PDF").decode())
    given = JobSubmit(prompt="look", inputs=(image, paper))

    async def story(rig: Rig) -> None:
        degraded = call_of(given, "text", parameters=Parameters(degrade=("drop_images",)))
        call = await brought(degraded, given, Journal(rig.bus), "acme")
        left, file, text = call.messages[0]["content"]
        assert "left out" in left["text"]
        assert file["file"]["file_data"].startswith("data:application/pdf;base64,")
        assert text == {"type": "text", "text": "look"}
        with pytest.raises(Unusable, match="there is no file"):
            await get(rig, given, "text")

    play(story)


def test_a_mark_of_nothing_is_left_alone() -> None:
    async def story(rig: Rig) -> None:
        submit = with_image({"url": "input:0"})
        assert (await get(rig, submit, "text")).messages == submit.messages

    play(story)


@pytest.mark.parametrize("key", ["other/up/1", "acme", "acmeother/1", "/acme/1", "", "../acme/1"])
@pytest.mark.parametrize("way", ["input", "message"])
def test_no_tenant_reads_anothers_files(key: str, way: str) -> None:
    if way == "input" and not key:
        return  # Then its data counts.

    async def story(rig: Rig) -> None:
        await rig.bus.put_object(key, PNG, bucket=INPUTS)
        await rig.bus.put_object(key, PNG)
        inputs = (Input(name="image", media_type="image/png", key=key),)
        given = JobSubmit(prompt="x", inputs=inputs) if way == "input" else with_image({"url": f"object:{key}"})
        with pytest.raises(Unusable, match="is not one of this tenant: its keys begin with acme/"):
            await get(rig, given, "text")

    play(story)


def test_a_tenants_name_is_encoded_in_its_keys() -> None:
    async def story(rig: Rig) -> None:
        await rig.bus.put_object("a%2Fb/1", b"x", bucket=INPUTS)
        given = JobSubmit(prompt="x", inputs=(Input(name="image", media_type="image/png", key="a%2Fb/1"),))
        assert (await get(rig, given, tenant="a/b")).inputs[0].data == b"x"
        with pytest.raises(Unusable, match="not one of this tenant"):
            await get(rig, given, tenant="a")

    play(story)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Input(name="i", media_type="image/png", key="acme/none"), "there is no file 'acme/none'"),
        (Input(name="i", media_type="image/png", data="%%%"), "its data is no base64"),
        (Input(name="i", media_type="image/png", data=B64, sha256="00"), "its digest is not the one"),
        (Input(name="i", media_type="image/png"), "is empty"),
    ],
)
def test_what_can_not_be_used_names_its_field(given: Input, says: str) -> None:
    async def story(rig: Rig) -> None:
        good = Input(name="g", media_type="image/png", data=B64)
        with pytest.raises(Unusable, match=says) as error:
            await get(rig, JobSubmit(prompt="x", inputs=(good, given)))
        assert error.value.field == "inputs[1]"

    play(story)


def test_a_picture_must_be_one_and_all_files_together_are_bounded() -> None:
    async def story(rig: Rig) -> None:
        await rig.bus.put_object("acme/1", b"<html>", bucket=INPUTS)
        with pytest.raises(Unusable, match="is no PNG, JPEG, WebP or GIF"):
            await get(rig, with_image({"url": "object:acme/1"}), "text")
        await rig.bus.put_object("acme/2", b"x" * (MOST_BYTES // 2 + 1), bucket=INPUTS)
        two = tuple(Input(name=name, media_type="video/mp4", key="acme/2") for name in ("a", "b"))
        with pytest.raises(Unusable, match="more than 268,435,456 bytes together"):
            await get(rig, JobSubmit(prompt="x", inputs=two))

    play(story)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again_and_a_damaged_one_names_its_field() -> None:
    given = JobSubmit(prompt="x", inputs=(Input(name="image", media_type="image/png", key="acme/up/1"),))

    class Replacing(Journal):
        """Somebody uploads the same file again while it is read, so often."""

        times = 1

        async def open(self, key: str) -> Object | None:
            found = await super().open(key)
            self.times -= 1
            if found is None or self.times < 0:
                return found
            return msgspec.structs.replace(found, pieces=cut(found.size_bytes))

    async def cut(size: int) -> AsyncGenerator[bytes]:
        yield b"x" * (size // 2)
        raise Damaged("its chunks don't fit its digest")

    async def story(rig: Rig) -> None:
        await rig.bus.put_object("acme/up/1", PNG, bucket=INPUTS)
        journal = Replacing(rig.bus)
        call = await brought(call_of(given, "image"), given, journal, "acme")
        assert call.inputs[0].data == PNG
        journal.times = 100
        with pytest.raises(Unusable, match="upload it again") as error:
            await brought(call_of(given, "image"), given, journal, "acme")
        assert error.value.field == "inputs[0]"

    play(story)
