"""Parts that several messages share. Times are seconds since the epoch on the server's clock; money is micro-dollars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from messages.message import Value
from messages.reading import Bound

Task = Literal[
    "chat", "code", "analytical", "reasoning", "creative", "high_throughput", "low_latency", "large_context"
]  # fmt: skip
Quality = Literal["draft", "standard", "final"]
MODEL_CHARACTERS: Final = 1_024
"""Characters of a model's name: some servers call a model by its path. Encoded as a subject's token it may have twice as many."""
QUALITY_WORDS: Final[Mapping[Quality, str]] = {"draft": "low", "standard": "medium", "final": "high"}
"""Our quality levels in OpenAI's words: pictures are asked for with them, and price lists hold them."""
Complexity = Literal["simple", "medium", "complex", "standard", "high", "unknown"]
"""Size class of a job: `simple` to `complex`; creative work is `standard` or `high`; `unknown` when nothing can be counted."""
Asset = Literal["text", "image", "video", "audio", "embedding"]
Outcome = Literal[
    "ok", "timeout", "connection_error", "rate_limited", "server_error", "overloaded", "account", "bad_request",
    "unknown_model", "invalid_structure", "missing_field", "empty", "validator_hard_fail", "aborted", "executor_lost",
    "not_started", "interrupted", "expired", "over_gpu_time",
]  # fmt: skip
"""How an attempt ended. `aborted`: somebody else's `done` came first. `interrupted`: somebody stopped it at the backend itself.
`expired`: the job's deadline came while it ran. `over_gpu_time`: it ran for all the time on a GPU that is reserved for it. None
of these four tells against the backend. `executor_lost`: its process died, billed at the worst case until known better.
`not_started`: nobody called the backend, billed nothing."""


class Problem(Value):
    """Why something was refused or failed, in words a person can act on."""

    reason: str
    """Short name: `invalid`, `no_backend`, `over_budget`, `timeout`, or an attempt's outcome."""
    message: str
    """One sentence that says what is wrong and what would be right."""
    field: str = ""
    """The offending field as a path (`deadline_seconds`), when one field is to blame."""
    value: str = ""
    """The offending value as text, cut at 200 characters."""
    status: int | None = None
    """HTTP status of the backend's answer, when there was one."""
    body: str = ""
    """The backend's own error body, cut at 2,000 characters."""
    retry_after_seconds: float | None = None
    """How long the backend asked to be left alone."""
    input_tokens: int | None = None
    """Of a request that was too large (`too_large`): its tokens as the backend counted them; absent: it did not tell."""
    limit_tokens: int | None = None
    """Of a request that was too large (`too_large`): the most tokens that the backend takes; absent: it did not tell."""


class Usage(Value):
    """Tokens of one attempt. Unknown is null, never 0."""

    input_tokens: int | None = None
    """Tokens read, cached ones included."""
    output_tokens: int | None = None
    """Tokens written, reasoning included."""
    cached_tokens: int | None = None
    """Part of the input tokens that came from the backend's cache."""
    cache_write_tokens: int | None = None
    """Part of the input tokens that were put into the backend's cache."""
    reasoning_tokens: int | None = None
    """Part of the output tokens that was thought and not shown."""
    estimated: bool = False
    """The backend sent no usage; these are our own counts."""
    gpu_seconds: float | None = None
    """How long it ran on the backend's hardware, as the backend says."""


class ObjectRef(Value):
    """Where a result lies that is too large for a message: its text, or all of it as JSON when it has tool calls."""

    key: str
    """Key in the object store `RESULTS`; it begins with the tenant."""
    size_bytes: int
    """How large it is."""
    sha256: str
    """Its digest, in hexadecimal."""
    media_type: str
    """What it is, as in HTTP's `Content-Type`."""


class Origin(Value):
    """What a file was made by."""

    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    recipe: str = ""
    """The workflow that was run; empty: none by name."""
    seed: int | None = None
    """The seed that was used; absent: unknown."""


