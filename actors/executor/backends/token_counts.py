"""How many tokens there are and may be, as a server says that refuses a request for its length. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

_LEAST: Final = 16
"""Smaller numbers in a sentence are no counts of tokens: `at most 2 images`."""
_NUMBER: Final = r"~?(?<!\d)(\d{1,3}(?:[,_]\d{3}){1,4}|\d{1,12})(?!\d)"
_ASKED: Final = r"(?:messages?|prompts?|inputs?|conversation|(?:input|prompt)[ _]tokens)"
_SAYS: Final = r"(?:resulted in|contains?|has|have|is|of|tokens|count|length|:|=)"
_MORE: Final = r"(?:exceed|longer|greater|more|larger|>|must be less)"
_SIZE: Final = r"(?:context|prompt|sequence|input)[ _]?(?:length|window|size|limit)"
_NO_TOKENS: Final = r"(?! ?(?:\w+ )?(?:images?|files?|pages?|characters|bytes|[mk]b|pixels)\b)"
_LIMIT: Final = (
    r"(?:max_seq_len|max_model_len|max_context|n_ctx|max_(?:model_|input_)?(?:len|length|tokens)|"
    r"token limit|maximum number of tokens allowed|context of|while (?:the )?limit|limit is|(?:can ?not|may not) exceed)"
)
_OF_INPUT: Final = (
    rf"{_NUMBER}(?: tokens)? (?:in|from|of) (?:the |your )?(?:text )?{_ASKED}",
    rf"(?:{_ASKED}|request) (?:resulted in|contains?|has|have) {_NUMBER} (?:input |prompt )?tokens",
    rf"{_NUMBER} \+ \d+ > \d",
    rf"{_ASKED}\b[^.;\d]{{0,40}}?{_SAYS}[^\w.;]*{_NUMBER}(?: tokens)?\b[^.;]{{0,40}}?{_MORE}",
    rf"(?:{_ASKED}|request)[^.;\d]{{0,20}}\({_NUMBER}(?: tokens)?\)",
    rf"given:? {_NUMBER} `?inputs`? tokens",
    rf"too (?:long|large): {_NUMBER} tokens",
    rf"(?:prompt|inputs?|messages?)\b[^.;\d]{{0,12}}too long:? {_NUMBER}\b",
    rf"less than \d+ tokens\. given: {_NUMBER}",
    rf"(?:n_keep|n_prompt_tokens|prompt_tokens)\W{{1,3}}{_NUMBER}",
    rf"keep the first {_NUMBER} tokens",
    rf"(?:exceed|limit)[^.]{{0,60}}\b(?:received|current length is|actual:?) {_NUMBER}",
    rf"current length is {_NUMBER} while",
)
"""Where the number of the request's own tokens stands."""
_BOTH: Final = re.compile(r"output|completion|max_|maximum[^.;]{0,20}$")
"""What stands before a number that counts the answer too, or only that."""
_OF_LIMIT: Final = (
    rf"> {_NUMBER} maximum",
    rf"\d \+ \d+ > {_NUMBER}",
    rf"max_?\w*tokens\W{{1,3}}\d+ > {_NUMBER}",
    rf"{_NUMBER} (?:token )?maximum context",
    rf"(?<!string with )\bmax(?:imum)?\b(?! size)(?! output tokens \()[^.;\d]{{0,36}}?(?<!by ){_NUMBER}{_NO_TOKENS}",
    rf"the {_NUMBER} (?:\w+ )?tokens? (?:maximum|limit)",
    rf"{_SIZE}(?! by)[^.;\d]{{0,30}}{_NUMBER}",
    rf"{_SIZE} (?:of|for) \S{{1,80}} (?:is|was) {_NUMBER}",
    rf"{_LIMIT}(?! by)[^.;\d]{{0,12}}{_NUMBER}",
    rf"(?:<=|must be less than or equal to|at most|(?:should be|range is) \[\d+,) `?{_NUMBER}",
    rf"(?:less than|fewer than|limit(?:ed)? (?:of|to|is)|max(?:imum)? size:?) {_NUMBER}(?: tokens)?",
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


def counts_in(text: str, codes: Collection[int] = ()) -> Counts:
    """As a sentence tells them; `codes` are numbers in it that count nothing: `context window exceeds limit (2013)`."""
    lowered = text[:2_000].lower()
    counted = next((_value(found[1]) for found in _found(_OF_INPUT, lowered) if not _BOTH.search(_before(found))), None)
    limits = (_value(found[1]) for found in _found(_OF_LIMIT, lowered))
    return Counts(counted, next((limit for limit in limits if limit != counted and limit not in codes), None))


def over_the_rate(text: str) -> bool:
    """Whether a request alone needs more tokens than may be sent in a minute: waiting never helps it.

    OpenAI and Groq: `tokens per minute (TPM): Limit 6000, Requested 14368`.
    """
    found = re.search(rf"limit:? {_NUMBER}, (?:used:? \d+, )?requested:? {_NUMBER}", text[:2_000].lower())
    return found is not None and _value(found[2]) > _value(found[1])


def _found(patterns: tuple[str, ...], text: str) -> Iterator[re.Match[str]]:
    for pattern in patterns:
        for found in re.finditer(pattern, text):
            if _value(found[1]) >= _LEAST:
                yield found


def _before(found: re.Match[str]) -> str:
    """What a pattern took before its number."""
    return found[0][: found.start(1) - found.start()]


def _value(digits: str) -> int:
    return int(re.sub(r"[,_]", "", digits)[:12])


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
