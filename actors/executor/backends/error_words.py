"""What an error means: one table for all protocols, `error_words.toml`. Pure.

What the body says weighs more than the status: gateways and providers put the same trouble under any of a dozen statuses. First
come the codes and types in it, then its sentences, both looked up in the rules; then what a sentence is about, where its words
are new; then codes so general that they say no more than a status, and last the status itself. `docs/guides/errors.md` shows it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, NamedTuple, get_args

from actors.executor.backends.complaint import Complaint
from actors.executor.backends.error_rules import ABOUT, CODED, COMMON, OF_EXCEPTIONS, TOLD, VAGUELY, WINDOW, Rule
from actors.executor.backends.port import ErrorKind
from actors.executor.backends.token_counts import over_the_rate

KINDS: Final[frozenset[str]] = frozenset(get_args(ErrorKind))
_HEAD: Final = 1_200
"""Characters of what is said that are looked at: the reason comes first, and what follows may be the request's own text."""


class Ruling(NamedTuple):
    """What an error means."""

    kind: ErrorKind
    rule: Rule | None = None
    """By which rule; None: by what it is about, a general word, or the status."""

    @property
    def elsewhere(self) -> bool:
        """Whether another backend is asked first, though the kind alone would let this one be asked again."""
        return self.rule is not None and self.rule.elsewhere


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
_SURE: Final = frozenset({401, 402, 403, 407, 408, 429, 503, 504, 529})
"""Statuses that say themselves what kind of trouble it is: a sentence about a field of the request does not change that."""
_PHRASES: Final = {"".join(re.findall("[a-z]", status.phrase.lower())): status.value for status in HTTPStatus}
_PHRASES["ratelimiterror"] = 429
"""Codes that are a status written out: `TooManyRequests`; OpenAI's clients and LiteLLM call every 429 a `RateLimitError`."""
_CLASS: Final = re.compile(r"\b[A-Z][A-Za-z]{2,60}(?:Error|Exception)\b:?")
"""Exceptions' names in a sentence are codes, not words of it."""
_SURE_OF: Final[dict[int, frozenset[str]]] = dict.fromkeys(_SURE, frozenset[str]()) | {
    403: frozenset({"account", "empty", "unknown_model", "too_large"}),
    404: frozenset({"unknown_model", "empty"}),
    429: frozenset({"account"}),
}
"""What a subject alone may still mean beside a status that says itself what kind of trouble it is."""
_NEVER: Final[dict[int, frozenset[str]]] = dict.fromkeys(
    (401, 402), frozenset({"empty", "too_large", "overloaded", "timeout"})
)
"""What these statuses do not mean, whatever the words: they are about a key and about money."""
_OF_CALLER: Final = frozenset({"account", "unknown_model"})
"""A server that broke speaks of its own keys and models, not of ours."""
_QUOTES: Final = r"(?:\"[^\"\n]*\"|“[^”\n]*”|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w))"
_QUOTED: Final = re.compile(_QUOTES)
_ECHO: Final = re.compile(
    rf"(?i)\b(received|got|given|found|value|input|content|prompt|text|near|parse|decode|unexpected)\W{{0,3}}{_QUOTES}"
)
"""What was sent, told back in quotes."""
_FIELDS: Final = re.compile(
    r"\b(?:tools?|functions?|schemas?|fields?|param\w*|propert\w+|messages?|arguments?|roles?|json|arrays?|strings?|objects?)\b"
)
"""Words for parts of a request: beside them, money and keys may be its own."""
_OPEN: Final = frozenset({200, 400, 403, 422})
"""Statuses beside which a wait that is named tells more."""
_SOON_SECONDS: Final = 86_400.0
"""A quota that comes back within a day is a limit of the rate; who has to wait longer has a closed account."""
_LIMITS_PAGE: Final = re.compile(r"https?://\S*?(?:rate|token|request)-?limits?\b")
"""An address for people that is about a rate: some say in no other way that a quota is one of these."""


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


