"""How every candidate looks at the moment of a decision: the features that strategies score. Pure; the hot path."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from actors.graph_names import GRAPH, lacking
from actors.router.case import Row
from actors.router.fit import sizes
from actors.router.view import Entry, View
from messages import Features, Media, Needs, Parameters, Preset, Stats, adjusted
from messages.fleet import task_key, workflow_key

DEFAULT_JOB_SECONDS = {"image": 10.0, "video": 60.0, "audio": 10.0, "embedding": 0.5}
"""Of a whole job: stated by nobody and not measured yet."""
PRIOR_RUNS = 1.0
"""The stated speed counts as so many measured runs, and what equals have measured together as so many for who is measured."""
FRESH_SECONDS = 60.0
"""Younger measurements are not discounted for their age."""
_NO_PRESET = Preset()
SHORTEST = 1e-6
"""Seconds; a shorter stated time counts as this where its logarithm is taken."""


def remembered(stats: Stats, now: float, stale_seconds: float) -> float:
    """Measured runs that still count: half of them after `stale_seconds` without traffic, a quarter after twice that."""
    age = now - stats.at
    if age <= FRESH_SECONDS:
        return stats.weight
    return stats.weight * 0.5 ** (age / stale_seconds)


def survey(
    needs: Needs, tenant: str, view: View, *, output_share: float, now: float, preset: Preset = _NO_PRESET
) -> list[Row]:
    """A row for every model of every backend, in order of their names. Seconds, micro-dollars, jobs. What is made costs what
    it does in the size that the quality level's `preset` gives it.

    The time of a job is the geometric mean of what was measured there, and, counting as one run, of what its equals measured
    and, as one more, of what is stated. So equal backends are expected to be equal, whichever of them was measured.
    """
    rules = view.rulebook
    stale, since = rules.adaptive.stale_seconds, now - rules.window_seconds
    expected = float(needs.output_tokens or needs.max_output_tokens * output_share)
    tokens_in = needs.input_tokens
    text = needs.asset == "text"
    scopes = _scopes(needs, tenant) if view.scoped else ()
    task = task_key(needs.task) if view.scoped else ""
    saturated_at = rules.saturated_at
    exp, log, ceil = math.exp, math.log, math.ceil
    rows: list[Row] = []
    for entry in graph_entries(needs, view.entries) if needs.media.node_types else view.entries:
        known, there, stats, log_latency = entry.known, entry.there, entry.stats, entry.log_latency
        rating = ratings = runs = spread = measured_at = failure_rate = switch = own = used = queue = wait = (
            open_until
        ) = 0
        ratio, open_cause, open_reason = 1, "", ""
        for scope in scopes:
            found = view.stats.get((entry.backend, entry.model, scope))
            if found is not None and found.weight > 0:
                stats = found
                log_latency = log(found.latency_seconds) if found.latency_seconds else None
                break
        peers, others, others_log = entry.peers, 0, 0.0
        if peers.changed:
            peers.sum_up()
        if peers.weight > entry.weight:  # Its equals are measured.
            age = now - peers.at
            others = peers.weight - entry.weight
            others_log = (peers.total - entry.total) / others
            if age > FRESH_SECONDS:
                others *= 0.5 ** (age / stale)
        twin = stats if stats is not None else peers.best
        limit = known.max_output_tokens
        typical = expected if limit is None or limit > expected else float(limit)
        first = entry.first_seconds if text else 0.0
        if twin is not None:  # How much an answer is belongs to the model, wherever it was measured.
            if text and twin.output_tokens is not None and twin.output_tokens < typical:
                typical = twin.output_tokens
            if twin.input_ratio is not None:
                ratio = twin.input_ratio
        if stats is not None:
            failure_rate, measured_at = stats.failure_rate or 0, stats.at
        if entry.job_seconds is not None:
            service = entry.job_seconds
        elif text:
            service = first + typical / entry.tokens_per_second
        else:
            service = DEFAULT_JOB_SECONDS[needs.asset] * max(1, needs.media.images)
        if others:
            service = exp((others * others_log + log(max(SHORTEST, service))) / (others + PRIOR_RUNS))
        if stats is not None and log_latency is not None:
            runs = remembered(stats, now, stale)
            share = runs / (runs + PRIOR_RUNS)
            service = exp(share * log_latency + (1 - share) * log(max(SHORTEST, service)))
            spread = stats.latency_spread or 0
        if twin is not None and twin.first_token_seconds is not None:
            first = twin.first_token_seconds
        if task:
            rated = view.stats.get((entry.backend, entry.model, task))
            if rated is not None and rated.rating is not None:
                rating, ratings = rated.rating, rated.ratings
        uses = entry.uses
        if uses.times or uses.deciding:
            used = uses.since(since)
        own, saturated = there.own, there.saturated
        ahead = there.ahead + own
        slots = there.slots if there.slots > 0 else 1
        if own and not saturated:
            saturated = there.slots > 0 and ahead / slots >= saturated_at
        if ahead >= slots:
            queue = ahead - slots
            wait = (queue + 1) * service / slots
        loaded = there.loaded is not None and entry.model in there.loaded
        if there.loaded is not None and not loaded:
            switch = known.swap_seconds if stats is None or stats.swap_seconds is None else stats.swap_seconds
        price = known.price
        for breaker in (entry.breaker, there.breaker):
            if breaker is not None and now < breaker.open_until and breaker.open_until > open_until:
                open_until, open_cause, open_reason = breaker.open_until, breaker.cause, breaker.reason
        if entry.flat:
            dollars = (
                tokens_in * ratio * price.input_per_mtok + typical * price.output_per_mtok
            ) / 1e6 + price.per_request
            if not text:
                made = _made(needs, preset, entry.backend)
                dollars += made.images * price.per_image + made.seconds * price.per_second
        else:
            media = None if text else _made(needs, preset, entry.backend)
            dollars = price.cost(ceil(tokens_in * ratio), ceil(typical), media, seconds=service, quality=needs.rated)
        features = Features(
            price_microdollars=dollars,
            service_seconds=service,
            first_token_seconds=first,
            wait_seconds=wait,
            switch_seconds=switch,
            ahead=ahead,
            own=own,
            queue=queue,
            used=used,
            saturated=saturated,
            runs=runs,
            equals=others,
            spread=spread,
            measured_at=measured_at,
            failure_rate=failure_rate,
            input_ratio=ratio,
            rating=rating,
            ratings=ratings,
            vram_free_mb=there.vram_free_mb,
            loaded=loaded,
            open_until=open_until,
            open_cause=open_cause,
            open_reason=open_reason,
        )
        if there.has and needs.media.node_types and (lacks := lacking(there.has, needs.media)):
            known = msgspec.structs.replace(known, lacks=lacks)
        rows.append(Row(entry.backend, entry.model, known, features))
    return rows


def graph_entries(needs: Needs, entries: list[Entry]) -> list[Entry]:
    """Who may stand for a backend where the job brings its own graph: the first of its models that the graph loads, else the
    one that the job names, else the one for any graph. A model that the graph does not use is no candidate.
    """
    checkpoints, least = needs.media.checkpoints, dict[str, int]()
    ranks: list[int] = []
    for entry in entries:
        rank = -1  # It runs no graphs, and is told so.
        if GRAPH in entry.known.capabilities:
            rank = len(checkpoints) + 2
            if entry.model in checkpoints:
                rank = checkpoints.index(entry.model)
            elif needs.model and (needs.model == entry.model or needs.model in entry.known.names):
                rank -= 2
            elif entry.model == GRAPH:
                rank -= 1
            least[entry.backend] = min(rank, least.get(entry.backend, rank))
        ranks.append(rank)
    return [entry for entry, rank in zip(entries, ranks, strict=True) if rank in (-1, least.get(entry.backend))]


def _made(needs: Needs, preset: Preset, backend: str) -> Media:
    """What the backend is asked for: in the size that the quality level gives it."""
    changed: dict[str, Any] = sizes(needs, preset, backend)
    return adjusted(needs.media, Parameters(**changed)) if changed else needs.media


def _scopes(needs: Needs, tenant: str) -> tuple[str, ...]:
    """Where measurements are looked for, the most specific first: of the step, of the workflow."""
    if not needs.workflow:
        return ()
    found = (workflow_key(tenant, needs.workflow),)
    return (workflow_key(tenant, needs.workflow, needs.step), *found) if needs.step else found
