"""What is to be made, how large it is, and what GPU memory that takes. Pure."""

from __future__ import annotations

import math

import msgspec

from actors.analyzer.graph import GraphAsks
from messages import JobSubmit
from messages.policies import Preset
from messages.values import Asset, Media

IMAGE_SIZE = (1024, 1024)
IMAGE_STEPS = 20
VIDEO_SIZE = (832, 480)
VIDEO_FRAMES = 81
"""What a job asks for that says nothing: an SDXL image, five seconds of Wan at its 16 frames per second."""
FRAMES_PER_SECOND = 16.0
SPOKEN_TOKENS_PER_SECOND = 3.25
"""150 words a minute at 1.3 tokens a word: how long a sound is whose text is known, and nothing else."""

BYTES_PER_PIXEL = 1_024
"""Activations and latents of one image; the peak of an untiled decode is two to three times that, but servers tile when short."""
BYTES_PER_FRAME_PIXEL = 128
"""For each further frame: Wan 1.3B with 832 x 480 x 81 takes about 4.5 GB beside its 2.6 GB of weights."""
BYTES_PER_IMAGE_PIXEL = 64
"""For each further image of a batch: they are sampled together and decoded in turn."""
LORA_MB = 128
CONTROLNET_MB = 700
"""The smallest common ones; one for SDXL takes 2,500."""

STATED = ("steps", "width", "height", "frames")
_MADE: tuple[Asset, ...] = ("image", "video", "embedding")
MEDIA: tuple[Asset, ...] = ("image", "video", "audio")


class Asked(msgspec.Struct, frozen=True):
    """What a job asks to be made."""

    asset: Asset
    media: Media
    """What it says, and what bounds its price: the number of images, the seconds of a video or sound."""
    expected: Media
    """The same with what it leaves open filled: from the quality's preset, else by the references above."""
    stated: tuple[str, ...]
    """Parameters it named itself."""
    controlnets: int
    because: str
    """How the asset was found; empty when it was given."""


def asset_of(
    submit: JobSubmit, graph: GraphAsks | None, served: frozenset[str], recipe: frozenset[str] = frozenset()
) -> tuple[Asset, str]:
    """What is made, and what tells so; empty when it was given.

    `served` is what the required model can do, when it is known: a model that makes images makes no text. `recipe` is what
    those can do that know the job's recipe.
    """
    if submit.asset:
        return submit.asset, ""
    if graph:
        return graph.asset, "by the graph's node classes"
    if submit.texts or submit.dimensions is not None:
        return "embedding", f"because {'texts' if submit.texts else 'dimensions'} are given"
    if submit.recipe:
        return _asset_of_recipe(submit.recipe, recipe)
    for name in ("frames", "fps", "seconds"):
        if getattr(submit, name) is not None:
            return "video", f"because {name} is given"
    for name in ("width", "height", "steps", "count"):
        if getattr(submit, name) is not None:
            return "image", f"because {name} is given"
    if submit.loras:
        return "image", "because loras are given"
    for asset in _MADE:
        if asset in submit.capabilities:
            return asset, f"because the capability {asset} is required"
    if served and "text" not in served:
        for asset in (*_MADE, "audio"):
            if asset in served:
                return asset, f"because that is what {submit.model} makes"
    return "text", "as nothing tells otherwise"


_WORDS: tuple[tuple[Asset, tuple[str, ...]], ...] = (
    ("video", ("video", "animate", "t2v", "i2v", "v2v")),
    ("audio", ("audio", "speech", "music", "sound", "voice", "tts")),
)


def _asset_of_recipe(recipe: str, known: frozenset[str]) -> tuple[Asset, str]:
    """By what its backends make when that is one thing, else by its name: what stands behind the last `to` is made."""
    made: list[Asset] = [asset for asset in MEDIA if asset in known]
    if len(made) == 1:
        return made[0], f"because that is what the backends with the recipe {recipe} make"
    end = recipe.lower().replace("_", "-").rpartition("-to-")[2]
    for asset, words in _WORDS:
        if any(word in end for word in words):
            return asset, f"by the name of the recipe {recipe}"
    return "image", f"because the recipe {recipe} is given"


