"""Settings: one frozen, validated tree from a TOML file, the environment and flags, in this order of rising weight.

An unknown key is an error that names the nearest known one. Secrets come from the environment or from files, and are
named here, never written.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec

from bus import topology
from messages import Model, Value

Scope = Literal["global", "tenant", "backend", "user", "workflow"]
Unit = Literal["microdollars", "tokens", "requests"]
Window = Literal["minute", "hour", "day", "month", "total"]


class SettingsError(ValueError):
    """A setting is wrong; the text names the key, the value and what would be right."""


class Section(Value, forbid_unknown_fields=True):
    """A table of the settings tree."""


class Budget(Section):
    """One limit: at most `limit` of `unit` per `window` for each value of `scope`."""

    scope: Scope = "global"
    unit: Unit = "microdollars"
    window: Window = "day"
    limit: Annotated[int, msgspec.Meta(ge=0)]
    """0 admits only what costs 0 of the unit."""
    only: str = ""
    """Holds for this tenant, backend, user or workflow alone; empty: for each of them."""

    @property
    def name(self) -> str:
        """How people see it: `tenant acme: 5000000 microdollars per day`."""
        who = f"{self.scope} {self.only}".strip()
        return f"{who}: {self.limit} {self.unit} per {self.window}"


class BreakerRules(Section):
    """When a breaker opens and for how long."""

    failures_in_row: int = 3
    open_seconds: float = 30.0
    """The first opening; doubles with each further one."""
    longest_open_seconds: float = 300.0
    account_seconds: float = 3600.0
    """After an authentication or billing error: repeating can't help until somebody acts."""
    lease_seconds: float = 120.0
    """A probe that has not ended by then is given up."""
    jitter: float = 0.2
    """Part of the time that varies, by a hash of the event."""


class NatsSettings(Section):
    """Where the bus is."""

    url: str = ""
    """`nats://host:port`; empty: an embedded server."""
    port: int = 4222
    """Port of the embedded server; 0: any free one."""
    sync: Literal["default", "always"] = "default"
    """`always` survives power loss as well, at one disk sync per write."""
    replicas: int = 0
    """Copies of each stream in a cluster: 1, 3 or 5; 0: as they are, and 1 for new ones."""


class JobSettings(Section):
    """Defaults and bounds of jobs."""

    deadline_seconds: float = 600.0
    """For jobs that name none."""
    longest_deadline_seconds: float = 86_400.0
    """At most half of the time that events are kept."""


class BackendSettings(Section):
    """One backend, configured by hand."""

    name: str
    protocol: Literal["openai", "ollama"] = "openai"
    url: str
    local: bool = False
    provider: str = ""
    priority: int = 1
    slots: int = 4
    api_key_env: str = ""
    """Name of the environment variable that holds the key; empty: none is sent."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    models: tuple[Model, ...] = ()
    """Absent: asked from the backend."""


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
    budgets: tuple[Budget, ...] = ()
    backends: tuple[BackendSettings, ...] = ()
    history_days: float = 30.0
    drain_seconds: float = 10.0
    """How long a stopping process waits for work in hand."""


ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "TURNOUT_ROOMS": ("rooms",),
    "TURNOUT_DATA_DIR": ("data_dir",),
    "TURNOUT_INSTANCE": ("instance",),
    "TURNOUT_DISCOVER": ("discover",),
    "TURNOUT_NATS_URL": ("nats", "url"),
    "TURNOUT_NATS_PORT": ("nats", "port"),
    "TURNOUT_NATS_SYNC": ("nats", "sync"),
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
    where = f" in {path}" if path else ""
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        text = f"settings{where}: {error}"
        raise SettingsError(text) from error
    for problem in _contradictions(settings):
        text = f"settings{where}: {problem}"
        raise SettingsError(text)
    return settings


def _contradictions(settings: Settings) -> Iterator[str]:
    """What can't hold although every value has the right type."""
    longest, kept = settings.jobs.longest_deadline_seconds, topology.IN.max_age_seconds / 2
    if not 0 < longest <= kept:
        yield f"jobs.longest_deadline_seconds is {longest:g}: use more than 0 and at most {kept:g}, half of what jobs are kept"
    if not 0 < settings.jobs.deadline_seconds <= longest:
        yield f"jobs.deadline_seconds is {settings.jobs.deadline_seconds:g}: use more than 0 and at most {longest:g}"
    for number, budget in enumerate(settings.budgets):
        if budget.limit < 0:
            yield f"budgets[{number}].limit is {budget.limit}: use 0 (only what is free) or more"
        if budget.only and budget.scope == "global":
            yield f"budgets[{number}].only is {budget.only!r}: a global budget is for all; choose another scope or leave it out"
    names = [backend.name for backend in settings.backends]
    for name in names:
        if names.count(name) > 1 or not name:
            yield f"backends.name is {name!r}: give every backend a name of its own"


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


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