class Artifact(Value):
    """A file that an attempt made, and where it lies."""

    name: str
    """A file name, unique within the attempt, with its ending."""
    ref: ObjectRef
    """Where it lies."""
    origin: Origin
    """What made it."""
    width: int = 0
    """Pixels; 0: unknown, or no picture."""
    height: int = 0
    """Pixels; 0: unknown, or no picture."""
    seconds: float = 0.0
    """Length of a video or sound; 0: unknown, or neither."""
    expires_at: float
    """When it is no longer kept, in seconds since the epoch."""


class Input(Value):
    """A file that a job brings along: the image to start from, a mask, a sound. In the job itself, or in the object store."""

    name: str
    """What it is for: `image`, `mask`, `end_image`, `video`, `audio`, or the name of a recipe's input."""
    media_type: str
    """As in HTTP's `Content-Type`: `image/png`."""
    data: str = ""
    """The file itself in base64, when it is small."""
    key: str = ""
    """Key in the object store `INPUTS`, which begins with the tenant; empty when `data` holds it."""
    sha256: str = ""
    """Its digest in hexadecimal; checked when it is given."""


class Check(Value):
    """What a validator found out about an answer."""

    name: str
    """The validator: a rule's name, or the job that judged."""
    verdict: Literal["pass", "soft_fail", "hard_fail"]
    """`soft_fail` is told and the answer is used; `hard_fail` sends the job elsewhere."""
    message: str = ""
    """Why, in words."""
    score: float | None = None
    """1 to 5, where it gives one."""


class Result(Value):
    """What a backend answered: the text itself, or where it lies, and the files that were made."""

    text: str | None = None
    """The text itself; null when it lies elsewhere."""
    ref: ObjectRef | None = None
    """Where a large text lies; null when `text` holds it."""
    finish_reason: str = ""
    """`stop`, `length`, `tool_calls`, `content_filter`, or empty when the backend did not say."""
    tool_calls: tuple[msgspec.Raw, ...] = ()
    """Tool calls in OpenAI form, with whatever else the backend put into them, untouched."""
    reasoning: str = ""
    """What the model thought before it answered, as far as the backend tells it; cut at 32,768 characters."""
    refusal: str = ""
    """Why the model would not answer, or not all of it, in its own words; empty: it did not refuse."""
    carried: tuple[msgspec.Raw, ...] = ()
    """What the backend wants back unchanged when the conversation goes on, each an object as it came: blocks of thoughts with
    their signatures, reasoning items, `extra_content`."""
    artifacts: tuple[Artifact, ...] = ()
    """The files that were made, in the order in which they came."""
    embeddings: tuple[tuple[float, ...], ...] = ()
    """One for each text of the job, in their order; large ones lie at `ref` as a JSON list of lists."""
    checks: tuple[Check, ...] = ()
    """What validators said about it, and what is to be known of how it came."""


class Range(Value):
    """From the least to the most that is to be expected."""

    low: float
    """The least."""
    high: float
    """The most."""


class Media(Value):
    """What an image, video or audio job asks for; 0 and empty: it does not say."""

    images: int = 0
    """How many images."""
    width: int = 0
    """Pixels."""
    height: int = 0
    """Pixels."""
    steps: int = 0
    """Sampling steps."""
    frames: int = 0
    """Frames of a video."""
    fps: float = 0.0
    """Frames per second."""
    seconds: float = 0.0
    """Length of a video or a sound."""
    checkpoints: tuple[str, ...] = ()
    """Base models that the ComfyUI graph loads."""
    loras: tuple[str, ...] = ()
    """LoRAs that it names."""
    node_types: tuple[str, ...] = ()
    """Node classes of the ComfyUI graph, sorted."""


