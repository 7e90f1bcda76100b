"""The node classes of the fake ComfyUI, in the words of the real one's `/object_info`, and its check of graphs."""

from __future__ import annotations

from typing import Any

ANY_SIZE = {"min": 16, "max": 16384, "step": 8}
SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "uni_pc"]
SCHEDULERS = ["simple", "normal", "karras"]
CHECKPOINTS = ["sd_xl_base_1.0.safetensors", "SD1.5/dreamshaper_8.safetensors", "sd_xl_refiner_1.0.safetensors"]
DIFFUSION_MODELS = ["flux1-dev.safetensors", "wan2.2_ti2v_5B_fp16.safetensors", "wan2.1_t2v_1.3B_fp16.safetensors"]
TEXT_ENCODERS = ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors"]
VAES = ["ae.safetensors", "wan2.2_vae.safetensors", "wan_2.1_vae.safetensors"]
LORAS = ["ink.safetensors", "styles/film.safetensors"]
UPSCALERS = ["RealESRGAN_x2.pth", "4x-UltraSharp.pth"]
CONTROLNETS = ["control_canny_sdxl.safetensors"]

INT, FLOAT, TEXT = "INT", "FLOAT", ["STRING", {"multiline": True, "dynamicPrompts": True}]


def node(
    required: dict[str, Any], output: tuple[str, ...] = (), *, optional: dict[str, Any] | None = None, output_node: bool = False,
) -> dict[str, Any]:  # fmt: skip
    inputs: dict[str, Any] = {"required": required}
    if optional:
        inputs["optional"] = optional
    if output_node:
        inputs["hidden"] = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
    return {
        "input": inputs,
        "input_order": {section: list(names) for section, names in inputs.items()},
        "output": list(output),
        "output_is_list": [False] * len(output),
        "output_name": list(output),
        "output_node": output_node,
    }


def whole(default: int, **limits: int) -> list[Any]:
    return [INT, {"default": default, **limits}]


def number(default: float, **limits: float) -> list[Any]:
    return [FLOAT, {"default": default, **limits}]


def latent_size() -> dict[str, Any]:
    return {
        "width": whole(512, **ANY_SIZE), "height": whole(512, **ANY_SIZE), "batch_size": whole(1, min=1, max=4096),
    }  # fmt: skip


def length(step: int) -> dict[str, Any]:
    size = {"min": step, "max": 16384, "step": step}
    return {
        "width": whole(832, **size), "height": whole(480, **size), "length": whole(49, min=1, max=16384, step=4),
        "batch_size": whole(1, min=1, max=4096),
    }  # fmt: skip


