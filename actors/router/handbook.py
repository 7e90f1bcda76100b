"""`docs/routing.md`: which strategy when, pools, chains and presets, made from the policies and strategies themselves.

`python -m actors.router.handbook --write docs/routing.md` writes it anew; a test holds the page against what it would write.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from actors.router.rulebook import Rulebook, spellings
from actors.router.shipped import named_sets, shipped_policies
from actors.router.strategies import STRATEGIES
from messages import Change, Match, Policy, Preset, Rule

HEAD = """# Routing

Generated from the shipped policies and the strategies (`python -m actors.router.handbook --write docs/routing.md`). How to
write a policy: [guides/policies.md](guides/policies.md). How to write a strategy: [guides/strategies.md](guides/strategies.md).

A job goes to a model in four steps. Those that can't run it are filtered out, each with a reason. The rules that match the
job, and whose pool somebody serves, name a strategy and a pool; the nearest that says a field decides it. The strategy scores
the rest, the pool first. Fallbacks follow the chain of the chosen model, else the scores. Every decision says all of this;
`turnout why JOB` prints it, `turnout policy explain JOB` shows which rule set which field.
"""
SETS = """
`turnout policy use SET` lets only some of the shipped policies say where jobs go, as one of the documents has it; `turnout policy
use default` lets all of them speak again. Your own policies stay in force, and come first.
"""
FALLBACKS = """
An explicit chain wins. Where there is none, the next best follows, with these rules: code stays with models that have the
`code` flag while one is available; a premium cloud model (tier 5) is followed by two cloud hops, if they exist, before the
first local one; who failed this job comes last. A backend whose connection or account failed is left out for the job; one whose
model failed is asked for another model only when the chain says so, or nobody else is left.
"""


def page(policies: Sequence[Policy] = ()) -> str:
    """The whole page in Markdown."""
    held = Rulebook(policies or shipped_policies())
    lines = [HEAD, "## Strategies\n", *_strategies()]
    for policy in held.policies:
        lines += [
            f"\n## Policy `{policy.policy}` (order {policy.order}, {policy.source or 'no source'})\n",
            *_policy(policy),
        ]
    if not policies:
        lines += ["\n## Sets of shipped policies\n", SETS, *_sets()]
    lines += ["\n## Fallback chains\n", FALLBACKS, *_chains(held)]
    lines += ["\n## Models by id\n", *_models(held)]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _strategies() -> Iterator[str]:
    rows = (
        (f"`{name}`", strategy.summary, ", ".join(strategy.parts) or "one figure", "yes" if strategy.relative else "no")
        for name, strategy in STRATEGIES.items()
    )
    yield from _table(("strategy", "chooses", "score made of", "compares candidates"), rows)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _who(match: Match) -> str:
    said = [
        f"{field.replace('_', ' ')} {' or '.join(values)}"
        for field in Match.__struct_fields__
        if (values := getattr(match, field))
    ]
    return "; ".join(said) or "every job"


def _policy(policy: Policy) -> Iterator[str]:
    said = list(_numbers(policy))
    if said:
        yield from (f"- {line}" for line in said)
        yield ""
    if policy.rules:
        rows = (
            (rule.name, _who(rule.match), f"`{rule.strategy}`" if rule.strategy else "-", _what(rule))
            for rule in policy.rules
        )
        yield from _table(("rule", "for", "strategy", "pool and conditions"), rows)
    if policy.presets:
        yield ""
        yield from _table(("quality", "changes, where the job does not say so itself"),
                          ((quality, _preset(preset)) for quality, preset in policy.presets.items()))  # fmt: skip


def _sets() -> Iterator[str]:
    rows = (
        (f"`{name}`", one.source, _names(one.shipped or ()), f"`{one.strategy}`" if one.strategy else "-")
        for name, one in named_sets().items()
    )
    yield from _table(("set", "from", "policies that speak", "strategy"), rows)


def _numbers(policy: Policy) -> Iterator[str]:
    if policy.enabled is not None:
        yield f"routing is {'on' if policy.enabled else 'off: the fixed order holds'}"
    if policy.strategy:
        yield f"strategy where no rule says one: `{policy.strategy}`"
    for name in ("failover", "weights", "adaptive", "cost", "analysis"):
        part = getattr(policy, name)
        if part is not None:
            given = ", ".join(
                f"{f} {_shown(getattr(part, f))}" for f in part.__struct_fields__ if getattr(part, f) is not None
            )
            yield f"{name}: {given}"
    if policy.saturated_at is not None:
        until = policy.saturated_until or 0
        yield f"a backend is saturated from {policy.saturated_at:.0%} of its slots on, and no longer under {until:.0%}"
    for capability, step in policy.degrade.items():
        yield f"a preferred `{capability}` that is missing: `{step}`"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " and ".join(_shown(one) for one in cast("tuple[object, ...]", value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _what(rule: Rule) -> str:
    said: list[str] = []
    if rule.pool:
        said.append(_names(rule.pool) + (" and nothing else" if rule.strict else ""))
    said += [f"{name}: {_names(members)}" for name, members in rule.classes.items()]
    if rule.shares:
        said.append("shares " + ", ".join(f"`{name}` {share:.0%}" for name, share in rule.shares.items()))
    if rule.overflow:
        said.append(f"overflow to {_names(rule.overflow)}")
    said += [f"requires {_names(rule.requires)}"] if rule.requires else []
    said += [f"prefers {_names(rule.prefers)}"] if rule.prefers else []
    said += [f"answers must have {_names(rule.required_fields)}"] if rule.required_fields else []
    said += [f"{rule.max_attempts} attempts"] if rule.max_attempts else []
    return "; ".join(said) or "all that may run it"


def _preset(preset: Preset) -> str:
    return "; ".join(
        [*_change(preset), *(f"on `{name}`: {', '.join(_change(one))}" for name, one in preset.backends.items())]
    )


def _change(change: Change) -> Iterator[str]:
    for field in Change.__struct_fields__:
        value = getattr(change, field)
        if field == "variants":
            yield from (f"`{model}` runs as `{variant}`" for model, variant in value.items())
        elif value is not None:
            yield f"{field.replace('_', ' ')} {value:,}"


def _chains(held: Rulebook) -> Iterator[str]:
    sizes = {
        spelling: entry.parameters_billion
        for name, entry in held.models.items()
        for spelling in (name, *spellings(name))
    }  # fmt: skip

    def rows() -> Iterator[Sequence[str]]:
        for head, hops in held.chains.items():
            before, start = head, sizes.get(head)
            for number, hop in enumerate(hops):
                yield (
                    f"`{head}`" if not number else "",
                    f"`{hop}`",
                    _step(sizes, before, hop),
                    _against(start, sizes.get(hop)),
                )
                before = hop

    yield from _table(("model", "then", "size against the hop before", "against the first"), rows())


def _step(sizes: Mapping[str, float | None], before: str, hop: str) -> str:
    return _against(sizes.get(before), sizes.get(hop))


def _against(one: float | None, other: float | None) -> str:
    return f"{other / one - 1:+.0%}" if one and other else "unknown"


def _models(held: Rulebook) -> Iterator[str]:
    rows = (
        (
            f"`{name}`",
            f"`{entry.model}`" if entry.model else "itself",
            ", ".join(entry.capabilities) or "-",
            f"{entry.parameters_billion:g} B" if entry.parameters_billion else "-",
            str(entry.quality_tier or "-"),
            f"{entry.context_tokens:,}" if entry.context_tokens else "-",
        )
        for name, entry in sorted(held.models.items())
    )
    yield from _table(("id", "model", "can", "size", "tier", "context"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m actors.router.handbook", description="The page on routing.")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write it to this file")
    target: Path | None = parser.parse_args(arguments).write
    if target is None:
        sys.stdout.write(page())
    else:
        target.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
