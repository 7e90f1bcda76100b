"""How many tokens there are and may be, as a server says that refuses a request for its length. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

_LEAST: Final = 16
"""Smaller numbers in a sentence are no counts of tokens: `at most 2 images`."""
_NUMBER: Final = r"~?(\d{1,3}(?:[,_]\d{3})+|\d+)"
_ASKED: Final = r"(?:messages?|prompts?|inputs?|conversation|(?:input|prompt)[ _]tokens)"
_SAYS: Final = r"(?:resulted in|contains?|has|have|is|of|tokens|count|length|:|=)"
_MORE: Final = r"(?:exceed|longer|greater|more|larger|>|must be less)"
_SIZE: Final = r"(?:context|prompt|sequence|input)[ _]?(?:length|window|size|limit)"
_LIMIT: Final = r"(?:max_seq_len|max_model_len|n_ctx|token limit|maximum number of tokens allowed|context of)"
_OF_INPUT: Final = (
    rf"{_NUMBER}(?: tokens)? (?:in|from|of) (?:the |your )?{_ASKED}",
    rf"{_ASKED}\b[^.;\d]{{0,40}}?{_SAYS}[^\w.;]*{_NUMBER}(?: tokens)?\b[^.;]{{0,40}}?{_MORE}",
    rf"(?:{_ASKED}|request) (?:resulted in|contains?|has|have) {_NUMBER} (?:input )?tokens",
    rf"(?:{_ASKED}|request)[^.;\d]{{0,20}}\({_NUMBER}(?: tokens)?\)",
    rf"given:? {_NUMBER} `?inputs`? tokens",
    rf"too long: {_NUMBER} tokens",
    rf"less than \d+ tokens\. given: {_NUMBER}",
    rf"(?:n_keep|n_prompt_tokens|prompt_tokens)\W{{1,3}}{_NUMBER}",
    rf"keep the first {_NUMBER} tokens",
)
"""Where the number of the request's own tokens stands."""
_OF_LIMIT: Final = (
    rf"{_SIZE}[^.;\d]{{0,30}}{_NUMBER}",
    rf"{_LIMIT}[^.;\d]{{0,12}}{_NUMBER}",
    rf"> {_NUMBER} maximum",
    rf"(?:<=|must be less than or equal to|at most|should be \[\d+,) `?{_NUMBER}",
    rf"(?:less than|fewer than|limit(?:ed)? (?:of|to|is)) {_NUMBER}(?: tokens)?",
)
"""Where the number stands that it may not exceed."""


class Counts(msgspec.Struct, frozen=True):
    """Tokens that a refusal tells."""

    input_tokens: int | None = None
    """Of the request as the server counts them; None: it does not tell, or not apart from those of the answer."""
    limit_tokens: int | None = None
    """How many it takes, prompt and answer together, or for the prompt alone; None: it does not tell."""

    @staticmethod
    def told(fields: Mapping[str, Any]) -> Counts | None:
        """As llama.cpp tells them, in fields; None: there are none."""
        found = Counts(_count(fields.get("n_prompt_tokens")), _count(fields.get("n_ctx")))
        return None if found == Counts() else found


def counts_in(text: str) -> Counts:
    """As a sentence tells them."""
    lowered = text[:2_000].lower()
    counted = next(_found(_OF_INPUT, lowered), None)
    return Counts(counted, next((limit for limit in _found(_OF_LIMIT, lowered) if limit != counted), None))


def over_the_rate(text: str) -> bool:
    """Whether a request alone needs more tokens than may be sent in a minute: waiting never helps it.

    OpenAI and Groq: `tokens per minute (TPM): Limit 6000, Requested 14368`.
    """
    found = re.search(rf"limit:? {_NUMBER}, (?:used:? \d+, )?requested:? {_NUMBER}", text[:2_000].lower())
    return found is not None and _value(found[2]) > _value(found[1])


def _found(patterns: tuple[str, ...], text: str) -> Iterator[int]:
    for pattern in patterns:
        for found in re.finditer(pattern, text):
            if _value(found[1]) >= _LEAST:
                yield _value(found[1])


def _value(digits: str) -> int:
    return int(re.sub(r"[,_]", "", digits)[:12])


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