class Needs(Value):
    """What a job needs, as the analyzer understood it. The router sees this, never the prompt."""

    task: Task
    """Kind of work."""
    asset: Asset = "text"
    """What is made."""
    quality: Quality
    """`draft`, `standard` or `final`."""
    complexity: Complexity
    """Size class, by requirement A2."""
    complexity_score: float
    """0 to 100, the sum of its parts."""
    complexity_parts: dict[str, float] = {}
    """What the score is made of, in points."""
    input_tokens: int
    """Estimated tokens of the prompt: what the choice goes by."""
    bound: Bound | None = None
    """The most it can give to read: what budgets go by. Absent: as many as estimated."""
    max_output_tokens: int
    """Cap sent to the backend; bounds what an attempt can cost."""
    output_tokens: int = 0
    """Tokens the answer is expected to have; 0: nothing is known."""
    vram_mb: int = 0
    """GPU memory the request needs beside the model; 0: nothing worth counting."""
    seconds: Range | None = None
    """How long it may run, over the models that are known; absent: none is known."""
    cost_microdollars: Range | None = None
    """What it may cost, over the models that are known; absent: none is known."""
    capabilities: tuple[str, ...] = ()
    """Required capabilities, sorted: `vision`, `tools`, `json`, `code`, `lora`, `controlnet`, `audio`, …"""
    preferred: tuple[str, ...] = ()
    """Preferred capabilities, sorted: without them the request is degraded by a declared step."""
    media: Media = Media()
    """What is asked of an image, video or sound."""
    stated: tuple[str, ...] = ()
    """Parameters that the job named itself; quality levels leave these alone."""
    model: str = ""
    """Required model, by name or stable id; empty: any."""
    preferred_model: str = ""
    """Used unless it is not permitted; empty: none."""
    role: str = ""
    """Role in a larger work; empty: none."""
    mode: str = ""
    """Mode of the role (`full_mimic`); empty: none."""
    product: str = ""
    """Kind of product it is for (`landing`, …); empty: none."""
    user: str = ""
    """The tenant's user it is for; empty: nobody in particular."""
    workflow: str = ""
    """The workflow the job belongs to; empty: none."""
    step: str = ""
    """The workflow's step; empty: none."""
    batch: str = ""
    """Label that groups jobs of one submission."""
    strategy: str = ""
    """Strategy asked for by name; empty: the policy's."""
    preferred_backend: str = ""
    """Used unless it is not permitted; empty: none."""
    allow_cloud: bool = True
    """False keeps the job on local backends."""
    prioritize_speed: bool = False
    """Whether speed weighs more than cost."""
    max_cost_microdollars: int | None = None
    """Limit over all attempts of the job; absent: none."""
    value_per_hour_microdollars: int | None = None
    """What an hour of waiting for it costs; absent: the policy's."""
    json_output: bool = False
    """The answer must parse as JSON, or the attempt failed with `invalid_structure`."""
    why: tuple[str, ...] = ()
    """How the analyzer came to this, a line each."""
    remarks: tuple[str, ...] = ()
    """What whoever submitted it should know at once: a role, or a preferred backend, that nobody here knows."""
    recipe: str = ""
    """Workflow to run, by name; empty: the usual one for what is made."""

    @property
    def rated(self) -> str:
        """The `quality` of a price list that holds for this job: as pictures are asked for; empty when none is made."""
        return QUALITY_WORDS[self.quality] if self.asset == "image" else ""


class Slip(Value):
    """The routing slip: all of a job that travels with it, so that no room keeps state about jobs."""

    tenant: str
    """Whose job it is."""
    job: str
    """The job's id, unique within its tenant."""
    submitted_at: float
    """When the submission was stored, in seconds since the epoch."""
    deadline_at: float
    """One deadline over all attempts."""
    input_seq: int
    """Sequence of the submission in the stream `IN`, where the body lies."""
    input: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    """The submission's body when it is small; `null` when it must be read from `IN`."""
    needs: Needs
    """What the job needs."""
    request: str = ""
    """Fingerprint of what is asked, without seeds, ids and file names: the same request again has the same; empty: unknown."""


