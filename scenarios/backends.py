"""Backends inside the process, for simulations: what happens to a call is a script, and every call is written down."""

from __future__ import annotations

import asyncio
import hashlib
import unicodedata
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

import msgspec

from actors.executor.backends import port
from actors.framing import DEFAULT
from messages import Work

Fate = Literal["ok", "slow", "hang", "cut", "empty", "raise", "crash"] | port.ErrorKind
"""`slow` takes long and succeeds, `hang` takes the request, makes all it may and never answers, `cut` breaks off in the middle,
`raise` is a bug in the executor, `crash` takes the process with it; the rest are the port's own errors."""

_ERRORS = get_args(port.ErrorKind)


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one call."""

    fate: Fate = "ok"
    seconds: float = 0.5
    """How long it takes in all."""
    chunks: int = 2
    retry_after_seconds: float | None = None
    harsh: bool = False
    """Its tokenizer makes a token of every byte and its template says all it may, and it writes all that it may."""
    status: int = 503
    """Of an error that is an answer."""


class Call(msgspec.Struct, kw_only=True):
    """One call of a backend: who made it, for what, and when it began and ended."""

    tenant: str
    job: str
    n: int
    backend: str
    instance: str
    boot: str
    prompt: str = ""
    began_at: float = 0.0
    ended_at: float | None = None
    read_tokens: int = 0
    """What the backend counted of the request, whether it said so or not."""
    made_tokens: int = 0
    """What it made."""
    fails: bool = False
    """The executor's run that makes it fails at what it hears next."""

    @classmethod
    def of(cls, work: Work, instance: str, boot: str) -> Call:
        """The call that a process is about to make for a work item."""
        return cls(tenant=work.tenant, job=work.job, n=work.n, backend=work.backend, instance=instance, boot=boot)

    @property
    def seconds(self) -> float:
        """How long the backend was busy with it; 0 while it runs."""
        return 0.0 if self.ended_at is None else self.ended_at - self.began_at


MAKING: ContextVar[Call] = ContextVar("making")
"""The call that the current task is about to make; set by the world around an executor's run."""

Playwright = Callable[[Call], Script]
"""Decides what happens to a call."""


def draw(*parts: object) -> float:
    """A number from 0 to 1 that depends on the parts alone."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pick(shares: Mapping[Fate, float], at: float) -> Fate:
    """The fate at `at` (0 to 1) when each has its share; what is left over is `ok`."""
    for fate, share in shares.items():
        at -= share
        if at < 0:
            return fate
    return "ok"


class Stage:
    """All backends of a world: the calls that were made, and what becomes of them."""

    def __init__(self, write: Playwright, now: Callable[[], float], crash: Callable[[Call], Any]) -> None:
        self.write, self.now, self.crash = write, now, crash
        self.calls: list[Call] = []
        self.ill: dict[str, str] = {}
        """Backends that fail their health check, with the reason."""

    @contextmanager
    def calling(self, call: Call) -> Generator[Call]:
        """Write a call down, with its begin and its end, however it ends."""
        call.began_at = self.now()
        self.calls.append(call)
        try:
            yield call
        finally:
            call.ended_at = self.now()


READ_TOKENS = 5
"""What a backend counts of every request."""
STEP_TOKENS = 2
"""What it makes in one step."""


def most_tokens(texts: Iterable[str]) -> int:
    """What the harshest tokenizer would make of messages of text: a token of each byte, of the longest normal form."""
    total = DEFAULT.template
    for text in texts:
        forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC")))
        total += DEFAULT.message + max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    return total


class Acted:
    """The adapter of one backend in one process. Like a server it counts from the moment at which it has the request."""

    tells_begun = True

    def __init__(self, stage: Stage, backend: str) -> None:
        self._stage = stage
        self._backend = backend

    async def run(self, call: port.Call) -> AsyncGenerator[port.Chunk | port.TookUp | port.Answer, None]:
        """Play the script of this call."""
        making = MAKING.get()
        making.prompt = str(call.messages[-1].get("content", ""))
        with self._stage.calling(making):
            async with aclosing(self.act(call, making, self._stage.write(making))) as items:
                async for item in items:
                    yield item

    async def act(
        self, call: port.Call, making: Call, script: Script
    ) -> AsyncGenerator[port.Chunk | port.TookUp | port.Answer, None]:
        """What happens in it."""
        steps = max(1, script.chunks)
        words: list[str] = []
        port.watched()
        if script.fate not in _ERRORS or script.fate == "cut_stream":
            port.begun()
            texts = (str(message.get("content", "")) for message in call.messages)
            making.read_tokens = most_tokens(texts) if script.harsh else READ_TOKENS
        for number in range(steps):
            await asyncio.sleep(script.seconds / (steps + 1))
            self._happen(script, making, number, steps)
            if script.fate == "hang":
                making.made_tokens = call.max_output_tokens
                await asyncio.sleep(1e6)
            making.made_tokens = min(call.max_output_tokens, making.made_tokens + STEP_TOKENS)
            words.append(f"{number} of {making.job} ")
            yield port.Chunk(text=words[-1])
        await asyncio.sleep(script.seconds / (steps + 1))
        text = "" if script.fate == "empty" else "".join(words)
        if script.harsh:
            making.made_tokens = call.max_output_tokens
        usage = port.Usage(input_tokens=making.read_tokens, output_tokens=making.made_tokens)
        yield port.Answer(text=text, finish_reason="stop", model=call.model, usage=usage)

    def _happen(self, script: Script, making: Call, number: int, steps: int) -> None:
        if script.fate == "cut" and number == steps // 2:
            raise port.BackendError("cut_stream", "the stream broke off", partial=f"0 of {making.job} ")
        if number:
            return
        if script.fate in _ERRORS:
            kind: Any = script.fate
            status = None if kind == "connection_error" else script.status
            if status:
                port.begun()  # It says so in an answer, and counts nothing.
            raise port.BackendError(
                kind, f"scripted {kind}", status=status, retry_after_seconds=script.retry_after_seconds
            )
        if script.fate == "raise":
            making.fails = True
        if script.fate == "crash":
            self._stage.crash(making)

    async def health(self) -> port.Vitals:
        """Fail while the backend is ill."""
        reason = self._stage.ill.get(self._backend)
        if reason:
            raise port.BackendError("connection_error", reason)
        return port.Vitals()

    async def discover(self) -> tuple[port.Offer, ...]:
        """Nothing: what it serves is configured."""
        return ()

    async def close(self) -> None:
        """Nothing to close."""
