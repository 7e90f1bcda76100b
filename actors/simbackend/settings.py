"""How a simulated backend behaves. Pure."""

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Literal, get_args

import msgspec

Fault = Literal["500", "429", "hang", "slow", "cut", "malformed", "structure", "empty"]
"""What a simulated backend can do wrong.

- `500`: refuses with a server error.
- `429`: refuses with a rate limit and a `Retry-After`.
- `hang`: takes the request and never answers.
- `slow`: answers, but `slow_factor` times slower.
- `cut`: breaks the connection in the middle of the answer.
- `malformed`: answers with broken JSON.
- `structure`: answers with JSON that is not what the protocol promises.
- `empty`: answers with no text.
"""

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)


class SimSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated backend. Creating it raises ValueError naming the field and the value."""

    name: str = "sim"
    """Shows in every answer."""
    models: tuple[str, ...] = ("sim-small",)
    first_token_seconds: float = 0.0
    tokens_per_second: float = 0.0
    """Speed of one answer; 0: no delay, the whole answer comes at once."""
    answer_tokens: int = 24
    """Length of an answer that the request does not cap lower."""
    context_tokens: int = 8192
    """Told in the model cards; a request that needs more is refused."""
    price_input_microdollars: int = 0
    """Per million input tokens; told in the model cards, nothing is charged."""
    price_output_microdollars: int = 0
    """Per million output tokens."""
    slots: int = 4
    """Answers generated at once; further requests queue."""
    error_rate: float = 0.0
    """Share of requests that fail with 500, added to `faults`; 0 to 1."""
    faults: Mapping[Fault, float] = {}
    """Share of requests with each fault; all together, and with `error_rate`, at most 1."""
    seed: int = 0
    """Decides which requests have which fault, and the words of the answers."""
    retry_after_seconds: float = 1.0
    """Told with a 429."""
    slow_factor: float = 10.0
    """How many times slower a `slow` answer is, at least 1."""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise ValueError(f"name: {self.name!r} must be printable and not empty")
        if not self.models or not all(self.models) or len(set(self.models)) < len(self.models):
            raise ValueError(f"models: {self.models!r} must be different names, at least one")
        for field in ("slots", "answer_tokens", "context_tokens", "slow_factor"):
            _least(field, getattr(self, field), 1)
        for field in (
            "first_token_seconds", "tokens_per_second", "retry_after_seconds", "price_input_microdollars",
            "price_output_microdollars", "error_rate",
        ):  # fmt: skip
            _least(field, getattr(self, field), 0)
        self.rates()

    def rates(self) -> dict[Fault, float]:
        """The share of requests with each fault, `error_rate` included. Raises ValueError as `checked_rates` does."""
        rates: dict[Fault, float] = dict(self.faults)
        if self.error_rate:
            rates["500"] = rates.get("500", 0.0) + self.error_rate
        return checked_rates(rates)


def checked_rates(rates: Mapping[Fault, float]) -> dict[Fault, float]:
    """`rates` in the order of `FAULTS`, if they are shares that add up to at most 1; otherwise raises ValueError."""
    unknown = [name for name in rates if name not in FAULTS]
    if unknown:
        raise ValueError(f"faults: {unknown[0]!r} is none of {', '.join(FAULTS)}")
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"faults.{name}: {rate!r} must be between 0 and 1")
    total = math.fsum(rates.values())
    if total > 1 + 1e-9:
        raise ValueError(f"faults: {total:g} in all is more than 1 (error_rate included)")
    return {name: rates[name] for name in FAULTS if rates.get(name)}


def fault_of(seed: int, number: int, rates: Mapping[Fault, float]) -> Fault | None:
    """The fault of request `number`, or None. The same arguments give the same fault; raising a rate only adds."""
    point = int.from_bytes(blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()) / 2**64
    for fault in FAULTS:
        point -= rates.get(fault, 0.0)
        if point < 0:
            return fault
    return None


def _least(field: str, value: float, least: float) -> None:
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{field}: {value!r} must be at least {least}")