def ruling_of(status: int, complaint: Complaint, *, wait: float | None = None) -> Ruling:
    """What an answer's status and body mean together.

    A status below 300 says that the error came inside a successful answer. `wait` is what the server asks for in all, in seconds;
    None: what the complaint says.
    """
    if complaint.page and status >= 300:
        return Ruling(_PAGES.get(status) or _of_status(status))
    codes = sorted(in_words(word) for word in complaint.words)
    text = complaint.said or complaint.message
    said = plainly(_CLASS.sub(" ", text))
    codes += [in_words(name) for name in dict.fromkeys(_CLASS.findall(text[: 4 * _HEAD]))]
    codes += [in_words(line) for line in text.split("\n") if " " not in line and line.isascii()]
    wait = complaint.retry_after_seconds if wait is None else wait
    returns = _returns(text, said, codes, wait)
    known = _known([code for code in codes if _status_of(code) is None], said, status, returns=returns)
    if known is not None and known.kind == "rate_limited" and over_the_rate(said):
        return Ruling("too_large")
    if known is not None:
        return known
    vague = status < 300 or status in _VAGUE
    told = complaint.status if vague else None
    if told is not None and told not in _VAGUE:
        return Ruling(_of_status(told))
    about = _about(said, status)
    if about is not None:
        return Ruling(about)
    if wait is not None and status in _OPEN:
        return Ruling("rate_limited")  # Who says when to come back does not say that the request is wrong.
    if vague:
        for rule, words in VAGUELY:
            if any(map(words.search, codes)):
                return Ruling(rule.kind)
        told = next((named for code in codes if (named := _status_of(code)) not in {None, 200, *_VAGUE}), told)
    return Ruling(_of_status(told or (500 if status < 300 else status)))


def of_a_job(complaint: Complaint, *, refused: bool) -> Ruling:
    """What is said of a job means that a server took, and that failed there, or that it refused."""
    ruling = ruling_of(400 if refused else 200, complaint)
    for rule, words in OF_EXCEPTIONS if ruling.rule is None else ():
        if any(words.search(in_words(word)) for word in complaint.words):
            return Ruling(rule.kind)
    return ruling._replace(kind=OF_A_JOB.get(ruling.kind, ruling.kind))


def _returns(text: str, said: str, codes: list[str], wait: float | None) -> bool:
    """Whether what is used up comes back by itself within a day."""
    if wait is not None:
        return wait <= _SOON_SECONDS
    if any("resource exhausted" in code for code in codes):
        return True
    return WINDOW.search(said) is not None or _LIMITS_PAGE.search(text) is not None


def _known(codes: list[str], said: str, status: int, *, returns: bool) -> Ruling | None:
    named = [code for code in codes if not _is_general(code)]
    found = [rule for rule, words in CODED if any(map(words.search, named))]
    # Anthropic has both a type of a limit and, in it, a code of no money.
    found.sort(key=lambda rule: _meant(rule, returns=returns).kind != "account")
    if not found:
        return _told(said, status, returns=returns)
    meant = _meant(found[0], returns=returns)
    per_minute = meant.kind == "too_large" and WINDOW.search(said)  # Too many tokens per minute.
    return Ruling("rate_limited") if per_minute else meant


def _told(said: str, status: int, *, returns: bool) -> Ruling | None:
    for rule, words in TOLD:
        barred = (rule.only_where_open and status in _SURE) or rule.kind in _NEVER.get(status, ())
        if not barred and words.search(said):
            return _meant(rule, returns=returns)
    return None


def _about(said: str, status: int) -> ErrorKind | None:
    """What a sentence is about, where no rule knows its words; what stands in quotes may be somebody's own text."""
    said = _QUOTED.sub(" ", said)
    for rule, words in ABOUT:
        barred = (rule.only_where_open and status in _SURE) or (rule.kind in _OF_CALLER and status >= 500)
        barred = barred or (rule.kind == "unknown_model" and status < 300)  # It had begun, so it has the model.
        barred = barred or (rule.kind == "account" and _FIELDS.search(said) is not None)
        if not barred and rule.kind in _SURE_OF.get(status, KINDS) and words.search(said):
            return rule.kind
    return None


def _meant(rule: Rule, *, returns: bool) -> Ruling:
    return Ruling("rate_limited") if rule.unless_it_returns and returns else Ruling(rule.kind, rule)


def _status_of(code: str) -> int | None:
    return _PHRASES.get(code.replace(" ", ""))


def _is_general(code: str) -> bool:
    """Whether a code says no more than a status: `invalid_request_error` comes with all that a server ever refuses."""
    return COMMON.issuperset(code.split())


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
    text = _ECHO.sub(r"\1 x", text)
    text = re.sub(r"(`[^`\n]{1,120}`|\"[^\s\"]{1,120}\"|(?<!\w)'[^\s']{1,120}'(?!\w))", _unnamed, text)
    return re.sub(r"[^\S\n]+", " ", text.lower()).strip()[:_HEAD]


def _unnamed(found: re.Match[str]) -> str:
    """A name in quotes that is a name of ours, and not a word of the API (`max_tokens`)."""
    name = found[0][1:-1]
    return (
        name
        if name in {"inputs", "max_new_tokens", "max_tokens", "max_completion_tokens", "messages", "prompt"}
        or "authorization" in name.lower()
        else "x"
    )
