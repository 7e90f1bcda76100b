"""Settings: one frozen, validated tree from a TOML file, the environment and flags, in this order of rising weight.

An unknown key is an error that names the nearest known one. Secrets come from the environment or from files, and are
named here, never written.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from actors import toml_lines
from actors.alert_settings import LatencyTarget, Webhook
from actors.catalogue_backends import named_backends
from actors.contradictions import contradictions
from messages import Model, Value
from messages.attempts import WhenOver
from messages.fleet import Scopes, Unit, Window, only_of, scope_key, scopes_of


class SettingsError(ValueError):
    """A setting is wrong; the text names the key, the value and what would be right."""


class Section(Value, forbid_unknown_fields=True):
    """A table of the settings tree."""


class Budget(Section):
    """One limit: at most `limit` of `unit` per `window` for each value of `scope`."""

    name: str = ""
    """Its name; empty: made from the rest, `tenant:acme/microdollars/day`."""
    scope: Scopes = "global"
    """`global`, `tenant`, `workflow`, `step`, `provider`, `backend`, `model`, `user` or `job`; or a list of some of them, for
    each of their combinations: `["step", "model"]`."""
    unit: Unit = "microdollars"
    """`microdollars`, `tokens`, `requests` or `gpu_milliseconds` (on hardware of ours alone)."""
    window: Window = "day"
    """`minute`, `hour`, `day`, `week`, `month` or `total`, by the calendar of the time zone."""
    limit: Annotated[int, msgspec.Meta(ge=0)]
    """0 admits only what costs 0 of the unit."""
    only: str | dict[str, str] = ""
    """Holds for this one of the scope alone (of a step: `<workflow>/<step>`); empty: for each of them. Of several scopes a
    table: `{ step = "site/hero" }`."""
    soft_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8
    """Share of the limit from which on it warns."""
    time_zone: str = ""
    """IANA name of the zone whose calendar the windows follow; empty: that of `budgeting`."""
    on_all_over_budget: WhenOver | None = None
    """What happens to a job when nobody can run it because of this budget; absent: that of `budgeting`."""

    def __post_init__(self) -> None:
        """Give it a name when it has none."""
        if not self.name:
            only = "+".join(filter(None, (only_of(one, self.only) for one in scopes_of(self.scope))))
            who = f"{scope_key(self.scope)}:{only}" if only else scope_key(self.scope)
            msgspec.structs.force_setattr(self, "name", f"{who}/{self.unit}/{self.window}")


class BudgetRules(Section):
    """What holds for all budgets that do not say otherwise."""

    on_all_over_budget: WhenOver = "fail"
    """When nobody can run a job because of budgets: `fail`, `wait` for the next window, or `ask` a person."""
    time_zone: str = "UTC"
    """IANA name of the zone whose calendar the windows follow."""
    ceilings: bool = True
    """Whether the shipped ceilings for providers hold."""
    longest_gpu_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """An attempt reserves no more GPU time than this and one second, and is ended after it; 0: all the time until its
    deadline. For jobs whose GPU time a budget limits."""
    unknown_price_ceiling_microdollars: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """An attempt whose price nobody knows counts as this much: it is reserved, billed, and what the router compares. Absent:
    such an attempt is refused where a job or a budget limits dollars."""
    unbounded_input_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """An input that nothing bounds (a video, a file, an image of a model that does not say how it counts them, and no context
    limit that is known) counts as so many tokens. Absent: such an attempt is refused where dollars or tokens are limited."""


class BreakerRules(Section):
    """When a breaker opens and for how long, and how often the same backend is asked again."""

    failures_in_row: int = 3
    """Opens after so many, or at the failure share."""
    failure_share: float = 0.5
    """Opens when this part of the calls within the window failed."""
    window_calls: int = 5
    """With fewer calls in the window, their share says nothing."""
    window_seconds: float = 600.0
    """How long calls and failures are remembered, in whole minutes."""
    slow_seconds: float = 0.0
    """A call that takes this long counts as a failure, though its answer is used; 0: none does."""
    open_seconds: float = 30.0
    """The first opening; doubles with each further one."""
    longest_open_seconds: float = 300.0
    """The time no longer doubles then."""
    forget_seconds: float = 600.0
    """One earlier opening is forgotten for each such time without one."""
    jitter: float = 0.2
    """Part of the time that varies, by a hash of the event."""
    longest_wait_seconds: float = 3600.0
    """A backend that asks for a longer pause is tried again after this."""
    account_seconds: float = 3600.0
    """After an authentication or billing error: when one trial call looks whether somebody has acted."""
    lease_seconds: float = 40.0
    """A trial call that has no verdict by then is given up: twice the time of silence after which a call has failed."""
    repeat_share: float = 0.2
    """At most this part of the recent calls of a model on a backend are repeats of jobs it has failed."""
    repeat_floor: int = 3
    """So many repeats are always allowed."""
    repeat_seconds: float = 60.0
    """What counts as recent for repeats."""


class NatsSettings(Section):
    """Where the bus is."""

    url: str = ""
    """`nats://host:port`; empty: an embedded server."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 4222
    """Port of the embedded server; 0: any free one."""
    token: bool = True
    """Whether the embedded server asks for a token, which lies in the data directory: whoever else is on this machine can't
    connect."""
    sync: Literal["default", "always"] = "default"
    """`always` survives power loss as well, at one disk sync per write."""
    replicas: int = 0
    """Copies of each stream in a cluster: 1, 3 or 5; 0: as they are, and 1 for new ones."""
    wait_seconds: Annotated[float, msgspec.Meta(ge=0)] = 300.0
    """How long rooms that are started wait for a server that does not answer; 0: not at all."""


