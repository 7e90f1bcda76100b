"""`turnout submit`: jobs from flags, from the standard input or from a JSON Lines file, followed to their ends."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from actors.console.app import play
from actors.console.files import Upload, input_of
from actors.console.intake import graph_of, job_of, jobs_of_lines, microdollars, span, texts_of
from actors.console.output import TEXT, Output
from actors.console.reach import HERE, Where
from actors.console.screen import STDIN, Wrong
from actors.console.send import Options, fresh_id, send
from messages import Input, JobSubmit
from messages.values import Asset, Quality, Task


@Parameter(name="*", group="The job")
@dataclass(frozen=True, kw_only=True)
class Job:
    """What is wanted; with --file these fill what a line leaves open."""

    prompt: Annotated[str, Parameter(help="The text, if it is not given as arguments.")] = ""
    system: Annotated[str, Parameter(help="Text put before it with the role `system`.")] = ""
    model: Annotated[str, Parameter(help="Model that must be used. [any that fits]")] = ""
    task: Annotated[Task | None, Parameter(help="Kind of work. [inferred]")] = None
    quality: Annotated[Quality | None, Parameter(help="How good it must be. [inferred]")] = None
    preferred_model: Annotated[str, Parameter(help="Model to use unless it can't be.")] = ""
    capability: Annotated[tuple[str, ...], Parameter(help="Capability a backend must have; may be repeated.")] = ()
    prefer: Annotated[tuple[str, ...], Parameter(help="Capability it should have; may be repeated.")] = ()
    max_tokens: Annotated[int | None, Parameter(help="Cap on generated tokens.")] = None
    temperature: Annotated[float | None, Parameter(help="0 to 2.")] = None
    seed: Annotated[int | None, Parameter(help="For repeatable answers, where the backend heeds it.")] = None
    response_format: Annotated[Literal["text", "json"], Parameter(help="Form that the answer must have.")] = "text"
    deadline: Annotated[str | None, Parameter(help="It must have ended by then: 90, 90s, 2m, 1h.")] = None
    max_cost: Annotated[str | None, Parameter(help="Limit in dollars over all attempts, such as 0.05.")] = None
    value_per_hour: Annotated[str | None, Parameter(help="What an hour of waiting costs you, in dollars.")] = None
    preferred_backend: Annotated[
        str, Parameter(help="A backend, local, cloud or a provider, unless it can't; auto: none.")
    ] = ""
    local_only: Annotated[
        bool | None, Parameter(help="Keep it off the cloud, or (--cloud) not. [as preferred]", negative="--cloud")
    ] = None
    fast: Annotated[bool | None, Parameter(help="Speed counts more than cost. [as preferred]")] = None
    strategy: Annotated[str, Parameter(help="How to rank the backends, by name. [the policy's]")] = ""
    role: Annotated[str, Parameter(help="Role in a larger work: classifier, writer, …")] = ""
    mode: Annotated[str, Parameter(help="Mode of the role: full_mimic for style_refiner.")] = ""
    style: Annotated[str, Parameter(help="The wanted style in words.")] = ""
    product: Annotated[str, Parameter(help="Kind of product it is for: landing, card, …")] = ""
    workflow: Annotated[str, Parameter(help="Name of the workflow it belongs to.")] = ""
    step: Annotated[str, Parameter(help="The workflow's step.")] = ""
    batch: Annotated[str, Parameter(help="Label for jobs that belong together.")] = ""
    user: Annotated[str, Parameter(help="On whose behalf.")] = ""
    tenant: Annotated[str, Parameter(help="Whose job it is.")] = "default"
    id: Annotated[str, Parameter(help="Your own id; the same id again joins the job. [made up]")] = ""


@Parameter(name="*", group="Images, video, sound")
@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is wanted beside text."""

    asset: Annotated[Asset | None, Parameter(help="What is made. [inferred]")] = None
    width: Annotated[int | None, Parameter(help="Pixels.")] = None
    height: Annotated[int | None, Parameter(help="Pixels.")] = None
    steps: Annotated[int | None, Parameter(help="Sampling steps.")] = None
    frames: Annotated[int | None, Parameter(help="Frames of a video.")] = None
    fps: Annotated[float | None, Parameter(help="Frames per second.")] = None
    seconds: Annotated[float | None, Parameter(help="Length of a video or sound.")] = None
    count: Annotated[int | None, Parameter(help="How many images.")] = None
    lora: Annotated[tuple[str, ...], Parameter(help="LoRA by name; may be repeated.")] = ()
    graph: Annotated[str, Parameter(help="File with a ComfyUI graph in API form.")] = ""
    recipe: Annotated[str, Parameter(help="Workflow to run, by name: text-to-image, upscale, … [the usual one]")] = ""
    negative: Annotated[str, Parameter(help="What must not be in the picture.")] = ""
    input: Annotated[
        tuple[str, ...], Parameter(help="name=FILE: a file to start from (image, mask, audio, …); may be repeated.")
    ] = ()
    texts: Annotated[str, Parameter(help="File with texts to embed: one a line, or a JSON list.")] = ""
    dimensions: Annotated[int | None, Parameter(help="Length of the embeddings. [the model's own]")] = None


