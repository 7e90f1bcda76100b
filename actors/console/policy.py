"""`turnout policy`: check, show, compare, apply and remove the policies that decide where jobs go."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors import node
from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.policy_explain import explain
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.rebalance import user
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, count, day_and_clock, err, out
from actors.console.tables import show
from bus import codec
from bus.bus import Bus, Conflict
from messages import PoliciesAre, PoliciesOf, Policy, Rule

Action = Literal["check", "show", "diff", "apply", "remove", "use", "explain"]
_NEEDS: dict[Action, tuple[int, int, str]] = {
    "check": (1, 1_000, "the files, as in: turnout policy check mine.toml"),
    "show": (0, 1, "one name, or none for all, as in: turnout policy show roles"),
    "diff": (1, 1, "one file, as in: turnout policy diff mine.toml"),
    "apply": (1, 1, "one file, as in: turnout policy apply mine.toml"),
    "remove": (1, 1, "one name, as in: turnout policy remove mine"),
    "explain": (1, 1, "one job, as in: turnout policy explain JOB"),
    "use": (0, 1, "one set, or none to see them, as in: turnout policy use 002"),
}
PATIENCE_SECONDS = 3.0
"""So long the router has to take up what was stored."""


def policy(
    action: Annotated[
        Action,
        Parameter(help="check FILE..., show [NAME], diff FILE, apply FILE, remove NAME, use [SET], or explain JOB."),
    ],
    *names: Annotated[str, Parameter(help="Files, the name of a policy or of a set, or a job.")],
    toml: Annotated[bool, Parameter(help="show: as a file that `apply` takes.", negative="")] = False,
    by: Annotated[str, Parameter(help="apply, remove, use: who does it, for the record. [your user name]")] = "",
    tenant: Annotated[str, Parameter(help="explain: whose job it is.")] = "default",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Check, show, compare, apply or remove policies. All but `check` ask the router of the running deployment.

    `use` chooses which shipped policies say where jobs go: a set (000 to 004), or `default` for all; your own ones stay.
    `explain` shows which rule set which field of a job's plan. A file that is wrong is refused with file, line and field, and
    what is in force stays. Exit codes: 0 fine, 1 refused, 2 wrong usage, 3 no bus.
    """
    least, most, wanted = _NEEDS[action]
    if not least <= len(names) <= most:
        raise Wrong(f"`policy {action}` got {count(len(names), 'argument')}", wanted)
    if toml and action != "show":
        raise Wrong(f"--toml is for `policy show`, not for `policy {action}`")
    if by and action not in ("apply", "remove", "use"):
        raise Wrong(f"--by is for `policy apply`, `policy remove` and `policy use`, not for `policy {action}`")
    match action:
        case "check":
            return check([Path(name) for name in names], output)
        case "show":
            return play(_show(names[0] if names else "", where, output, toml=toml))
        case "diff":
            return play(_diff(Path(names[0]), where, output))
        case "apply":
            return play(_apply(Path(names[0]), by or user(), where, output))
        case "remove":
            return play(_remove(names[0], by or user(), where, output))
        case "explain":
            return play(explain(names[0], tenant, where, output))
        case "use":
            return play(_use(names[0], by or user(), where, output)) if names else _sets(output)


def check(files: Sequence[Path], output: Output = TEXT) -> int:
    """Say what is wrong in the files, and what is odd; no bus is needed."""
    others, _ = node.routing(os.environ)
    told: list[dict[str, object]] = []
    for file in files:
        try:
            found = node.read_policy(file, os.environ)
        except node.policyfile.PolicyError as error:
            faults = [str(fault) for fault in error.faults]
            told.append({"file": str(file), "ok": False, "policy": None, "faults": faults, "warnings": []})
            for fault in faults if not output.machine else ():
                out.print(clean(fault), soft_wrap=True)
            continue
        odd = odd_in(found, others, file)
        told.append({"file": str(file), "ok": True, "policy": found.policy, "faults": [], "warnings": odd})
        others = (*others, found)
        if not output.machine:
            _warn(odd)
            more = f", {count(len(odd), 'warning')}" if odd else ""
            out.print(clean(f"{file}: ok: policy {found.policy}{more}"), soft_wrap=True)
    if output.machine:
        output.rows(told)
    return OK if all(one["ok"] for one in told) else FAILED


