"""What a request needs, by rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from messages import JobSubmit, Needs
from messages.values import Complexity, Quality, Task

CHARACTERS_PER_TOKEN = 4.0
"""English prose in common tokenizers; code and other scripts have fewer. Corrected by measured usage elsewhere."""
IMAGE_TOKENS = 800
"""Flat estimate of one image part."""

_CODE = re.compile(
    r"```|\b(def|class|import|function|const|SELECT|regex|python|javascript|typescript|rust|sql|bug|stack ?trace|"
    r"refactor|unit tests?|code)\b",
    re.IGNORECASE,
)  # fmt: skip
_REASONING = re.compile(r"\b(prove|step by step|derive|puzzle|logic|why does|reason through)\b", re.IGNORECASE)
_ANALYTICAL = re.compile(
    r"\b(analy[sz]e|compare|summari[sz]e|evaluate|pros and cons|trends?|extract|classify)\b", re.IGNORECASE
)
_CREATIVE = re.compile(r"\b(story|poem|haiku|slogan|lyrics|novel|tagline|screenplay|creative)\b", re.IGNORECASE)
_FINAL = re.compile(r"\b(final|production|publish|client-ready|polished)\b", re.IGNORECASE)
_DRAFT = re.compile(r"\b(draft|quick|rough|sketch|brainstorm)\b", re.IGNORECASE)

OUTPUT_CAPS: dict[Quality, int] = {"draft": 512, "standard": 1024, "final": 2048}
"""Output tokens allowed when the job names no cap."""


def _parts(messages: Iterable[dict[str, Any]]) -> tuple[str, int]:
    """All text of a conversation, and how many images it has."""
    texts: list[str] = []
    images = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            for part in content:  # pyright: ignore[reportUnknownVariableType]
                if isinstance(part, dict) and "text" in part:
                    texts.append(str(part["text"]))  # pyright: ignore[reportUnknownArgumentType]
                else:
                    images += 1
    return "\n".join(texts), images


def estimate_tokens(text: str) -> int:
    """Tokens of a text, rounded up: characters / 4, at least one per word's three quarters."""
    by_characters = len(text) / CHARACTERS_PER_TOKEN
    by_words = len(text.split()) * 0.75
    return int(max(by_characters, by_words)) + 1


def _unseen_tokens(submit: JobSubmit) -> int:
    """Tokens of what is no text of the conversation but is read, and paid, all the same: tools, calls, the schema."""
    parts: list[Any] = [*submit.tools, *(m["tool_calls"] for m in submit.messages if m.get("tool_calls"))]
    if submit.response_format:
        parts.append(submit.response_format)
    return estimate_tokens(msgspec.json.encode(parts).decode()) if parts else 0


TELLING_CHARACTERS = 4_000
"""Of a long text its beginning tells what is wanted; the rest is material."""


def task_of(text: str) -> Task:
    """The kind of work, from words that give it away; `chat` when nothing does."""
    text = text[:TELLING_CHARACTERS]
    for task, pattern in (
        ("code", _CODE),
        ("creative", _CREATIVE),
        ("reasoning", _REASONING),
        ("analytical", _ANALYTICAL),
    ):
        if pattern.search(text):
            return task  # pyright: ignore[reportReturnType]
    return "chat"


def quality_of(text: str) -> Quality:
    """The quality level the text asks for; `standard` when it does not say."""
    text = text[:TELLING_CHARACTERS]
    if _FINAL.search(text):
        return "final"
    return "draft" if _DRAFT.search(text) else "standard"


def complexity_of(tokens: int) -> Complexity:
    """The class of requirement A2: simple below 50 tokens, medium from 50 to 100, complex above."""
    if tokens < 50:
        return "simple"
    return "medium" if tokens <= 100 else "complex"


def needs_of(submit: JobSubmit) -> Needs:
    """Everything the router wants to know about a job."""
    text, images = _parts(submit.conversation)
    tokens = estimate_tokens(text) + images * IMAGE_TOKENS + _unseen_tokens(submit)
    task = submit.task or task_of(text)
    quality = submit.quality or quality_of(text)
    json_output = bool(submit.response_format) and submit.response_format.get("type") != "text"
    capabilities = set(submit.capabilities)
    why = [f"about {tokens} input tokens"]
    if images:
        capabilities.add("vision")
        why.append(f"{images} image part(s): needs vision")
    if submit.tools:
        capabilities.add("tools")
        why.append(f"{len(submit.tools)} tool(s) offered: needs tools")
    if json_output:
        capabilities.add("json")
        why.append("response_format asks for JSON")
    why.append(f"task {task} ({'given' if submit.task else 'inferred'}), quality {quality} "
               f"({'given' if submit.quality else 'inferred'})")  # fmt: skip
    complexity = complexity_of(tokens)
    parts = {
        "tokens": min(50.0, tokens / 40.0),
        "capabilities": min(20.0, 10.0 * len(capabilities)),
        "task": {"code": 15.0, "reasoning": 20.0, "analytical": 10.0}.get(task, 5.0),
        "quality": {"draft": 0.0, "standard": 5.0, "final": 10.0}[quality],
    }
    why.append("complexity " + " + ".join(f"{name} {value:.1f}" for name, value in parts.items()))
    return Needs(
        task=task,
        quality=quality,
        complexity=complexity,
        complexity_score=round(sum(parts.values()), 3),
        input_tokens=tokens,
        max_output_tokens=submit.max_output_tokens or OUTPUT_CAPS[quality],
        capabilities=tuple(sorted(capabilities)),
        model=submit.model,
        role=submit.role,
        product=submit.product,
        user=submit.user,
        workflow=submit.workflow,
        step=submit.step,
        batch=submit.batch,
        strategy=submit.strategy,
        preferred_backend=submit.preferred_backend,
        allow_cloud=submit.allow_cloud,
        prioritize_speed=submit.prioritize_speed,
        max_cost_microdollars=submit.max_cost_microdollars,
        json_output=json_output,
        why=tuple(why),
    )


def lenient_id(body: bytes) -> str:
    """The `id` of a body that is no valid submission, if it has one; empty otherwise."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    found = value.get("id") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if isinstance(found, str) else ""
