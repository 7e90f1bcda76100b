"""Every protocol and every kind of call, and what comes of one that nobody disturbs."""

from __future__ import annotations

import base64
import sys
from typing import Any

from messages import Price, Rate, Usage
from tests.e2e.case import Case, EndlessWan2gp, Folder, embedding_model, hang, hold_wan2gp, no_end, slow_sampler
from tests.fakes import (
    anthropic,
    comfyui,
    gemini,
    llama_cpp,
    llama_cpp_python,
    lm_studio,
    openai,
    openai_chat,
    runpod,
    vllm,
)
from tests.fakes.ollama import FakeOllama
from tests.fakes.wan2gp import MP4 as WAN_CLIP

OLLAMA_TEXT = "Hello world, né 🚂"
BATCH_CLIP = b"\0\0\0\x20ftypisom" + bytes(500)
CHAT_USAGE = Usage(input_tokens=12, output_tokens=9, cached_tokens=4, reasoning_tokens=2)
OURS = Usage(input_tokens=5, output_tokens=len(openai_chat.TEXT.encode()) // 4 + 1, estimated=True)
"""Our own counts, of a server that sends none: `hi` and what is around it, and a token for every four bytes."""
IMAGE = {"asset": "image", "width": 1024, "height": 1024}
"""What all of the image servers take."""
RATES = tuple(
    Rate(up_to_pixels=1024 * 1024, quality=word, microdollars=each)
    for word, each in (("low", 6_000), ("medium", 53_000), ("high", 211_000))
)
VIDEO = {"asset": "video"}
BROUGHT = {
    "name": "image", "media_type": "image/png", "data": base64.b64encode(comfyui.picture(16, 16)).decode(),
}  # fmt: skip
OWN = {"service": "openai"}
SOON = {"reconnect_seconds": 0.5}
"""A ComfyUI that is gone is waited for: a part of the configured wait."""
TEXTS = {"asset": "embedding", "prompt": "", "texts": ("a", "bc", "def")}
EMBEDDED = tuple((float(number), 0.5, 0.5, 0.5) for number in (1, 2, 3))


def _chat(kind: str, fake: type[openai_chat.ChatFake], model: str, **more: Any) -> Case:
    """A local server of OpenAI's family."""
    usual: dict[str, Any] = {"text": openai_chat.TEXT, "usage": CHAT_USAGE, "hold": hang, "middle": "chunk"}
    return Case(name=f"{kind}-text", kind=kind, fake=fake, job={"model": model}, **{**usual, **more})


CASES = (
    Case(
        name="ollama-text", kind="ollama", fake=FakeOllama, hold=hang, middle="chunk", job={"model": "llama3.1:8b"},
        text=OLLAMA_TEXT, usage=Usage(input_tokens=7, output_tokens=2),
    ),
    Case(
        name="ollama-embedding", kind="ollama", fake=FakeOllama, prepare=embedding_model, hold=hang, middle="hanging",
        job={"model": "nomic-embed-text", **TEXTS}, usage=Usage(input_tokens=6, output_tokens=0),
        embeddings=((1.0, 0.5, -0.25), (2.0, 0.5, -0.25), (3.0, 0.5, -0.25)),
    ),
    _chat("vllm", vllm.FakeVllm, vllm.MODEL),
    _chat("llama_cpp", llama_cpp.FakeLlamaCpp, llama_cpp.MODEL),
    _chat("llama_cpp_python", llama_cpp_python.FakeLlamaCppPython, llama_cpp_python.MODEL, usage=OURS),
    _chat("lm_studio", lm_studio.FakeLmStudio, lm_studio.MODEL),
    Case(
        name="lm_studio-embedding", kind="lm_studio", fake=lm_studio.FakeLmStudio, hold=hang, middle="hanging",
        job={"model": lm_studio.EMBEDDING, **TEXTS}, embeddings=EMBEDDED, usage=Usage(input_tokens=3, output_tokens=0),
    ),
    Case(
        name="openai-text", kind="openai", fake=openai.FakeOpenAI, hold=hang, middle="chunk", options=OWN,
        job={"model": openai.CHAT}, text=openai_chat.TEXT, usage=CHAT_USAGE,
        price=Price(input_per_mtok=2_000_000, output_per_mtok=8_000_000, cached_input_per_mtok=500_000),
        cost=8 * 2 + 2 + 9 * 8,
    ),
    Case(
        name="openai-responses", kind="openai", fake=openai.FakeOpenAI, hold=hang, middle="chunk", options=OWN,
        job={"model": openai.PRO}, text=openai_chat.TEXT,
        usage=Usage(input_tokens=30, output_tokens=20, cached_tokens=10, cache_write_tokens=5, reasoning_tokens=11),
        price=Price(input_per_mtok=15_000_000, output_per_mtok=120_000_000), cost=30 * 15 + 20 * 120,
    ),
    Case(
        name="openai-image", kind="openai", fake=openai.FakeOpenAI, hold=hang, middle="hanging",
        options={**OWN, "partial_images": 2}, capabilities=("image",), job={"model": openai.IMAGE, **IMAGE},
        made=("image/png", openai.PNG), usage=Usage(input_tokens=15, output_tokens=1056),
        price=Price(input_per_mtok=5_000_000, output_per_mtok=40_000_000), cost=15 * 5 + 1056 * 40,
    ),
    Case(
        name="openai-edit", kind="openai", fake=openai.FakeOpenAI, hold=hang, middle="hanging", options=OWN,
        capabilities=("image",), job={"model": openai.IMAGE, **IMAGE, "inputs": [BROUGHT]},
        made=("image/png", openai.PNG), usage=Usage(input_tokens=15, output_tokens=1056),
        price=Price(input_per_mtok=8_000_000, image_rates=RATES, per_image=401_000),
        cost=15 * 8 + 53_000,  # 120 for the input; quality `standard` is asked for as `medium`.
    ),
    Case(
        name="openai-embedding", kind="openai", fake=openai.FakeOpenAI, hold=hang, middle="hanging", options=OWN,
        capabilities=("embedding",), job={"model": openai.EMBEDDING, **TEXTS}, embeddings=EMBEDDED,
        usage=Usage(input_tokens=3, output_tokens=0), price=Price(input_per_mtok=1_000_000), cost=3,
    ),
    Case(
        name="anthropic-text", kind="anthropic", fake=anthropic.FakeAnthropic, hold=hang, middle="chunk",
        job={"model": "claude-sonnet-5-5"}, text=anthropic.TEXT,
        usage=Usage(
            input_tokens=330, output_tokens=42, cached_tokens=300, cache_write_tokens=20, reasoning_tokens=12
        ),
        price=Price(
            input_per_mtok=3_000_000, output_per_mtok=15_000_000, cached_input_per_mtok=300_000,
            cache_write_per_mtok=3_750_000,
        ),
        cost=10 * 3 + 90 + 75 + 42 * 15,
    ),
    Case(
        name="gemini-text", kind="gemini", fake=gemini.FakeGemini, hold=hang, middle="chunk",
        job={"model": "gemini-3.8-flash"}, text=gemini.TEXT,
        usage=Usage(input_tokens=11, output_tokens=55, cached_tokens=4, reasoning_tokens=33),
        price=Price(input_per_mtok=1_000_000, output_per_mtok=10_000_000, cached_input_per_mtok=250_000),
        cost=7 + 1 + 55 * 10,
    ),
    Case(
        name="gemini-image", kind="gemini", fake=gemini.FakeGemini, hold=hang, middle="hanging", capabilities=("image",),
        job={"model": "gemini-3.1-flash-image", **IMAGE}, made=("image/png", gemini.PNG),
        usage=Usage(input_tokens=11, output_tokens=55, cached_tokens=4, reasoning_tokens=33),
        price=Price(input_per_mtok=1_000_000, output_per_mtok=30_000_000), cost=11 + 55 * 30,
    ),
    Case(
        name="gemini-video", kind="gemini", fake=gemini.FakeGemini, hold=lambda fake: fake.states.pop(), middle="working",
        options={"poll_seconds": 0.05}, capabilities=("video",), job={"model": "gemini-omni-1.1-flash", **VIDEO},
        made=("video/mp4", gemini.MP4),
        usage=Usage(input_tokens=9, output_tokens=58_000, cached_tokens=0, reasoning_tokens=80),
        price=Price(output_per_mtok=17_500_000), cost=1_015_000,
    ),
    Case(
        name="runpod-text", kind="runpod", fake=runpod.FakeRunpod, hold=no_end, middle="chunk",
        options={"worker": "handler", "poll_seconds": 0.05}, job={"model": "abc123"}, text=runpod.TEXT,
        usage=Usage(input_tokens=5, output_tokens=len(runpod.TEXT.encode()) // 4 + 1, estimated=True, gpu_seconds=2.5),
        price=Price(per_gpu_second=190), cost=475,
    ),
    Case(
        name="runpod-vllm", kind="runpod", fake=runpod.FakeRunpod, hold=hang, middle="chunk",
        options={"worker": "vllm"}, job={"model": "qwen"}, text="Hi", price=Price(output_per_mtok=1_000_000),
        usage=Usage(input_tokens=5, output_tokens=1, estimated=True), cost=1,
    ),
    Case(
        name="runpod-image", kind="runpod", fake=runpod.FakeRunpodImages, hold=no_end, middle="working",
        options={"worker": "comfyui", "poll_seconds": 0.05}, capabilities=("image",), job={"model": "abc123", **IMAGE},
        made=("image/png", runpod.PNG), usage=Usage(gpu_seconds=2.5), price=Price(per_gpu_second=190), cost=475,
    ),
    Case(
        name="comfyui-image", kind="comfyui", fake=comfyui.FakeComfyui, hold=slow_sampler, middle="working", doing="KSampler",
        options=SOON, usage=Usage(gpu_seconds=3.0), made=("image/png", comfyui.picture(64, 72)),
        job={"model": "sd_xl_base_1.0.safetensors", "asset": "image", "width": 64, "height": 72, "steps": 4},
    ),
    Case(
        name="comfyui-video", kind="comfyui", fake=comfyui.FakeComfyui, hold=slow_sampler, middle="working", doing="KSampler",
        options=SOON, usage=Usage(gpu_seconds=3.0), made=("video/mp4", comfyui.MP4),
        job={"model": "wan2.2_ti2v_5B_fp16.safetensors", "asset": "video", "width": 832, "height": 480, "frames": 49},
    ),
    Case(
        name="wan2gp-video", kind="wan2gp", fake=EndlessWan2gp, hold=hold_wan2gp, middle="working",
        options={"poll_seconds": 0.05}, made=("video/mp4", WAN_CLIP),
        job={"model": "t2v_1.3B", "asset": "video", "width": 832, "height": 480, "frames": 81},
    ),
    Case(
        name="wan2gp-image-to-video", kind="wan2gp", fake=EndlessWan2gp, hold=hold_wan2gp, middle="working",
        options={"poll_seconds": 0.05}, made=("video/mp4", WAN_CLIP),
        job={"model": "i2v_2_2", "asset": "video", "width": 832, "height": 480, "frames": 81, "inputs": [BROUGHT]},
    ),
    Case(
        name="comfyui-image-to-image", kind="comfyui", fake=comfyui.FakeComfyui, hold=slow_sampler,
        middle="working", doing="KSampler",
        options=SOON, usage=Usage(gpu_seconds=3.0), made=("image/png", comfyui.picture(1024, 1024)),
        job={"model": "sd_xl_base_1.0.safetensors", "recipe": "image-to-image", "inputs": [BROUGHT]},
    ),
    Case(
        name="wan2gp_batch-video", kind="wan2gp_batch", fake=Folder, hold=Folder.hold, middle="working",
        options={"python": sys.executable, "models": ("t2v_1.3B",)}, made=("video/mp4", BATCH_CLIP),
        job={"model": "t2v_1.3B", "asset": "video", "width": 832, "height": 480, "frames": 81},
    ),
)  # fmt: skip