def odd_in(found: Policy, others: Sequence[Policy], file: Path) -> list[str]:
    """What is odd about a policy."""
    text = file.read_text(encoding="utf-8-sig")
    return [str(one) for one in node.policyfile.warnings(found, others, file=str(file), text=text)]


def _warn(odd: Sequence[str]) -> None:
    for warning in odd:
        err.print(Text.assemble(("warning: ", "yellow"), clean(warning)), soft_wrap=True)


def _read(file: Path, *, stays: str = "") -> Policy:
    """A file's policy, with where it comes from. Raises Complaint that lists its faults."""
    try:
        found = node.read_policy(file, os.environ)
    except node.policyfile.PolicyError as error:
        faults = "\n  ".join(str(fault) for fault in error.faults)
        raise Complaint(f"{count(len(error.faults), 'fault')}{stays}\n  {faults}") from None
    return found if found.source else msgspec.structs.replace(found, source=file.name)


# ------------------------------------------------------------------------------------------------ what holds


async def _held(bus: Bus) -> tuple[Policy, ...]:
    """All policies in force, in the order they speak."""
    await check_there(bus)
    return (await ask(bus, PoliciesOf(), PoliciesAre)).policies


def _named(name: str, held: Sequence[Policy]) -> Policy:
    """The policy of this name. Raises Complaint with the nearest one."""
    for one in held:
        if one.policy == name:
            return one
    known = [one.policy for one in held]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"in force are {', '.join(known)}" if known else "none is in force"
    raise Complaint(f"no policy called {name!r} is in force: {hint}")


async def _show(name: str, where: Where, output: Output, *, toml: bool) -> int:
    async with reach(where) as bus:
        held = await _held(bus)
    if name:
        held = (_named(name, held),)
    elif toml and len(held) != 1:
        raise Wrong("--toml shows one policy", f"turnout policy show {held[0].policy if held else 'NAME'} --toml")
    if output.machine and not toml:
        if name:
            output.one(held[0])
        else:
            output.rows(held)
    elif toml:
        out.file.write(node.policyfile.to_toml(held[0]))
    elif name:
        _show_one(held[0], wide=output.wide)
    elif held:
        _show_all(held, wide=output.wide)
    else:
        err.print("no policy is in force")
    return OK


def _show_all(held: Sequence[Policy], *, wide: bool) -> None:
    cells: dict[str, list[Text | str]] = {
        "policy": [Text(clean(one.policy), "bold") for one in held],
        "version": [str(one.version) for one in held],
        "order": [str(one.order) for one in held],
        "strategy": [clean(one.strategy or "-") for one in held],
        "rules": [str(len(one.rules)) for one in held],
        "chains": [str(len(one.chains)) for one in held],
        "models": [str(len(one.models)) for one in held],
        "from": [clean(one.source or "-") for one in held],
        "applied": [_applied(one) for one in held],
    }
    right = ("version", "order", "rules", "chains", "models")
    fold = {"policy": 16, "from": 10, "applied": 19}
    show(cells, right=right, fold=fold, drop=("chains", "models", "from", "applied"), wide=wide)
    if silent := node.silent(held):
        names = ", ".join(one.policy for one in held if one.policy in silent)
        err.print(clean(f"set aside by `policy use`, but for what they know of models: {names}"), style="yellow")
    err.print("the first to say something about a matter decides it; `turnout policy show NAME` shows one", style="dim")


