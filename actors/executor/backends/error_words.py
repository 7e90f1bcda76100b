"""What an error means: one table for all protocols, `error_words.toml`. Pure.

What the body says weighs more than the status: gateways and providers put the same trouble under any of a dozen statuses. First
come the codes and types in it, then its sentences, both looked up in `RULES`; then words so general that they say no more than a
status does (`GENERAL`), and last the status itself. `docs/guides/errors.md` shows the table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from actors.executor.backends.complaint import Complaint
from actors.executor.backends.port import ErrorKind
from actors.executor.backends.token_counts import over_the_rate

_TABLE: Final = Path(__file__).with_suffix(".toml")
_HEAD: Final = 1_200
"""Characters of what is said that are looked at: the reason comes first, and what follows may be the request's own text."""
_MODEL: Final = r"(?:models?|deployments?|checkpoints?|adapters?|engines?|模型)"
_NOT: Final = r"(?:\bnot|n't|n’t|\bcannot|\bcan't)"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that mean one kind of failure, in a code or in a sentence."""

    kind: ErrorKind
    words: tuple[str, ...]
    """Regular expressions, any of which will do."""
    examples: tuple[str, ...]
    """Codes and sentences that it knows, of different servers."""
    what: str = ""
    """What happened, for people."""
    unless_it_waits: bool = False
    """A wait that is named makes it `rate_limited`: what comes back by itself is no dead account."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    common: tuple[str, ...]
    rule: tuple[Rule, ...]
    general: tuple[Rule, ...]


def _read() -> _Table:
    return msgspec.toml.decode(_TABLE.read_bytes(), type=_Table)


def _pattern(rule: Rule) -> re.Pattern[str]:
    words = "|".join(f"(?:{one})" for one in rule.words)
    return re.compile(words.replace("{model}", _MODEL).replace("{not}", _NOT))


_READ: Final = _read()
RULES: Final = _READ.rule
"""From the top; the first that knows a code, or else the first that knows what is said, decides."""
GENERAL: Final = _READ.general
"""Codes that are names of a status: they decide where the status tells less, inside a good answer and beside 400 and 5xx."""
_RULES: Final = tuple((rule, _pattern(rule)) for rule in RULES)
_CODED: Final = tuple((rule, words) for rule, words in _RULES if rule.kind != "bad_request")
"""What is wrong with a request is never told by a code alone."""
_GENERAL: Final = tuple((rule, _pattern(rule)) for rule in GENERAL)

STATUSES: Final[dict[int, ErrorKind]] = {
    401: "account",
    402: "account",
    403: "account",
    404: "unknown_model",
    405: "unknown_model",
    408: "timeout",
    409: "server_error",
    410: "unknown_model",
    413: "too_large",
    415: "unknown_model",
    424: "server_error",
    425: "server_error",
    429: "rate_limited",
    451: "unknown_model",
    498: "empty",
    499: "server_error",
    501: "unknown_model",
    503: "overloaded",
    504: "timeout",
    522: "timeout",
    524: "timeout",
    529: "overloaded",
}
"""What a status means that stands alone; others of 5xx are `server_error`, others of 4xx `bad_request`."""
_PAGES: Final[dict[int, ErrorKind]] = {400: "invalid_structure", 403: "empty"}
"""A web page comes from somebody in between, who judges a prompt or an address (a firewall), but not a key."""
_VAGUE: Final = frozenset({400, 500, 502})
"""Statuses that say less than a general word, or than a status in the body."""
_COMMON: Final = frozenset(_READ.common)
"""A code of nothing but these words is a general one."""


def kind_of(status: int, complaint: Complaint) -> ErrorKind:
    """The kind of failure that an answer's status and body mean together.

    A status below 300 says that the error came inside a successful answer.
    """
    if complaint.page and status >= 300:
        return _PAGES.get(status) or _of_status(status)
    codes = sorted(in_words(word) for word in complaint.words)
    said = plainly(complaint.said or complaint.message)
    codes += [in_words(line) for line in (complaint.said or complaint.message).split("\n") if " " not in line]
    kind = _known(codes, said, complaint)
    if kind == "rate_limited" and over_the_rate(said):
        return "too_large"
    if kind is not None:
        return kind
    vague = status < 300 or status in _VAGUE
    told = complaint.status if vague else None
    if told is not None and told not in _VAGUE:
        return _of_status(told)
    for rule, words in _GENERAL:
        if vague and any(map(words.search, codes)):
            return rule.kind
    return _of_status(told or (500 if status < 300 else status))


def _known(codes: list[str], said: str, complaint: Complaint) -> ErrorKind | None:
    waits = complaint.retry_after_seconds is not None or any("resource exhausted" in code for code in codes)
    named = [code for code in codes if not _is_general(code)]
    found = [rule for rule, words in _CODED if any(map(words.search, named))]
    # Anthropic has both a type of a limit and, in it, a code of no money.
    found.sort(key=lambda rule: _meant(rule, waits=waits) != "account")
    return _meant(found[0], waits=waits) if found else _told(said, waits=waits)


def _told(said: str, *, waits: bool) -> ErrorKind | None:
    for rule, words in _RULES:
        if words.search(said):
            return _meant(rule, waits=waits)
    return None


def _meant(rule: Rule, *, waits: bool) -> ErrorKind:
    return "rate_limited" if rule.unless_it_waits and waits else rule.kind


def _is_general(code: str) -> bool:
    """Whether a code says no more than a status: `invalid_request_error` comes with all that a server ever refuses."""
    return _COMMON.issuperset(code.split())


def _of_status(status: int) -> ErrorKind:
    if status < 400:
        return "invalid_structure"  # A redirect: the address is wrong, and a POST must not be moved.
    return STATUSES.get(status) or ("server_error" if status >= 500 else "bad_request")


def in_words(code: str) -> str:
    """A code as lower-case words: `InsufficientBalance`, `insufficient_balance` and `insufficient-balance` are the same."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", code[:200])
    return " ".join(re.split(r"[\W_]+", parted.lower())).strip()


def plainly(text: str) -> str:
    """What is said in lower case, without addresses and without names in quotes, which may be called anything.

    `Need more? Upgrade at https://…/settings/billing` is about no bill, and a model may be called `sensitive-7b`.
    """
    text = re.sub(r"https?://[^\s\"'<>)]+", " ", text[: 4 * _HEAD])
    text = re.sub(r"(`[^`\n]{1,120}`|\"[^\s\"]{1,120}\"|(?<!\w)'[^\s']{1,120}'(?!\w))", _unnamed, text)
    return " ".join(text.lower().split())[:_HEAD]


def _unnamed(found: re.Match[str]) -> str:
    """A name in quotes that is a name of ours, and not a word of the API (`max_tokens`)."""
    name = found[0][1:-1]
    return (
        name
        if name in {"inputs", "max_new_tokens", "max_tokens", "max_completion_tokens", "messages", "prompt"}
        else "x"
    )
