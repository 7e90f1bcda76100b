"""What is permitted in a policy and yet probably not meant: broken principles, unknown names, renamed models. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from actors.router.merging import EVERYBODY, said
from actors.router.policy_fault import Fault, dotted, shown
from actors.router.rulebook import spellings
from actors.toml_lines import Path, line_of, lines
from messages.policies import CatalogueEntry, Match, Policy

_Say = Callable[[Path, str, str], None]

PREMIUM = 5
"""Quality tier whose models get two hops in the cloud before the first local one (requirement C4)."""
CLOUD_HOPS = 2


def warnings(policy: Policy, others: Iterable[Policy], *, file: str = "", text: str = "") -> list[Fault]:
    """What `policy check` warns of; `others` are the policies in force, `text` is the file, for its lines.

    An explicit chain may break the principles of requirement C4; it wins, and this says so.
    """
    in_force = [other for other in others if not other.removed]
    together = sorted([policy, *(o for o in in_force if o.policy != policy.policy)], key=lambda p: (p.order, p.policy))
    where = lines(text) if text else {}
    catalogue: dict[str, CatalogueEntry] = {}
    for one in together:
        for name, entry in one.models.items():
            catalogue.setdefault(name, entry)
    found: list[Fault] = []

    def say(path: Path, value: str, message: str) -> None:
        line = line_of(where, path) if where else 0
        found.append(
            Fault(file=file or policy.policy, line=line, field=dotted(path), value=shown(value), message=message)
        )

    for other in in_force:
        if other.policy == policy.policy:
            for name, entry in policy.models.items():
                old = other.models.get(name)
                if old is not None and (old.model or name) != (entry.model or name):
                    words = f"{name} meant {old.model or name} and now means {entry.model or name}: ids should stay"
                    say(("models", name, "model"), entry.model or name, words)
    known = _names(catalogue, together)
    for index, rule in enumerate(policy.rules):
        for number, name in enumerate(rule.pool):
            if not _is_known(name, known) and rule.pool != EVERYBODY:
                say(("rules", index, "pool", number), name, _unknown(name))
        for number, capability in enumerate(rule.prefers):
            if not any(capability in one.degrade for one in together):
                words = f"no policy says what becomes of a request without {capability}: add it to [degrade]"
                say(("rules", index, "prefers", number), capability, words)
        for earlier in policy.rules[:index]:
            if earlier.pool in ((), EVERYBODY) and _covers(earlier.match, rule.match) and said(rule) <= said(earlier):
                words = f"changes nothing: {earlier.name} matches all of its jobs before it, and says all that it says"
                say(("rules", index), rule.name, words)
                break
    for head, chain in policy.chains.items():
        for number, name in enumerate(chain):
            if not _is_known(name, known):
                say(("chains", head, number), name, _unknown(name))
        _principles(head, chain, catalogue, say)
    _saturation(policy, together, say)
    return found


def _unknown(name: str) -> str:
    return f"{name} is in no catalogue: it only counts where a backend is called so or serves a model of that name"


def _names(catalogue: Mapping[str, CatalogueEntry], policies: Sequence[Policy]) -> set[str]:
    names = {backend for one in policies for backend in one.backends}
    for name, entry in catalogue.items():
        names |= {name, entry.model or name, entry.backend or name}
    return names | {other for name in names for other in spellings(name)}


def _is_known(name: str, known: set[str]) -> bool:
    """A model's name or id, a backend's name, or `backend/model`."""
    return name in known or name.partition("/")[2] in known


def _entry(name: str, catalogue: Mapping[str, CatalogueEntry]) -> tuple[str, CatalogueEntry] | None:
    """The catalogue's entry for a chain's word: by id, else by the model's name."""
    if name in catalogue:
        return name, catalogue[name]
    for known, entry in catalogue.items():
        if not {name, *spellings(name)}.isdisjoint((known, entry.model or known)):
            return known, entry
    return None


def is_cloud(name: str, entry: CatalogueEntry) -> bool:
    """Whether a model runs elsewhere: by its address, else by its tag, as Ollama marks its cloud models."""
    if not entry.base_url:
        return name.endswith(("-cloud", ":cloud"))
    host = urlsplit(entry.base_url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return host != "localhost" and not host.endswith(".local")


def _principles(head: str, chain: Sequence[str], catalogue: Mapping[str, CatalogueEntry], say: _Say) -> None:
    begin = _entry(head, catalogue)
    if begin is None:
        return
    hops = [(number, _entry(name, catalogue)) for number, name in enumerate(chain)]
    if "code" in begin[1].capabilities:
        used = {begin[0]}
        for number, hop in hops:
            if hop is None:
                continue
            spare = [name for name, entry in catalogue.items() if "code" in entry.capabilities and name not in used]
            if "code" not in hop[1].capabilities and spare:
                words = f"{chain[number]} has no code flag: code should stay with models that have it, as {spare[0]}"
                say(("chains", head, number), chain[number], words)
                break
            used.add(hop[0])
    if begin[1].quality_tier == PREMIUM:
        cloud = 0
        for number, hop in hops:
            if hop is None:
                continue
            if is_cloud(*hop):
                cloud += 1
            elif cloud < CLOUD_HOPS:
                words = (
                    f"{chain[number]} is local after {cloud} hops in the cloud: premium models should have {CLOUD_HOPS}"
                )
                say(("chains", head, number), chain[number], words)
                break
            else:
                break


def _covers(wide: Match, narrow: Match) -> bool:
    """Whether every job of the narrow match is one of the wide match."""
    for field in Match.__struct_fields__:
        allowed, given = getattr(wide, field), getattr(narrow, field)
        if allowed and not (given and set(given) <= set(allowed)):
            return False
    return True


def _saturation(policy: Policy, together: Sequence[Policy], say: _Say) -> None:
    """The two bounds may come from two policies; then no file alone shows that they contradict each other."""
    at = next((one.saturated_at for one in together if one.saturated_at is not None), None)
    until = next((one.saturated_until for one in together if one.saturated_until is not None), None)
    if at is None or until is None or until < at:
        return
    for field, own in (("saturated_at", policy.saturated_at), ("saturated_until", policy.saturated_until)):
        if own is not None:
            words = f"with the other policies saturated_until is {until:g} and saturated_at {at:g}: it should be below"
            say((field,), f"{own:g}", words)