def _applied(one: Policy) -> str:
    if not one.applied_at:
        return "shipped"
    by = f" by {clean(one.applied_by)}" if one.applied_by else ""
    return f"{day_and_clock(one.applied_at)}{by}"


def _show_one(one: Policy, *, wide: bool) -> None:
    source = f", from {one.source}" if one.source else ""
    out.print(
        Text(clean(f"{one.policy}@{one.version}, order {one.order}{source}, applied: {_applied(one)}"), "bold"),
        soft_wrap=True,
    )
    if one.rules:
        cells = {name: [row[at] for row in map(_rule, one.rules)] for at, name in enumerate(_RULE)}
        show(cells, right=("fallbacks",), fold={"rule": 14, "for": 16, "pool": 16, "strategy": 12}, wide=wide)
    rest = node.policyfile.to_toml(msgspec.structs.replace(one, rules=()))
    out.print(clean(rest), end="", soft_wrap=True)


_RULE = ("rule", "for", "strategy", "pool", "fallbacks")


def _rule(rule: Rule) -> tuple[str, ...]:
    wanted = msgspec.to_builtins(rule.match)
    return (
        clean(rule.name),
        clean("; ".join(f"{field} {', '.join(values)}" for field, values in wanted.items()) or "all"),
        clean(rule.strategy or "-"),
        clean(", ".join(rule.pool) or "everybody") + (" only" if rule.strict else ""),
        str(rule.fallbacks) if rule.pool else "-",
    )


# --------------------------------------------------------------------------------------------------- changes


async def _diff(file: Path, where: Where, output: Output) -> int:
    new = _read(file)
    async with reach(where) as bus:
        held = await _held(bus)
    odd, old = odd_in(new, held, file), next((one for one in held if one.policy == new.policy), None)
    if output.machine:
        output.one({"policy": new.policy, "new": old is None, "changes": _changes(old, new), "warnings": odd})
        return OK
    _warn(odd)
    _print_changes(old, new)
    return OK


def _changes(old: Policy | None, new: Policy) -> list[str]:
    """What is different."""
    return [str(change) for change in node.policyfile.differences(old or Policy(policy=new.policy), new)]


def _print_changes(old: Policy | None, new: Policy) -> bool:
    """Print what is different; whether anything is."""
    found = _changes(old, new)
    if old is None:
        out.print(clean(f"{new.policy} is new"), style="bold")
    elif not found:
        out.print(clean(f"{new.policy} is in force like this already, as version {old.version}"))
    for change in found:
        out.print(clean(f"  {change}"), soft_wrap=True)
    return old is None or bool(found)


async def _apply(file: Path, by: str, where: Where, output: Output) -> int:
    new = _read(file, stays="; nothing is applied, and what is in force stays in force:")
    async with reach(where) as bus:
        held = await _held(bus)
        odd, old = odd_in(new, held, file), next((one for one in held if one.policy == new.policy), None)
        if output.machine and old is not None and not _changes(old, new):
            output.one(_stands(old))
            return OK
        if not output.machine:
            _warn(odd)
            if not _print_changes(old, new):
                return OK
        stored = await _store(bus, new, old, by)
        return await _confirm(bus, stored, output)