_TEXT = Asked("text", Media(), Media(), (), 0, "as nothing tells otherwise")


def asked_of(
    submit: JobSubmit, graph: GraphAsks | None, preset: Preset, tokens: int, served: frozenset[str] = frozenset(),
    recipe: frozenset[str] = frozenset(),
) -> Asked:  # fmt: skip
    """What a submission asks to be made; its own fields come before the graph's. `tokens` is its text's length."""
    asset, because = asset_of(submit, graph, served, recipe)
    if asset == "text":
        if because:
            return _TEXT
        adapted = Media(loras=tuple(sorted(submit.loras)))
        return Asked("text", adapted, adapted, (), 0, "")
    of = graph.media if graph else Media()
    width, height = submit.width or of.width, submit.height or of.height
    steps, fps = submit.steps or of.steps, submit.fps or of.fps
    frames, seconds = submit.frames or of.frames, submit.seconds or 0.0
    if asset == "video":
        if seconds and not frames and fps:
            frames = math.ceil(seconds * fps)
        if not seconds:
            seconds = (frames or preset.frames or VIDEO_FRAMES) / (fps or FRAMES_PER_SECOND)
    elif asset == "audio":
        seconds = seconds or tokens / SPOKEN_TOKENS_PER_SECOND
    media = msgspec.structs.replace(
        of,
        images=(submit.count or of.images or 1) if asset == "image" else submit.count or 0,
        width=width,
        height=height,
        steps=steps,
        frames=frames,
        fps=fps,
        seconds=round(seconds, 3),
        loras=tuple(sorted({*of.loras, *submit.loras})),
    )
    # Whoever says how many seconds has said how many frames, whatever the rate will be.
    stated = tuple(n for n in STATED if getattr(media, n) or (n == "frames" and asset == "video" and submit.seconds))
    return Asked(asset, media, _expected(asset, media, preset), stated, graph.controlnets if graph else 0, because)


def _expected(asset: Asset, media: Media, preset: Preset) -> Media:
    if asset not in ("image", "video"):
        return media
    width, height = VIDEO_SIZE if asset == "video" else IMAGE_SIZE
    by_time = math.ceil(media.seconds * (media.fps or FRAMES_PER_SECOND))
    return msgspec.structs.replace(
        media,
        width=media.width or preset.width or width,
        height=media.height or preset.height or height,
        steps=media.steps or preset.steps or IMAGE_STEPS,
        frames=(media.frames or by_time) if asset == "video" else 1,
    )


def work_of(asked: Asked) -> float:
    """How much there is to make, against the reference: 1 image of 1024 x 1024 at 20 steps, 81 frames of 832 x 480 at 20 steps,
    1 second of sound; 0 for text and embeddings. In proportion to each of them.
    """
    it = asked.expected
    if asked.asset == "image":
        return max(1, it.images) * it.width * it.height * it.steps / (IMAGE_SIZE[0] * IMAGE_SIZE[1] * IMAGE_STEPS)
    if asked.asset == "video":
        reference = VIDEO_SIZE[0] * VIDEO_SIZE[1] * VIDEO_FRAMES * IMAGE_STEPS
        return max(1, it.images) * it.width * it.height * max(1, it.frames) * it.steps / reference
    return it.seconds if asked.asset == "audio" else 0.0


def vram_mb_of(asked: Asked) -> int:
    """GPU memory beside the model, in MB (10^6 bytes); 0 for what is no image or video.

    Pixels x (1,024 bytes + 128 for each further frame + 64 for each further image), 128 MB for each LoRA, 700 MB for
    each ControlNet. A low estimate on purpose: who is over it can't run the job, and servers tile and offload.
    """
    if asked.asset not in ("image", "video"):
        return 0
    it = asked.expected
    each = (
        BYTES_PER_PIXEL
        + BYTES_PER_FRAME_PIXEL * (max(1, it.frames) - 1)
        + BYTES_PER_IMAGE_PIXEL * (max(1, it.images) - 1)
    )
    return -(-it.width * it.height * each // 1_000_000) + LORA_MB * len(it.loras) + CONTROLNET_MB * asked.controlnets