def object_info() -> dict[str, Any]:
    """Older nodes list choices in place of a type, newer ones under `options`: both occur here."""
    strength = {"default": 1.0, "min": -100.0, "max": 100.0}
    return {
        "CheckpointLoaderSimple": node({"ckpt_name": [list(CHECKPOINTS), {"tooltip": "…"}]}, ("MODEL", "CLIP", "VAE")),
        "UNETLoader": node(
            {"unet_name": [list(DIFFUSION_MODELS)], "weight_dtype": [["default", "fp8_e4m3fn"]]}, ("MODEL",)
        ),
        "CLIPLoader": node(
            {"clip_name": [list(TEXT_ENCODERS)], "type": [["stable_diffusion", "wan", "flux2"]]}, ("CLIP",),
            optional={"device": [["default", "cpu"], {"advanced": True}]},
        ),
        "DualCLIPLoader": node(
            {
                "clip_name1": [list(TEXT_ENCODERS)], "clip_name2": [list(TEXT_ENCODERS)],
                "type": [["sdxl", "sd3", "flux"]],
            }, ("CLIP",), optional={"device": [["default", "cpu"]]},
        ),
        "VAELoader": node({"vae_name": [list(VAES)]}, ("VAE",)),
        "LoraLoader": node(
            {
                "model": ["MODEL"], "clip": ["CLIP"], "lora_name": [list(LORAS)],
                "strength_model": ["FLOAT", strength], "strength_clip": ["FLOAT", strength],
            }, ("MODEL", "CLIP"),
        ),
        "LoraLoaderModelOnly": node(
            {"model": ["MODEL"], "lora_name": [list(LORAS)], "strength_model": ["FLOAT", strength]}, ("MODEL",)
        ),
        "UpscaleModelLoader": node({"model_name": ["COMBO", {"options": list(UPSCALERS)}]}, ("UPSCALE_MODEL",)),
        "ControlNetLoader": node({"control_net_name": [list(CONTROLNETS)]}, ("CONTROL_NET",)),
        "CLIPTextEncode": node({"text": TEXT, "clip": ["CLIP"]}, ("CONDITIONING",)),
        "ConditioningZeroOut": node({"conditioning": ["CONDITIONING"]}, ("CONDITIONING",)),
        "FluxGuidance": node(
            {"conditioning": ["CONDITIONING"], "guidance": number(3.5, min=0.0, max=100.0)}, ("CONDITIONING",)
        ),
        "ModelSamplingSD3": node({"model": ["MODEL"], "shift": number(3.0, min=0.0, max=100.0)}, ("MODEL",)),
        "EmptyLatentImage": node(latent_size(), ("LATENT",)),
        "EmptySD3LatentImage": node(latent_size(), ("LATENT",)),
        "EmptyHunyuanLatentVideo": node(length(16), ("LATENT",)),
        "Wan22ImageToVideoLatent": node({"vae": ["VAE"], **length(32)}, ("LATENT",), optional={"start_image": ["IMAGE"]}),
        "KSampler": node(
            {
                "model": ["MODEL"], "seed": whole(0, min=0, max=2**64 - 1), "steps": whole(20, min=1, max=10000),
                "cfg": number(8.0, min=0.0, max=100.0), "sampler_name": [list(SAMPLERS)], "scheduler": [list(SCHEDULERS)],
                "positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "latent_image": ["LATENT"],
                "denoise": number(1.0, min=0.0, max=1.0),
            }, ("LATENT",),
        ),
        "VAEDecode": node({"samples": ["LATENT"], "vae": ["VAE"]}, ("IMAGE",)),
        "VAEEncode": node({"pixels": ["IMAGE"], "vae": ["VAE"]}, ("LATENT",)),
        "RepeatLatentBatch": node({"samples": ["LATENT"], "amount": whole(1, min=1, max=64)}, ("LATENT",)),
        "SetLatentNoiseMask": node({"samples": ["LATENT"], "mask": ["MASK"]}, ("LATENT",)),
        "LoadImage": node({"image": [["example.png"], {"image_upload": True}]}, ("IMAGE", "MASK")),
        "LoadImageMask": node(
            {"image": [["example.png"], {"image_upload": True}], "channel": [["alpha", "red", "green", "blue"]]}, ("MASK",)
        ),
        "GrowMask": node(
            {"mask": ["MASK"], "expand": whole(0, min=-16384, max=16384), "tapered_corners": ["BOOLEAN", {"default": True}]},
            ("MASK",),
        ),
        "ImageScale": node(
            {
                "image": ["IMAGE"], "upscale_method": [["nearest-exact", "bilinear", "lanczos"]],
                "width": whole(512, min=0, max=16384), "height": whole(512, min=0, max=16384),
                "crop": [["disabled", "center"]],
            }, ("IMAGE",),
        ),
        "ImageUpscaleWithModel": node({"upscale_model": ["UPSCALE_MODEL"], "image": ["IMAGE"]}, ("IMAGE",)),
        "ControlNetApplyAdvanced": node(
            {
                "positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "control_net": ["CONTROL_NET"],
                "image": ["IMAGE"], "strength": number(1.0, min=0.0, max=10.0),
                "start_percent": number(0.0, min=0.0, max=1.0), "end_percent": number(1.0, min=0.0, max=1.0),
            }, ("CONDITIONING", "CONDITIONING"), optional={"vae": ["VAE"]},
        ),
        "CreateVideo": node(
            {"images": ["IMAGE"], "fps": number(30.0, min=1.0, max=120.0)}, ("VIDEO",), optional={"audio": ["AUDIO"]}
        ),
        "SaveVideo": node(
            {
                "video": ["VIDEO"], "filename_prefix": ["STRING", {"default": "video/ComfyUI"}],
                "format": ["COMBO", {"options": ["auto", "mp4"]}],
                "codec": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {}}, {"key": "h264", "inputs": {}}]}],
            }, output_node=True,
        ),
        "SaveImage": node({"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}, output_node=True),
        "SaveWEBM": node(
            {
                "images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}], "codec": [["vp9", "av1"]],
                "fps": number(24.0, min=0.01, max=1000.0), "crf": number(32.0, min=0.0, max=63.0),
            }, output_node=True,
        ),
        "SaveAnimatedWEBP": node(
            {
                "images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}],
                "fps": number(6.0, min=0.01, max=1000.0), "lossless": ["BOOLEAN", {"default": True}],
                "quality": whole(80, min=0, max=100), "method": [["default", "fastest", "slowest"]],
            }, output_node=True,
        ),
        "PreviewImage": node({"images": ["IMAGE"]}, output_node=True),
        "SaveImageWebsocket": node({"images": ["IMAGE"]}, output_node=True),
        "PreviewAny": node({"source": ["*"]}, output_node=True),
    }  # fmt: skip


def choices_of(spec: list[Any]) -> list[Any] | None:
    if isinstance(spec[0], list):
        return spec[0]
    options = spec[1].get("options") if len(spec) > 1 else None
    return None if options is None else [option["key"] if isinstance(option, dict) else option for option in options]


def faults_of(
    graph: dict[str, Any], key: str, info: dict[str, Any], files: set[str], visited: dict[str, list[dict[str, Any]]]
) -> bool:
    """Fill `visited` with the faults of a node and of all before it; whether all is well. A link into nothing raises KeyError."""
    if key in visited:
        return not visited[key]
    entry = graph[key]
    errors: list[dict[str, Any]] = []
    visited[key] = errors
    right = True
    sections = info[entry["class_type"]]["input"]
    specs = {**sections["required"], **sections.get("optional", {})}
    for name, spec in specs.items():
        if name not in entry["inputs"]:
            if name in sections["required"]:
                errors.append(fault("required_input_missing", "Required input is missing", name))
            continue
        value = entry["inputs"][name]
        if isinstance(value, list):
            if len(value) != 2:
                errors.append(fault("bad_linked_input", "Bad linked input, must be a length-2 list", name))
                continue
            received = info[graph[value[0]]["class_type"]]["output"][value[1]]
            if received != spec[0] and spec[0] != "*":
                details = f"{name}, received_type({received}) mismatch input_type({spec[0]})"
                errors.append(fault("return_type_mismatch", "Return type mismatch between linked nodes", details))
                continue
            try:
                right = faults_of(graph, value[0], info, files, visited) and right
            except KeyError as error:
                visited[value[0]] = [
                    fault("exception_during_inner_validation", "Exception when validating", str(error))
                ]
                right = False
            continue
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        errors += value_faults(name, spec, value, files)
    return right and not errors


def value_faults(name: str, spec: list[Any], value: Any, files: set[str]) -> list[dict[str, Any]]:
    kind, choices = spec[0], choices_of(spec)
    options = spec[1] if len(spec) > 1 else {}
    if options.get("image_upload"):
        if value in files:
            return []
        return [
            fault(
                "custom_validation_failed", "Custom validation failed for node", f"{name} - Invalid image file: {value}"
            )
        ]
    if choices is not None:
        shown = choices if len(choices) <= 20 else f"(list of length {len(choices)})"
        wrong = value not in choices
        return [fault("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {shown}")] if wrong else []
    if kind in {INT, FLOAT}:
        try:
            given = int(value) if kind == INT else float(value)
        except (TypeError, ValueError) as error:
            said = f"Failed to convert an input value to a {kind} value"
            return [fault("invalid_input_type", said, f"{name}, {value}, {error}")]
        if "min" in options and given < options["min"]:
            return [fault("value_smaller_than_min", f"Value {given} smaller than min of {options['min']}", name)]
        if "max" in options and given > options["max"]:
            return [fault("value_bigger_than_max", f"Value {given} bigger than max of {options['max']}", name)]
    return []


def fault(kind: str, message: str, details: str) -> dict[str, Any]:
    name = details.partition(":")[0].partition(",")[0]
    return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": name}}