async def _remove(name: str, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        old = _named(name, await _held(bus))
        stored = await _store(bus, msgspec.structs.replace(old, removed=True), old, by)
        return await _confirm(bus, stored, output)


SET = "set"
"""The policy that says which shipped ones speak."""
DEFAULT = "default"
"""The set of all."""


def _sets(output: Output) -> int:
    """Which sets there are."""
    sets = node.named_sets()
    if output.machine:
        output.rows([{"set": DEFAULT}, *({"set": name, **msgspec.to_builtins(one)} for name, one in sets.items())])
        return OK
    cells: dict[str, list[Text | str]] = {
        "set": [Text(name, "bold") for name in (DEFAULT, *sets)],
        "from": ["turnout", *(clean(one.source) for one in sets.values())],
        "shipped policies that speak": ["all", *(", ".join(one.shipped or ()) for one in sets.values())],
        "strategy": ["-", *(clean(one.strategy or "-") for one in sets.values())],
    }
    show(cells, fold={"from": 12, "shipped policies that speak": 20}, wide=output.wide)
    return OK


async def _use(name: str, by: str, where: Where, output: Output) -> int:
    """Let a set speak; what people applied themselves stays."""
    sets = node.named_sets()
    if name != DEFAULT and name not in sets:
        raise Wrong(f"no set is called {name!r}", f"use one of {', '.join((DEFAULT, *sets))}")
    async with reach(where) as bus:
        held = await _held(bus)
        old = next((one for one in held if one.policy == SET), None)
        if name == DEFAULT:
            if old is not None:
                return await _confirm(
                    bus, await _store(bus, msgspec.structs.replace(old, removed=True), old, by), output
                )
            if output.machine:
                output.one({"set": DEFAULT})
            else:
                out.print("all shipped policies speak already")
            return OK
        new = sets[name]
        there = {one.policy: one for one in held}
        for one in new.shipped or ():
            if one not in there:
                raise Complaint(f"the policy {one} of this set was removed", hint="write it anew, and apply it first")
            if there[one].version:
                err.print(clean(f"{one} is one that was applied here, by {there[one].applied_by}, and stays"))
        if output.machine and old is not None and not _changes(old, new):
            output.one(_stands(old))
            return OK
        if not output.machine and not _print_changes(old, new):
            return OK
        return await _confirm(bus, await _store(bus, new, old, by), output)


async def _store(bus: Bus, new: Policy, old: Policy | None, by: str) -> Policy:
    """Write the version after `old`, which is in force, unless somebody else was quicker. Raises Complaint."""
    text = f"somebody else changed {new.policy} at this moment; nothing is applied, and theirs is in force"
    quicker = Complaint(text, hint="look at it with `turnout policy diff`, then once more")
    record = await bus.last(Policy.channel.stream, new.subject)
    version, seq = old.version if old else 0, record.seq if record else 0
    if record is not None and record.data:  # A deleted one has none.
        try:
            there = codec.decode(Policy, record.data, record.headers)
        except codec.Undecodable:  # From another version of turnout, or damaged: the next one replaces it.
            err.print(clean(f"what was stored as {new.policy} can't be read, and is replaced"), style="yellow")
        else:
            if (None if there.removed else there.version) != (old.version if old else None):
                raise quicker
            version = there.version
    stored = msgspec.structs.replace(new, version=version + 1, applied_at=bus.now(), applied_by=by)
    try:
        await bus.put_fact(stored.subject, codec.encode(stored), expected_revision=seq)
    except Conflict:
        raise quicker from None
    return stored


def _stands(one: Policy) -> dict[str, object]:
    return {
        "policy": one.policy,
        "version": one.version,
        "by": one.applied_by,
        "at": one.applied_at,
        "removed": one.removed,
    }


async def _confirm(bus: Bus, stored: Policy, output: Output) -> int:
    """Wait until the router has taken it up."""
    patience = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        held = (await ask(bus, PoliciesOf(name=stored.policy), PoliciesAre)).policies
        versions = [one.version for one in held]
        if (not versions) if stored.removed else (versions and versions[0] >= stored.version):
            break
        if asyncio.get_running_loop().time() > patience:
            text = f"{stored.policy} is stored as version {stored.version}, but the router has not taken it up yet"
            raise Complaint(text, hint="turnout policy show")
        await asyncio.sleep(0.05)
    if output.machine:
        output.one(_stands(stored))
        return OK
    what = "removed" if stored.removed else "applied"
    out.print(clean(f"{what} {stored.policy}, version {stored.version}, by {stored.applied_by}"), soft_wrap=True)
    return OK