class Exclusion(Value):
    """A backend this job must not be sent to for a while."""

    backend: str
    """Which one."""
    model: str = ""
    """Only this model of it; empty: all of them."""
    until: float
    """No longer excluded at this time; 0 means: for the whole job."""
    reason: str
    """Why, in words."""


class Awaited(Value):
    """Something that keeps a job waiting, and whose change may let it go on."""

    kind: Literal["backend", "breaker", "settlement", "budget"]
    """`backend`: one that is absent or ill. `breaker`: one that is open, or being tried. `settlement`: what others hold on a
    counter becomes what they used, which leaves room or leaves none. `budget`: a counter that is used up."""
    name: str = ""
    """The backend's name, or the counter's subject; empty: any backend."""
    model: str = ""
    """The breaker's model, `*` for the one of the account; empty for the other kinds."""
    budget: str = ""
    """The budget's name; empty for the other kinds."""
    amount: int = 0
    """How much room the job needs on the counter, in its unit; 0 for the other kinds."""


class Attempt(Value):
    """One finished attempt in a job's history."""

    n: int
    """Round of the job, from 1."""
    backend: str
    """The backend's name."""
    model: str
    """The model's name, as its backend calls it."""
    outcome: Outcome
    """How it ended."""
    billed_microdollars: int
    """What it costs us."""
    unpriced: bool = False
    """Nobody knows what it costs: `billed_microdollars` says nothing."""
    latency_seconds: float | None = None
    """From the call to its end; null when nobody called."""
    problem: Problem | None = None
    """The error as the backend gave it; absent when the attempt succeeded."""
    usage: Usage | None = None
    """Its tokens, as far as they are known; absent: nobody called, or nothing is known."""


class Met(Value):
    """A guardrail that a job met on its way, and whom it was about."""

    backend: str
    """The candidate's backend."""
    model: str
    """The candidate's model."""
    kind: Literal["guardrail", "cost", "budget"]
    """`guardrail`: a limit of one call, by a policy. `cost`: the job's own limit. `budget`: a budget had no room."""
    budget: str = ""
    """The budget's name; empty: it was none."""
    text: str
    """What was met, in words."""
    passed_over: bool = True
    """Whether the candidate was passed over for it; else it ran all the same."""


class Reservation(Value):
    """An amount held on one budget counter for an attempt."""

    budget: str
    """Name of the limit that asked for it."""
    subject: str
    """The counter: `ledger.<scope>.<unit>.<window>`."""
    amount: int
    """In the counter's unit: micro-dollars, tokens, requests or GPU milliseconds."""
    unit: str
    """What the counter counts: `microdollars`, `tokens`, `requests` or `gpu_milliseconds`."""
    hold: str = ""
    """Which of the attempt's holds on the counter it is: names the limits it was compared with, and the try."""