class JobSettings(Section):
    """Defaults and bounds of jobs."""

    deadline_seconds: float = 600.0
    """For jobs that name none."""
    longest_deadline_seconds: float = 86_400.0
    """At most half of the time that events are kept."""


class BackendSettings(Section):
    """One backend, configured by hand."""

    name: str
    protocol: str = "openai"
    """Kind of backend: `openai` (any compatible server), `ollama`, `vllm`, `comfyui`, `anthropic`, …"""
    url: str
    local: bool = False
    provider: str = ""
    priority: Annotated[int, msgspec.Meta(ge=1)] = 1
    """1 is the most preferred."""
    slots: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Attempts at once, at most; absent: as many as the server says, or what its kind usually takes."""
    exclusive_group: str = ""
    """Backends of one group share hardware: one of them is active at a time. Empty: none."""
    active: bool = True
    """Whether it is the active one of its group; an inactive one takes no work."""
    vram_total_mb: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """GPU memory in MiB; absent: that of its GPU."""
    gpu: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Which GPU of this host a local backend uses, as `nvidia-smi` counts them; absent: the only one, or unknown."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; empty: none is sent."""
    headers_env: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Headers that go with every request: the name of each, and of the environment variable that holds its value."""
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the usual ones."""
    verify_tls: bool = True
    """False takes any certificate: for servers of one's own."""
    client_cert: str = ""
    """PEM file with a certificate and its key, for servers that ask for one."""
    proxy_env: str = ""
    """Name of the environment variable that holds the URL of its proxy; empty: `HTTPS_PROXY` and its like are obeyed."""
    connect_timeout_seconds: float = 5.0
    """A connection that takes longer has failed."""
    max_connections: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Open at once; 0: no limit but the slots."""
    options: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """What this kind of backend alone understands, such as `max_tokens_field`."""
    models: tuple[Model, ...] = ()
    """Absent: asked from the backend."""


class GroupSettings(Section):
    """How the active one of an exclusive group is changed."""

    name: str
    """As backends name it in `exclusive_group`."""
    switch: tuple[str, ...]
    """The program and its arguments, run without a shell; `{backend}` and `{model}` stand for who is to become active."""
    automatic: bool = False
    """Whether its executor switches by itself when jobs wait for another one and the active one is idle."""
    patience_seconds: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    """A job waits so long before the group is switched for it."""
    min_active_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """Who became active stays it so long, at least."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """The program, and the server after it, may take so long together."""


class GroupingRules(Section):
    """How far jobs of the model in memory may go first, so that models are changed seldom."""

    ahead: Annotated[int, msgspec.Meta(ge=0, le=64)] = 4
    """Jobs beyond its slots that an executor holds of a local backend with several models; 0: none, first come, first served."""
    overtaken_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """A job is overtaken at most for so long."""
    overtaken_jobs: Annotated[int, msgspec.Meta(ge=0)] = 8
    """A job is overtaken at most by so many."""


class Settings(Section):
    """All settings of one process."""

    rooms: Literal["together", "apart"] = "together"
    data_dir: str = ".turnout"
    """History, the embedded server's store and its log lie here."""
    instance: str = ""
    """Name of this process on the bus; empty: host and process id."""
    discover: bool = True
    """Look for local servers and keys in the environment."""
    nats: NatsSettings = NatsSettings()
    jobs: JobSettings = JobSettings()
    breaker: BreakerRules = BreakerRules()
    budgeting: BudgetRules = BudgetRules()
    budgets: tuple[Budget, ...] = ()
    latency_targets: tuple[LatencyTarget, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    """Whom alerts are told."""
    backends: tuple[BackendSettings, ...] = ()
    groups: tuple[GroupSettings, ...] = ()
    grouping: GroupingRules = GroupingRules()
    health_interval_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    """A backend that goes away is noticed within this time."""
    history_days: float = 30.0
    history_mb: float = 512.0
    """The history is kept for so many days, and as long as it needs no more than this; the oldest goes first."""
    drain_seconds: float = 10.0
    """How long a stopping process waits for work in hand."""


SETTINGS = "settings"
"""The source of a price that stands in the settings."""
ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "TURNOUT_ROOMS": ("rooms",),
    "TURNOUT_DATA_DIR": ("data_dir",),
    "TURNOUT_INSTANCE": ("instance",),
    "TURNOUT_DISCOVER": ("discover",),
    "TURNOUT_NATS_URL": ("nats", "url"),
    "TURNOUT_NATS_PORT": ("nats", "port"),
    "TURNOUT_NATS_TOKEN": ("nats", "token"),
    "TURNOUT_NATS_SYNC": ("nats", "sync"),
    "TURNOUT_NATS_WAIT_SECONDS": ("nats", "wait_seconds"),
    "TURNOUT_DEADLINE_SECONDS": ("jobs", "deadline_seconds"),
}


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, ...], Any] | None = None,
) -> Settings:
    """The settings tree. Raises SettingsError.

    `path` is a TOML file (absent: defaults), `flags` maps a path in the tree to a value that was given by hand.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            text = f"settings file {path}: {error.strerror or error}"
            raise SettingsError(text) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            text = f"settings file {path}: not valid TOML: {error}"
            raise SettingsError(text) from error
    for name, place in ENVIRONMENT.items():
        if environment and environment.get(name):
            _put(tree, place, environment[name])
    for place, value in (flags or {}).items():
        if value is not None:
            _put(tree, place, value)
    _check_keys(tree, Settings, "")
    _mark_prices(tree)
    where = f" in {path}" if path else ""
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_in_words(str(error), tree, path, environment or {}, flags or {})) from error
    for backend in settings.backends:
        try:
            _ = urlsplit(backend.url).port
        except ValueError as error:
            text = f"settings{where}: backend {backend.name!r}: url is {backend.url!r}: {error}"
            raise SettingsError(text) from error
    settings = _with_catalogue(settings, environment or {})
    for problem in contradictions(settings):
        text = f"settings{where}: {problem}"
        raise SettingsError(text)
    return settings


def _with_catalogue(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """The settings with the backends that `MODEL_CATALOG` names by their addresses."""
    known = settings.backends
    found = named_backends(environment, urls=[one.url for one in known], names=[one.name for one in known])
    if not found:
        return settings
    made = (
        BackendSettings(
            name=one.name, protocol=one.protocol, url=one.url, local=one.local, provider=one.provider,
            priority=1 if one.local else 2, api_key_env=one.api_key_env, models=one.models,
        )
        for one in found
    )  # fmt: skip
    return msgspec.structs.replace(settings, backends=(*known, *made))


_AT = re.compile(r" - at `\$\.?([^`]*)`")
_BOUND = re.compile(r"Expected `(?:int|float)` (<=|>=) ([\d.]+)\Z")
_ENUM = re.compile(r"Invalid enum value .*")


def _in_words(
    fault: str,
    tree: Mapping[str, Any],
    path: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, ...], Any],
) -> str:
    """A decoder's complaint with where it comes from (file and line, variable or flag), the key, its value and the choices."""
    found = _AT.search(fault)
    place = _place(found[1] if found else "")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "settings"
    value, kind = _value_at(tree, place), _type_at(place)
    why = _BOUND.sub(
        lambda bound: f"use {'at most' if bound[1] == '<=' else 'at least'} {bound[2]}", _AT.sub("", fault)
    )
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if choices and (_ENUM.match(why) or "Expected" in why):
        close = difflib.get_close_matches(str(value), [str(one) for one in choices], n=1, cutoff=0.5)
        why = f"use {', '.join(map(str, choices))}" + (f"; did you mean {close[0]}?" if close else "")
    names = tuple(part for part in place if isinstance(part, str))
    variable = next((name for name, there in ENVIRONMENT.items() if there == names and environment.get(name)), "")
    if names in flags and flags[names] is not None:
        source = "the command line"
    elif variable:
        source = variable
    elif path is not None:
        line = toml_lines.line_of(toml_lines.lines(path.read_text(encoding="utf-8")), place)
        source = f"{path}:{line}"
    else:
        source = "settings"
    said = "" if isinstance(value, dict | list | None) else f" is {value!r}"
    return f"{source}: {key}{said}: {why}"


