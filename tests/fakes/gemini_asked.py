"""What may be asked of the fake of Google's API: unknown fields and wrong types are refused."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class _Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Google's JSON has camel case."""


class Blob(_Strict):
    mime_type: str
    data: str


class FileData(_Strict):
    mime_type: str
    file_uri: str


class FunctionCall(_Strict):
    name: str
    args: dict[str, Any]
    id: str | None = None


class FunctionResponse(_Strict):
    name: str
    response: dict[str, Any]
    id: str | None = None


class Part(_Strict):
    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    thought_signature: str | None = None


class Content(_Strict):
    parts: list[Part]
    role: Literal["user", "model"] | None = None


class ImageConfig(_Strict):
    aspect_ratio: str | None = None
    image_size: Literal["512", "1K", "2K", "4K"] | None = None


class Config(_Strict):
    max_output_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    stop_sequences: list[str] | None = None
    response_mime_type: str | None = None
    response_json_schema: dict[str, Any] | None = None
    response_modalities: list[Literal["TEXT", "IMAGE"]] | None = None
    image_config: ImageConfig | None = None


class Declaration(_Strict):
    name: str
    description: str | None = None
    parameters_json_schema: dict[str, Any] | None = None


class Tool(_Strict):
    function_declarations: list[Declaration]


class Generate(_Strict):
    contents: list[Content]
    generation_config: Config | None = None
    system_instruction: Content | None = None
    tools: list[Tool] | None = None


class Counted(Generate, kw_only=True):
    """A request whose tokens are counted names its model."""

    model: str


class Count(_Strict):
    generate_content_request: Counted


class _Snake(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The interactions' JSON has snake case."""


class Media(_Snake):
    type: Literal["image", "video", "audio", "text"]
    text: str | None = None
    data: str | None = None
    uri: str | None = None
    mime_type: str | None = None


class VideoFormat(_Snake):
    type: Literal["video"]
    aspect_ratio: Literal["16:9", "9:16"] | None = None
    resolution: Literal["360p", "720p", "1080p", "4k"] | None = None
    duration: str | None = None
    delivery: Literal["inline", "uri"] = "inline"


class VideoConfig(_Snake):
    task: Literal["text_to_video", "image_to_video", "reference_to_video", "edit", "extend", "upscale"]


class InteractionConfig(_Snake):
    seed: int | None = None
    video_config: VideoConfig | None = None


class Interact(_Snake):
    model: str
    input: str | list[Media]
    response_format: VideoFormat
    background: bool = False
    generation_config: InteractionConfig | None = None
