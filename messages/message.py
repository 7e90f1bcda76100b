"""Message: an immutable fact with an address.

A message type says once how it travels: its `Channel` holds the stream, the subject's fixed tokens, the fields that fill
the other tokens, and the kind of promise. Nobody types a subject by hand.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform
from urllib.parse import quote, unquote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN = re.compile(r"[A-Za-z0-9_:=@~+-]+\Z")


class Kind(enum.Enum):
    """How a message travels, a property of its type and never chosen at the call."""

    WORK = "work"  # One instance of one actor must handle it: stream, durable consumer, explicit acknowledgement.
    FACT = "fact"  # Everybody wants the latest value per key: last value per subject, replayed on start.
    RECORD = "record"  # History: kept for a while, replayable.
    SIGNAL = "signal"  # Progress, tokens, heartbeats: at most once, gaps show by sequence numbers.
    ASK = "ask"  # A question to the room that owns the answer, and the answer itself.


@lru_cache(maxsize=8192)  # The same tenants, jobs and backends come again and again.
def token(text: str) -> str:
    """Percent-encode `text` so that it is exactly one subject token (`llama3.1:8b` -> `llama3%2E1:8b`).

    Raises ValueError for an empty text: NATS has no empty tokens.
    """
    if _PLAIN.match(text):
        return text
    if not text:
        msg = "a subject token can't be empty"
        raise ValueError(msg)
    return quote(text, safe=":=@~+").replace(".", "%2E")


def untoken(text: str) -> str:
    """The text that `token` encoded; a token that `token` would not make stands for itself, so that no two are one."""
    plain = unquote(text)
    return plain if plain and token(plain) == text else text


def event_name(class_name: str) -> str:
    """The CloudEvents type and JSON tag of a message class: `turnout.job_submit` for `JobSubmit`."""
    return "turnout." + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", class_name).lower()


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a message type and the promise it travels with."""

    kind: Kind
    """The promise."""
    prefix: str
    """Fixed tokens at the front of the subject, `ev.analyzed` for example."""
    keys: tuple[str, ...] = ()
    """Fields whose values are the remaining tokens, in order."""
    stream: str = ""
    """Stream that keeps it (`IN`, `EV`, `WORK`, `KV_facts`); empty for signals and questions."""
    first_writer: bool = False
    """Stored only when its subject is still empty; everybody else continues from the stored one."""
    handed_on: bool = False
    """Inside one front it is handed to the next room in memory, once it is stored. A signal goes nowhere else then."""
    compared: bool = False
    """A fact that is only replaced by who has seen its latest value (compare-and-set)."""

    def subject(self, values: object) -> str:
        """The subject of one message: the prefix and the encoded values of the key fields."""
        parts = [self.prefix]
        parts.extend(token(str(getattr(values, key))) for key in self.keys)
        return ".".join(parts)

    def key_of(self, **known: object) -> str:
        """The subject for known key values; an unknown one becomes the wildcard `*`."""
        parts = [self.prefix]
        parts.extend(token(str(known[key])) if key in known else "*" for key in self.keys)
        return ".".join(parts)

    @property
    def pattern(self) -> str:
        """The wildcard subject on which every message of the type lies."""
        return ".".join([self.prefix, *("*" for _ in self.keys)])

    @property
    def public(self) -> str:
        """Where outsiders see it: `ev.<x>` is republished as `job.<x>`, facts as `fact.<x>`."""
        if self.kind is Kind.FACT:
            return "fact" + self.pattern.removeprefix(_BUCKET)
        return "job" + self.pattern.removeprefix("ev") if self.pattern.startswith("ev.") else self.pattern


_BUCKET = "$KV.facts"


def fact(name: str, *, keys: tuple[str, ...], compared: bool = False) -> Channel:
    """The channel of a fact: a key of the key-value bucket `facts`, republished as `fact.<key>`."""
    return Channel(kind=Kind.FACT, stream="KV_facts", prefix=f"{_BUCKET}.{name}", keys=keys, compared=compared)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class MessageMeta(msgspec.StructMeta):
    """Makes every message frozen, keyword-only and without memory-hungry extras; `channel=` becomes a class attribute."""

    def __new__(
        cls: type[MessageMeta],
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        channel: Channel | None = None,
        **options: Any,
    ) -> Any:
        """Create the struct class; options are msgspec's own."""
        # Immutable trees have no cycles, so the collector need not look at them.
        options = {"frozen": True, "kw_only": True, "omit_defaults": True, "gc": False, **options}
        if channel is not None:
            options |= {"tag": event_name(name), "tag_field": "type"}
        made: Any = super().__new__(cls, name, bases, namespace, **options)
        if channel is not None:
            made.channel = channel
            made.type_name = event_name(name)
            ALL[event_name(name)] = made
        return made


ALL: dict[str, type[Message]] = {}
"""Every message type by its name."""


class Message(msgspec.Struct, metaclass=MessageMeta):
    """Something that was said. Its subject follows from its type and fields, its CloudEvents type from its name."""

    channel: ClassVar[Channel]
    """Its address and promise, a property of the type."""
    type_name: ClassVar[str]
    """The event's name on the wire: `turnout.attempted` for `Attempted`."""

    @property
    def subject(self) -> str:
        """Where this very message lies."""
        return self.channel.subject(self)


class Value(msgspec.Struct, metaclass=MessageMeta):
    """An immutable part of a message."""


def known(kind: Kind | None = None) -> Mapping[str, type[Message]]:
    """All message types, or those that travel in one way, by name in order of definition."""
    return {name: made for name, made in ALL.items() if kind is None or made.channel.kind is kind}