def _place(text: str) -> tuple[str | int, ...]:
    """`budgets[...].scope` has lost which one it is, so the first that is wrong stands for it."""
    parts: list[str | int] = []
    for part in text.split(".") if text else ():
        name, *rest = part.split("[")
        parts += [name] if name else []
        parts += [int(one.rstrip("]")) for one in rest if one.rstrip("]").isdigit()]
    return tuple(parts)


def _value_at(tree: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _type_at(place: tuple[str | int, ...]) -> Any:
    """The type of a setting; None when it is in none of our tables."""
    kind: Any = Settings
    for part in place:
        kind = _plain(kind)
        if isinstance(part, int):
            kind = next((one for one in get_args(kind) if one is not Ellipsis), None)
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = next((one.type for one in msgspec.structs.fields(kind) if one.encode_name == part), None)
        else:
            return None
    return _plain(kind)


def _plain(kind: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        kind = next((one for one in get_args(kind) if one is not type(None)), kind)
        return _plain(kind)
    return kind


def _put(tree: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for key in place[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            text = f"{key} is {str(inner)[:80]}: use a table, as in [{key}]"
            raise SettingsError(text)
        tree = cast("dict[str, Any]", inner)
    tree[place[-1]] = value


def _check_keys(tree: Mapping[str, Any], kind: Any, at: str) -> None:
    """Refuse unknown keys with the nearest known name."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in tree.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f" Did you mean {at}{close[0]}?" if close else f" Known: {', '.join(fields)}."
            text = f"{at}{key} is not a setting.{hint}"
            raise SettingsError(text)
        inner: Any = fields[key]
        if isinstance(value, dict) and _is_section(inner):
            _check_keys(cast("dict[str, Any]", value), inner, f"{at}{key}.")
        elif isinstance(value, list):
            part = next(iter(getattr(inner, "__args__", ())), None)
            for item in cast("list[Any]", value):
                if isinstance(item, dict) and _is_section(part):
                    _check_keys(cast("dict[str, Any]", item), part, f"{at}{key}.")


def _mark_prices(tree: Mapping[str, Any]) -> None:
    """Prices say that they stand in the settings: a zero that is written down is a price, and one that is left out is none."""
    for backend in _tables(tree.get("backends")):
        for model in _tables(backend.get("models")):
            for price in _tables([model.get("price")]):
                if any("per_" in key or key.endswith("_rates") for key in price):
                    price.setdefault("source", SETTINGS)


def _tables(listed: object) -> list[dict[str, Any]]:
    items = cast("list[object]", listed) if isinstance(listed, list) else []
    return [cast("dict[str, Any]", one) for one in items if isinstance(one, dict)]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
