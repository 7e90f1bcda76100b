"""Actor, hears, Says: a class whose handlers take an event and return what they say.

The parameter's type is the subscription, the return type is everything a handler can say. Four decorators mark handlers:
`hears` (its queue, a fact, a signal, or an event handed on in memory), `overhears` (the public copy of an event, at most
once), `answers` (a question), `every` (a timer). A handler never publishes, sleeps, reads a clock, draws a random number
or makes an id.
"""

from __future__ import annotations

import enum
import functools
import inspect
import types
import typing
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, ClassVar, TypeVar, Union

import msgspec

from messages.message import Message

M_co = TypeVar("M_co", covariant=True)


class Later(msgspec.Struct, frozen=True):
    """Say `message` at time `at` (server's clock): the server fires it, even when everybody here is dead."""

    message: Message
    at: float


class Again(msgspec.Struct, frozen=True):
    """Not now: deliver the heard message again after this many seconds."""

    seconds: float


class Stored(msgspec.Struct, frozen=True):
    """The server's word on something that was said."""

    message: Message
    """What is stored: ours, or the one that was first."""
    ours: bool
    seq: int = 0
    """Its sequence in its stream, which is the revision of a fact; 0 for what is not stored."""


Says = Sequence[M_co | Later | Again]
"""What a handler says: messages of type M, now or later."""
Steps = AsyncGenerator[M_co | Later | Again | Sequence[Any], Any]
"""A handler with steps: it yields what it says and receives the `Stored` (or a list of them) for it."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """How and when a message was heard."""

    now: float
    """The server's clock, seconds since the epoch."""
    stream: str = ""
    seq: int = 0
    """Sequence in its stream, or of the head of its chain when it was handed on; 0 for signals, facts, questions."""
    stored_at: float = 0.0
    """When the server stored it."""
    deliveries: int = 1
    instance: str = ""
    boot: str = ""
    run: str = ""
    """This run of the handler: no two runs share one."""
    trace: str = ""
    body: bytes = b""
    """The message as it came, as JSON; only for the head of a chain."""
    undecodable: str = ""
    """Why the body could not be decoded; then the message is None."""
    subject: str = ""
    lost: Message | None = None
    """What this process wanted to say when another message was first."""


class CantAnswer(Exception):
    """A question can't be answered now; the text says why. Who asked hears that instead, and nothing has crashed."""


class NotMine(CantAnswer):
    """A question is for another process of the room: this one stays silent."""


class Form(enum.Enum):
    """How a handler is called."""

    PLAIN = "def"
    ASYNC = "async def"
    STEPS = "async generator"


class Way(enum.Enum):
    """What brings a handler to life."""

    HEARS = "hears"
    OVERHEARS = "overhears"
    ANSWERS = "answers"
    EVERY = "every"


_MARK = "_turnout_way"
F = TypeVar("F", bound=Callable[..., Any])


def hears(handler: F) -> F:
    """Hear the parameter's type the way it travels: from the room's queue, as a fact, a signal, or handed on."""
    setattr(handler, _MARK, (Way.HEARS, ""))
    return handler


def overhears(handler: F) -> F:
    """Hear the public copy of an event in every process: at most once, never acknowledged."""
    setattr(handler, _MARK, (Way.OVERHEARS, ""))
    return handler


def answers(handler: F) -> F:
    """Answer a question (a message of kind ASK) with another message."""
    setattr(handler, _MARK, (Way.ANSWERS, ""))
    return handler


def every(attribute: str) -> Callable[[F], F]:
    """Call the handler with `now` again and again; the actor's attribute holds the seconds between calls."""

    def mark(handler: F) -> F:
        setattr(handler, _MARK, (Way.EVERY, attribute))
        return handler

    return mark


class Handler(msgspec.Struct, frozen=True):
    """One handler of an actor class, as its signature tells."""

    name: str
    way: Way
    form: Form
    hears: type[Message] | None
    says: tuple[type[Message], ...]
    period: str = ""
    """Attribute with the seconds, for timers."""


def _messages_in(annotation: Any) -> list[type[Message]]:
    """Every message type inside a return annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return [annotation]
    found: list[type[Message]] = []
    if typing.get_origin(annotation) in (Union, types.UnionType) or typing.get_args(annotation):
        for part in typing.get_args(annotation):
            found.extend(m for m in _messages_in(part) if m not in found)
    return found


def _form(function: Callable[..., Any]) -> Form:
    if inspect.isasyncgenfunction(function):
        return Form.STEPS
    return Form.ASYNC if inspect.iscoroutinefunction(function) else Form.PLAIN


@functools.cache
def handlers_of(actor: type[Actor]) -> tuple[Handler, ...]:
    """The handlers of an actor class, read from its annotations. Raises TypeError for a handler without usable types."""
    found: list[Handler] = []
    for name, function in inspect.getmembers(actor, inspect.isfunction):
        mark = getattr(function, _MARK, None)
        if mark is None:
            continue
        way, period = mark
        hints = typing.get_type_hints(function)
        says = tuple(_messages_in(hints.pop("return", None)))
        heard = next(iter(hints.values()), None) if way is not Way.EVERY else None
        if way is not Way.EVERY and not (isinstance(heard, type) and issubclass(heard, Message)):
            text = f"{actor.__name__}.{name}: the first parameter must be annotated with a message type"
            raise TypeError(text)
        found.append(Handler(name, way, _form(function), heard, says, period))
    return tuple(found)


class Actor:
    """A room's mind. Subclasses add handlers; the host does everything else.

    An actor that writes something down outside the bus has `async def kept(self)`: once that returns it is safe, and only
    then the host acknowledges what was heard. With `async def closing(self)` it hears of the end of its process, and with
    `def forget(self, message)` that a fact it has heard is deleted.
    """

    room: ClassVar[str]
    """The room's name, as in subjects, queues and settings."""
