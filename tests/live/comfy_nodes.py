"""Nodes for a ComfyUI under test: one that fails, and one that works slowly, step by step and with previews. Read by ComfyUI."""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

import time

import comfy.utils
import torch
from PIL import Image


class TurnoutFails:
    """Raises an exception, as a node does that can't do what it was given."""

    CATEGORY, FUNCTION, RETURN_TYPES = "turnout", "run", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"image": ("IMAGE",), "kind": (["ValueError", "RuntimeError", "memory"],)}}

    def run(self, image: torch.Tensor, kind: str) -> tuple:
        if kind == "memory":
            raise torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")
        raise {"ValueError": ValueError, "RuntimeError": RuntimeError}[kind]("made to fail")


class TurnoutSlow:
    """Takes its time, and can be interrupted."""

    CATEGORY, FUNCTION, RETURN_TYPES = "turnout", "run", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        seconds = ("FLOAT", {"default": 0.1, "min": 0.0, "max": 100.0, "step": 0.01})
        return {"required": {"image": ("IMAGE",), "steps": ("INT", {"default": 5, "max": 10_000}), "seconds": seconds}}

    def run(self, image: torch.Tensor, steps: int, seconds: float) -> tuple:
        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            time.sleep(seconds)
            bar.update_absolute(step + 1, steps, ("JPEG", Image.new("RGB", (32, 32), (step % 256, 0, 0)), 64))
        return (image,)


NODE_CLASS_MAPPINGS = {"TurnoutFails": TurnoutFails, "TurnoutSlow": TurnoutSlow}