class Failover(Value):
    """How often and how patiently a job is tried again. Comes with the policy, travels with the work."""

    max_attempts: int = 3
    """Attempts that may be spent on one job."""
    waits_seconds: tuple[float, ...] = (1.0, 3.0)
    """Wait before the 2nd, 3rd, … attempt; the last one repeats."""
    stall_seconds: float = 20.0
    """A backend that is silent this long has failed: the time to the first token and between tokens."""

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt` (2 = the first repetition)."""
        if not self.waits_seconds or attempt <= 1:
            return 0.0
        return self.waits_seconds[min(attempt - 2, len(self.waits_seconds) - 1)]


class Rate(Value):
    """A price that depends on how large a picture is, or how good."""

    up_to_pixels: int = 0
    """Width times height that it holds for, at most; 0: any."""
    quality: str = ""
    """The provider's own word (`low`, `high`, …); empty: any."""
    microdollars: int = 0
    """For one image, or for one second."""


_AMOUNTS: Final = (
    "input_per_mtok", "output_per_mtok", "per_request", "per_image", "per_second", "per_gpu_second", "image_rates",
    "second_rates", "cached_input_per_mtok", "cache_write_per_mtok", "long_input_per_mtok", "long_output_per_mtok",
    "long_cached_input_per_mtok", "long_cache_write_per_mtok",
)  # fmt: skip


class Price(Value):
    """What a model costs, in micro-dollars; 0 is free. Every sum is exact and rounded up once, at its end.

    A price of which nobody says anything is free on hardware of ours, and unknown everywhere else: `Offer`, `Backend` and
    `ModelPrice` see to that when they are made.
    """

    input_per_mtok: int = 0
    """For a million tokens read."""
    output_per_mtok: int = 0
    """For a million tokens written, reasoning included."""
    per_request: int = 0
    """For each request, whatever it asks."""
    per_image: int = 0
    """For each image made; with `image_rates`, for one that is larger than all of them."""
    per_second: int = 0
    """For each second of video or sound made; with `second_rates`, for a picture larger than all of them."""
    unknown: bool = False
    """It may cost money, and nobody said how much: not for jobs or budgets that limit dollars."""
    cached_input_per_mtok: int | None = None
    """For a million tokens read from the backend's cache; absent: as any other input."""
    cache_write_per_mtok: int = 0
    """For a million tokens read and put into the backend's cache; 0: as any other input."""
    long_above_tokens: int = 0
    """With more input tokens than this the whole request costs the `long_` rates; 0: there is no such limit."""
    long_input_per_mtok: int = 0
    """Input of a long request; 0: as of any other."""
    long_output_per_mtok: int = 0
    """Output of a long request; 0: as of any other."""
    long_cached_input_per_mtok: int | None = None
    """Cached input of a long request; absent: as its other input."""
    long_cache_write_per_mtok: int = 0
    """Input of a long request that is put into the cache; 0: as its other input."""
    image_rates: tuple[Rate, ...] = ()
    """Prices of an image by size and quality."""
    second_rates: tuple[Rate, ...] = ()
    """Prices of a second of video by size and quality."""
    per_gpu_second: int = 0
    """For each second that the attempt runs."""
    source: str = ""
    """Who says so: `settings`, a file, a page; empty: nobody had to."""
    as_of: str = ""
    """The day it was known to be right, `2026-11-21`; empty: not dated."""

    @property
    def stated(self) -> bool:
        """Somebody says it: an amount, or who it is that says it costs nothing."""
        return not self.unknown and (bool(self.source) or any(getattr(self, name) for name in _AMOUNTS))

    def or_unknown(self) -> Price:
        """This price, or an unknown one when nobody states it."""
        return self if self.unknown or self.stated else msgspec.structs.replace(self, unknown=True)

    def cost(
        self,
        input_tokens: int,
        output_tokens: int,
        media: Media | None = None,
        *,
        cached_tokens: int = 0,
        cache_write_tokens: int = 0,
        seconds: float = 0.0,
        quality: str = "",
    ) -> int:
        """Micro-dollars of a request that used so much; rounded up.

        Cached tokens and those put into the cache are part of the input, reasoning tokens part of the output. An image or a
        second whose size or quality is not told costs the dearest rate it may have had. `seconds`: how long it ran.
        """
        read, written = self.input_per_mtok, self.output_per_mtok
        cached, put = self.cached_input_per_mtok, self.cache_write_per_mtok
        if 0 < self.long_above_tokens < input_tokens:
            read, written = self.long_input_per_mtok or read, self.long_output_per_mtok or written
            cached, put = self.long_cached_input_per_mtok, self.long_cache_write_per_mtok
        total = input_tokens * read + output_tokens * written
        if cached_tokens and cached is not None:
            total += min(cached_tokens, input_tokens) * (cached - read)
        if cache_write_tokens and put:
            total += max(0, min(cache_write_tokens, input_tokens - cached_tokens)) * (put - read)
        if media is not None:
            total += self._made(media, quality, most=False)
        return self._sum(total, seconds)

    def worst(
        self,
        input_tokens: int,
        max_output_tokens: int,
        media: Media | None = None,
        *,
        seconds: float = 0.0,
        quality: str = "",
    ) -> int:
        """The most micro-dollars that a request within these bounds can cost; what has to be reserved for it.

        Nothing comes from the cache and all goes into it, a request that may be long is long, and a picture whose size or
        quality is not told is of the dearest kind. It is never less than `cost` of less, and never falls when a bound rises.
        `seconds`: how long it may run.
        """
        read = max(self.input_per_mtok, self.cached_input_per_mtok or 0, self.cache_write_per_mtok)
        written = self.output_per_mtok
        if 0 < self.long_above_tokens < input_tokens:
            long = max(self.long_input_per_mtok, self.long_cached_input_per_mtok or 0, self.long_cache_write_per_mtok)
            read, written = max(read, long), max(written, self.long_output_per_mtok)
        total = input_tokens * read + max_output_tokens * written
        if media is not None:
            total += self._made(media, quality, most=True)
        return self._sum(total, seconds)

    def level(self, *, dearest: bool) -> Price:
        """A price without steps: never above this one for what no cache holds, or (`dearest`) never below it."""
        inputs = [self.input_per_mtok, self.long_input_per_mtok or self.input_per_mtok]
        if dearest:
            inputs += [self.cached_input_per_mtok or 0, self.cache_write_per_mtok]
            inputs += [self.long_cached_input_per_mtok or 0, self.long_cache_write_per_mtok]
        end = max if dearest else min
        return Price(
            input_per_mtok=end(inputs),
            output_per_mtok=end(self.output_per_mtok, self.long_output_per_mtok or self.output_per_mtok),
            per_request=self.per_request,
            per_image=end(_all_rates(self.image_rates, self.per_image)),
            per_second=end(_all_rates(self.second_rates, self.per_second)),
            unknown=self.unknown,
            per_gpu_second=self.per_gpu_second,
        )

    def _made(self, media: Media, quality: str, *, most: bool) -> int:
        """What images and seconds of video cost, in millionths of a micro-dollar."""
        total, pixels = 0, media.width * media.height
        if media.images and (self.per_image or self.image_rates):
            total += media.images * _rate(self.image_rates, self.per_image, pixels, quality, most=most) * 1_000_000
        if media.seconds and (self.per_second or self.second_rates):
            each = _rate(self.second_rates, self.per_second, pixels, quality, most=most)
            total += _milliseconds(media.seconds) * each * 1_000
        return total

    def _sum(self, total: int, seconds: float) -> int:
        if seconds and self.per_gpu_second:
            total += _milliseconds(seconds) * self.per_gpu_second * 1_000
        return -(-total // 1_000_000) + self.per_request


def _milliseconds(seconds: float) -> int:
    """Rounded up; what floats add to a whole millisecond is no further one."""
    return math.ceil(round(seconds * 1_000, 6))


def _all_rates(rates: tuple[Rate, ...], otherwise: int) -> list[int]:
    """Everything it may cost; `otherwise` of 0 beside rates is no price of its own."""
    return [rate.microdollars for rate in rates] + ([otherwise] if otherwise or not rates else [])


def _rate(rates: tuple[Rate, ...], otherwise: int, pixels: int, quality: str, *, most: bool) -> int:
    """The rate of the smallest size that holds the picture, or (`most`) the dearest rate up to that size.

    Real price lists ask less for some larger sizes; what is reserved must not fall when a picture grows.
    """
    if not rates:
        return otherwise
    kinds = {rate.quality for rate in rates}
    found = 0
    for kind in (quality,) if quality and quality in kinds else kinds:
        of_kind = [(rate.up_to_pixels or math.inf, rate.microdollars) for rate in rates if rate.quality in ("", kind)]
        size = min((size for size, _ in of_kind if size >= pixels), default=None) if pixels else None
        if size is None:  # Nobody said how large, or larger than all that is listed.
            found = max(found, otherwise, *(each for _, each in of_kind))
        else:
            found = max(found, *(each for holds, each in of_kind if holds == size or (most and holds < size)))
    return found
