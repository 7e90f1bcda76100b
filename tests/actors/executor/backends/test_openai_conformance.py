"""The adapter for OpenAI against the suite: chat, responses, pictures and embeddings."""

from collections.abc import Mapping
from typing import ClassVar

from actors.executor.backends.port import Call, ErrorKind
from tests.actors.executor.backends.conformance import KINDS, Conformance, Fault, Rig
from tests.fakes import openai as fakes
from tests.fakes.openai_chat import TEXT

STREAMED: Mapping[Fault, ErrorKind] = {**KINDS, "error_inside": "server_error"}
ASK = ({"role": "user", "content": "hi"},)


class ChatRig(Rig):
    kind = "openai"
    fake = fakes.FakeOpenAI
    call = Call(model=fakes.CHAT, messages=ASK, max_output_tokens=64)
    text = TEXT
    faults = STREAMED
    options: ClassVar = {"service": "openai"}


class ResponsesRig(ChatRig):
    call = Call(model=fakes.PRO, messages=ASK, max_output_tokens=64)


class PictureRig(ChatRig):
    call = Call(model=fakes.IMAGE, asset="image", messages=ASK, max_output_tokens=1)
    text = ""
    media_type = "image/png"
    streams = False
    options: ClassVar = {"service": "openai", "partial_images": 2}


class EditRig(PictureRig):
    """The same with a picture to begin with, and without previews."""

    options: ClassVar = {"service": "openai"}

    call = Call(
        model=fakes.IMAGE,
        asset="image",
        messages=(
            {"role": "user", "content": [
                {"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ]},
        ),
        max_output_tokens=1,
    )  # fmt: skip


class EmbeddingRig(ChatRig):
    call = Call(
        model=fakes.EMBEDDING, asset="embedding", messages=(), texts=("a", "bc", "def"), max_output_tokens=1
    )  # fmt: skip
    text = ""
    streams = False
    # It does not stream, so no error can follow a beginning; its answer is JSON or not.
    faults: ClassVar = {fault: kind for fault, kind in KINDS.items() if fault != "error_inside"}


class TestChat(Conformance):
    rig = ChatRig


class TestResponses(Conformance):
    rig = ResponsesRig


class TestPictures(Conformance):
    rig = PictureRig


class TestEdits(Conformance):
    rig = EditRig


class TestEmbeddings(Conformance):
    rig = EmbeddingRig
