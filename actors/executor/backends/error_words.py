"""What an error means: one table for all protocols, `error_words.toml`. Pure.

What the body says weighs more than the status: gateways and providers put the same trouble under any of a dozen statuses. First
come the codes and types in it, then its sentences, both looked up in `RULES`; then words so general that they say no more than a
status does (`GENERAL`), and last the status itself. `docs/guides/errors.md` shows the table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

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
    elsewhere: bool = False
    """It is asked for elsewhere first, whatever usually follows from the kind."""
    hint: str = ""
    """What may help, for people."""


class Ruling(NamedTuple):
    """What an error means."""

    kind: ErrorKind
    rule: Rule | None = None
    """By which rule; None: by a general word, or the status."""

    @property
    def elsewhere(self) -> bool:
        """Whether another backend is asked first, though the kind alone would let this one be asked again."""
        return self.rule is not None and self.rule.elsewhere


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    common: tuple[str, ...]
    rule: tuple[Rule, ...]
    general: tuple[Rule, ...]
    job: tuple[Rule, ...]


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
JOB: Final = _READ.job
"""Codes that say what a failed job's own exception means, where no rule knows it."""
_RULES: Final = tuple((rule, _pattern(rule)) for rule in RULES)
_CODED: Final = tuple((rule, words) for rule, words in _RULES if rule.kind != "bad_request")
"""What is wrong with a request is never told by a code alone."""
_GENERAL: Final = tuple((rule, _pattern(rule)) for rule in GENERAL)
_JOB: Final = tuple((rule, _pattern(rule)) for rule in JOB)

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


OF_A_JOB: Final[dict[ErrorKind, ErrorKind]] = {
    "account": "unknown_model",
    "rate_limited": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
}
"""What the words of a job mean that a server took, and that failed there: of an account, a pace or a queue they tell of a service
that the job itself uses (a node that calls a provider), not of the server."""


def kind_of(status: int, complaint: Complaint) -> ErrorKind:
    """The kind of failure that an answer's status and body mean together; see `ruling_of`."""
    return ruling_of(status, complaint).kind


def ruling_of(status: int, complaint: Complaint) -> Ruling:
    """What an answer's status and body mean together.

    A status below 300 says that the error came inside a successful answer.
    """
    if complaint.page and status >= 300:
        return Ruling(_PAGES.get(status) or _of_status(status))
    codes = sorted(in_words(word) for word in complaint.words)
    said = plainly(complaint.said or complaint.message)
    codes += [in_words(line) for line in (complaint.said or complaint.message).split("\n") if " " not in line]
    known = _known(codes, said, complaint)
    if known is not None and known.kind == "rate_limited" and over_the_rate(said):
        return Ruling("too_large")
    if known is not None:
        return known
    vague = status < 300 or status in _VAGUE
    told = complaint.status if vague else None
    if told is not None and told not in _VAGUE:
        return Ruling(_of_status(told))
    for rule, words in _GENERAL:
        if vague and any(map(words.search, codes)):
            return Ruling(rule.kind)
    return Ruling(_of_status(told or (500 if status < 300 else status)))


def of_a_job(complaint: Complaint, *, refused: bool) -> Ruling:
    """What is said of a job means that a server took, and that failed there, or that it refused."""
    ruling = ruling_of(400 if refused else 200, complaint)
    for rule, words in _JOB if ruling.rule is None else ():
        if any(words.search(in_words(word)) for word in complaint.words):
            return Ruling(rule.kind)
    return ruling._replace(kind=OF_A_JOB.get(ruling.kind, ruling.kind))


def _known(codes: list[str], said: str, complaint: Complaint) -> Ruling | None:
    waits = complaint.retry_after_seconds is not None or any("resource exhausted" in code for code in codes)
    named = [code for code in codes if not _is_general(code)]
    found = [rule for rule, words in _CODED if any(map(words.search, named))]
    # Anthropic has both a type of a limit and, in it, a code of no money.
    found.sort(key=lambda rule: _meant(rule, waits=waits).kind != "account")
    return _meant(found[0], waits=waits) if found else _told(said, waits=waits)


def _told(said: str, *, waits: bool) -> Ruling | None:
    for rule, words in _RULES:
        if words.search(said):
            return _meant(rule, waits=waits)
    return None


def _meant(rule: Rule, *, waits: bool) -> Ruling:
    return Ruling("rate_limited") if rule.unless_it_waits and waits else Ruling(rule.kind, rule)


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