def fields_of(job: Job, picture: Picture | None = None) -> dict[str, Any]:
    """The fields of a submission that the flags give. Raises Wrong."""
    look = picture or Picture()
    given: dict[str, Any] = {
        "prompt": job.prompt, "system": job.system, "model": job.model, "task": job.task, "quality": job.quality,
        "capabilities": list(job.capability), "max_output_tokens": job.max_tokens, "temperature": job.temperature,
        "seed": job.seed, "response_format": {"type": "json_object"} if job.response_format == "json" else None,
        "deadline_seconds": span(job.deadline) if job.deadline is not None else None,
        "max_cost_microdollars": microdollars(job.max_cost) if job.max_cost is not None else None,
        "value_per_hour_microdollars": (
            microdollars(job.value_per_hour, "--value-per-hour") if job.value_per_hour is not None else None
        ),
        "preferred_model": job.preferred_model, "preferred_capabilities": list(job.prefer),
        "preferred_backend": job.preferred_backend, "strategy": job.strategy, "role": job.role, "mode": job.mode,
        "style": job.style, "product": job.product, "workflow": job.workflow, "step": job.step, "batch": job.batch,
        "user": job.user, "tenant": job.tenant or "default", "id": job.id, "asset": look.asset, "width": look.width,
        "height": look.height, "steps": look.steps, "frames": look.frames, "fps": look.fps, "seconds": look.seconds,
        "count": look.count, "loras": list(look.lora), "graph": graph_of(look.graph) if look.graph else None,
        "recipe": look.recipe, "negative_prompt": look.negative, "texts": texts_of(look.texts) if look.texts else [],
        "dimensions": look.dimensions,
    }  # fmt: skip
    found = {name: value for name, value in given.items() if value not in (None, "", [])}
    if job.local_only is not None:
        found["allow_cloud"] = not job.local_only
    if job.fast is not None:
        found["prioritize_speed"] = job.fast
    return found


def submit(
    *prompt: Annotated[str, Parameter(help="The text; `-`, or none in a pipe, reads it from the standard input.")],
    file: Annotated[str | None, Parameter(name=["--file", "-f"], help="Many jobs: a JSON Lines file, or `-`.")] = None,
    wait: Annotated[
        bool,
        Parameter(name=["--wait", "--follow"], help="Wait for the end (as it does by itself), or just print the ids."),
    ] = True,
    answers: Annotated[bool, Parameter(help="Print all answers, even of many jobs.", negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Only answers and errors.", negative="")] = False,
    job: Job | None = None,
    picture: Picture | None = None,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Send one job or many, show how they go, and end with their answers.

    A line of the file is a job such as {"prompt": "hello", "deadline_seconds": 60}; its fields are those of
    `turnout schema`. Exit codes: 0 all succeeded, 1 some did not, 2 wrong usage, 3 no bus.
    """
    wish = job or Job()
    brought = [input_of(given, wish.tenant or "default") for given in (picture.input if picture else ())]
    uploads = tuple(one for _, one in brought if one)
    words = prompt[0] if len(prompt) == 1 else " ".join("-" if word == STDIN else word for word in prompt)
    if words and wish.prompt:
        raise Wrong("the text is given twice, as arguments and with --prompt", "leave one of them out")
    if file is not None:
        if words or wish.prompt or wish.id:
            raise Wrong("--file brings its own texts and ids", "leave out the text, --prompt and --id")
        jobs = _from_file(file, fields_of(wish, picture) | _inputs(brought))
    else:
        fields = fields_of(wish, picture) | _inputs(brought)
        jobs = [_from_words(words or wish.prompt or ("" if _speaks(fields) else _piped()), fields)]
    own_ids = any(job.id for job in jobs)
    jobs = [job if job.id else msgspec.structs.replace(job, id=fresh_id()) for job in jobs]
    show = Options(
        quiet=quiet,
        output=output,
        many=file is not None,
        wait=wait,
        show_answers=answers,
        own_ids=own_ids,
        uploads=uploads,
    )
    return play(send(jobs, show, where))


def _inputs(brought: Sequence[tuple[Input, Upload | None]]) -> dict[str, Any]:
    return {"inputs": [msgspec.to_builtins(given) for given, _ in brought]} if brought else {}


def _speaks(fields: Mapping[str, Any]) -> bool:
    """Whether it says what is wanted without a prompt."""
    return "graph" in fields or "texts" in fields or ("recipe" in fields and "inputs" in fields)


def _piped() -> str:
    """`STDIN` when something other than a keyboard is there to be read."""
    return STDIN if sys.stdin is not None and not sys.stdin.isatty() else ""  # pyright: ignore[reportUnnecessaryComparison]


def _from_words(words: str, fields: dict[str, Any]) -> JobSubmit:
    text = _read_stdin() if words == STDIN else words
    if not text.strip() and not _speaks(fields):
        raise Wrong("there is no prompt", "turnout submit 'write a haiku about trains'")
    try:
        return job_of({**fields, "prompt": text})
    except ValueError as error:
        raise Wrong(str(error)) from None


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except OSError:  # Closed, or not to be read: the same as nothing.
        return ""
    except UnicodeDecodeError as error:
        raise Wrong(f"standard input: it is not UTF-8 text: {error}") from None


def _from_file(name: str, fields: dict[str, Any]) -> list[JobSubmit]:
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise Wrong(f"{name}: {error.strerror or error}", "--file FILE names a JSON Lines file") from None
    except UnicodeDecodeError as error:
        raise Wrong(f"{name}: it is not UTF-8 text: {error}") from None
    if not fields.get("batch"):
        # From the content: the same file again joins its jobs, if they have ids.
        stem = "stdin" if name == STDIN else Path(name).stem
        fields = {**fields, "batch": f"{stem[:100]}-{hashlib.blake2b(raw, digest_size=3).hexdigest()}"}
    return jobs_of_lines(text.splitlines(), fields, "standard input" if name == STDIN else name)
