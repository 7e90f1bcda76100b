"""What whoever submits a job should know at once: words that mean nothing here. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from messages.deciding import ALSO_CALLED, CLOUD, LOCAL


def remarks_on(role: str, backend: str, roles: Collection[str], providers: Mapping[str, str]) -> tuple[str, ...]:
    """A remark for each of them that is unknown; the job is done all the same.

    `roles` are those that policies name, `providers` the known backends with who sells them.
    """
    found = (_on_role(role, roles), _on_backend(backend, providers))
    return tuple(remark for remark in found if remark)


def _on_role(role: str, roles: Collection[str]) -> str:
    if not role or role in roles:
        return ""
    near = _near(role, roles)
    return f"role {role!r} is in no policy, so none is heeded for it{f': was {near!r} meant?' if near else ''}"


def _on_backend(backend: str, providers: Mapping[str, str]) -> str:
    """Nothing is said while nobody is known yet: then everything would be unknown."""
    sold = {*providers.values(), *(ALSO_CALLED[one] for one in providers.values() if one in ALSO_CALLED)} - {""}
    known = {*providers, *sold, LOCAL, CLOUD}
    if not backend or backend in known or not providers:
        return ""
    near = _near(backend, known)
    hint = f"was {near!r} meant?" if near else "`turnout backends` shows what there is."
    return f"preferred_backend {backend!r} is no backend, no provider, and neither local nor cloud: {hint}"


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else ""
