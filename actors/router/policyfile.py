"""Policy files: TOML whose keys are the fields of `Policy`. Everything wrong in a file is said, with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec

from actors import toml_lines
from actors.router.policy_fault import Fault, PolicyError, dotted, shown
from actors.router.policy_sense import contradictions
from actors.router.policy_text import differences, to_toml
from actors.router.policy_types import fit
from actors.router.policy_warnings import warnings
from messages.policies import Policy

__all__ = ["Fault", "PolicyError", "differences", "load_policy", "read_policy", "to_toml", "warnings"]

LARGEST_BYTES = 512 * 1024
"""A policy travels as one message, which has to stay below the server's payload limit."""

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")


def load_policy(text: str, file: str, *, strategies: Iterable[str]) -> Policy:
    """The policy that a text holds; `file` names it in faults, `strategies` are the names that rules may use.

    Raises PolicyError with everything that is wrong.
    """
    tree = _tree(text, file)
    where = toml_lines.lines(text)
    faults: list[Fault] = []
    spelled = _in_our_words(tree, faults, file)

    def say(path: toml_lines.Path, value: Any, message: str) -> None:
        path = (
            path if len(path) < len(("guardrails", 0, "")) else (*path[:2], spelled.get(path[:3], path[2]), *path[3:])
        )
        line = toml_lines.line_of(where, path)
        faults.append(Fault(file=file, line=line, field=dotted(path), value=shown(value), message=message))

    policy = msgspec.convert(fit(tree, Policy, say), Policy)
    contradictions(policy, tree, tuple(strategies), say)
    if faults:
        raise PolicyError(faults)
    return policy


def read_policy(path: Path, *, strategies: Iterable[str]) -> Policy:
    """The policy that a file holds. Raises PolicyError with everything that is wrong, also when it can't be read."""
    name = str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        raise PolicyError([Fault(file=name, message=message)]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = "is not UTF-8: save the file in that encoding"
        raise PolicyError(
            [Fault(file=name, line=line, value=repr(content[error.start : error.end]), message=message)]
        ) from error
    return load_policy(text, name, strategies=strategies)


SEEDS_WORDS = {
    "costLimit": "cost_limit_cents", "tokenLimit": "token_limit", "latencyTargetMs": "latency_target_ms",
    "dropIfOverBudget": "drop_if_over_budget", "routingWeight": "routing_weight",
}  # fmt: skip
"""Seed 003's names of a guardrail's fields; its `costLimit` is in US cents."""


def _in_our_words(tree: dict[str, Any], faults: list[Fault], file: str) -> dict[toml_lines.Path, str]:
    """Write a guardrail's fields as ours, and a single name as a list of one; where which field was written otherwise."""
    spelled: dict[toml_lines.Path, str] = {}
    listed = tree.get("guardrails")
    for index, guard in enumerate(cast("list[Any]", listed) if isinstance(listed, list) else ()):
        if not isinstance(guard, dict):
            continue
        fields = cast("dict[str, Any]", guard)
        for theirs, ours in SEEDS_WORDS.items():
            if theirs in fields:
                if ours in fields:
                    text = f"{theirs} and {ours} are the same: keep one"
                    faults.append(Fault(file=file, field=f"guardrails[{index}].{theirs}", message=text))
                fields[ours] = fields.pop(theirs)
                spelled["guardrails", index, ours] = theirs
        for name in ("model", "workflow", "step", "tenant"):
            if isinstance(fields.get(name), str):
                fields[name] = [fields[name]]
    return spelled


def _tree(text: str, file: str) -> dict[str, Any]:
    """The values of a TOML text."""
    if (size := len(text.encode("utf-8", "surrogatepass"))) > LARGEST_BYTES:
        message = f"has {size:,} bytes: a policy may have {LARGEST_BYTES:,}"
        raise PolicyError([Fault(file=file, message=message)])
    try:
        tree = tomllib.loads(text)
    except RecursionError as error:
        raise PolicyError([Fault(file=file, line=1, message="is nested too deeply")]) from error
    except ValueError as error:
        reason = str(error)
        place = _PLACE.search(reason)
        line = text.count("\n") + (not text.endswith("\n"))
        if place is not None and place[1]:
            line = int(place[1])
        message = f"not valid TOML: {reason[: place.start()] if place else reason}"
        raise PolicyError([Fault(file=file, line=line, message=message)]) from error
    if not tree:
        message = 'the file is empty: begin it with a name, as in policy = "my-policy"'
        raise PolicyError([Fault(file=file, line=1, field="policy", message=message)])
    return tree
