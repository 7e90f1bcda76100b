"""The rules of `error_words.toml`, read and ready to be asked. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from actors.executor.backends.port import ErrorKind

_TABLE: Final = Path(__file__).with_name("error_words.toml")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that mean one kind of failure, in a code or in a sentence."""

    kind: ErrorKind
    words: tuple[str, ...]
    """Regular expressions, any of which will do."""
    examples: tuple[str, ...]
    """Codes and sentences that it knows, of different servers."""
    what: str = ""
    """What happened, for people."""
    unless_it_returns: bool = False
    """A wait within a day, or a window of time, makes it `rate_limited`: what comes back by itself is no dead account."""
    elsewhere: bool = False
    """It is asked for elsewhere first, whatever usually follows from the kind."""
    hint: str = ""
    """What may help, for people."""
    only_where_open: bool = False
    """It counts for nothing where the status has said already what kind of trouble it is (`_SURE`)."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    common: tuple[str, ...]
    terms: dict[str, str]
    rule: tuple[Rule, ...]
    subject: tuple[Rule, ...]
    general: tuple[Rule, ...]
    job: tuple[Rule, ...]


def _read() -> _Table:
    return msgspec.toml.decode(_TABLE.read_bytes(), type=_Table)


_READ: Final = _read()


def _pattern(rule: Rule) -> re.Pattern[str]:
    return re.compile(_spelt("|".join(f"(?:{one})" for one in rule.words)))


def _spelt(words: str) -> str:
    """Words with their terms written out; terms may hold those that stand before them."""
    for name, term in reversed(_READ.terms.items()):
        words = words.replace(f"{{{name}}}", f"(?:{term})")
    return words


RULES: Final = _READ.rule
"""From the top; the first that knows a code, or else the first that knows what is said, decides."""
SUBJECTS: Final = _READ.subject
"""What a sentence is about, where no rule knows its words."""
GENERAL: Final = _READ.general
"""Codes that are names of a status: they decide where the status tells less, inside a good answer and beside 400 and 5xx."""
JOB: Final = _READ.job
"""Codes that say what a failed job's own exception means, where no rule knows it."""
TOLD: Final = tuple((rule, _pattern(rule)) for rule in RULES)
CODED: Final = tuple((rule, words) for rule, words in TOLD if rule.kind != "bad_request")
"""What is wrong with a request is never told by a code alone."""
ABOUT: Final = tuple((rule, _pattern(rule)) for rule in SUBJECTS)
VAGUELY: Final = tuple((rule, _pattern(rule)) for rule in GENERAL)
OF_EXCEPTIONS: Final = tuple((rule, _pattern(rule)) for rule in JOB)
COMMON: Final = frozenset(_READ.common)
"""A code of nothing but these words is a general one."""
WINDOW: Final = re.compile(_spelt("{window}"))
"""A time in which a limit holds."""
