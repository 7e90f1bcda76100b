"""The story of one job, told from its stored events: what it needed, each round, and its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from actors.console.answer_notes import ENDED, call_in_words
from actors.console.rounds import head, line, tell_decision
from actors.console.screen import ENDINGS, clean, clock, count, day_and_clock, dollars, one_line, seconds
from actors.course import Course, awaited_in_words, hold_in_words, standing, wait_in_words
from messages import (
    Analyzed,
    Attempted,
    DeadLetter,
    Decided,
    Done,
    Due,
    Explained,
    Granted,
    Held,
    Message,
    Needs,
    Problem,
    Refused,
    Rerouted,
    Result,
    Retry,
    Started,
)

OUTPUT_CHARACTERS = 2_000
FILES = 12


def tell(events: Iterable[Message], *, verbose: bool = False, now: float = 0.0) -> Iterator[RenderableType]:
    """Everything worth telling, in the order of the events."""
    told = list(events)
    given_up = [event.gave_up for event in told if isinstance(event, Decided) and event.gave_up]
    explained = {event.n: event for event in told if isinstance(event, Explained)}
    billed_in_all = _billed_in_all(told)
    for event in told:
        match event:
            case Analyzed():
                yield from _analyzed(event)
            case Decided():
                yield from tell_decision(event, explained.get(event.n), verbose=verbose)
            case Granted():
                yield from _granted(event)
            case Started() if verbose or event.purpose == "drain":
                yield line("started", "cyan", f"on {event.instance} at {clock(event.at)}")
            case Attempted():
                yield from _attempted(event)
            case Retry() if event.not_before > event.at:
                yield line("waits", "yellow", _wait(event))
            case Held():
                yield line("held", "bold yellow", f"since {clock(event.at)} for {hold_in_words(event)}")
                yield line("", "", event.problem.message)
                yield line("", "", f"it ends by itself at {day_and_clock(event.until)}")
            case Due() if event.woken_by is not None:
                yield line("goes on", "cyan", f"{awaited_in_words(event.woken_by)}: that has come")
            case Rerouted():
                yield line("rerouted", "yellow", reroute_in_words(event))
            case Refused(word="submit"):
                yield line("refused", "red", f"a second submission under this id: {event.problem.message}")
            case Refused():
                yield line("refused", "yellow", f"a {event.word}: {event.problem.message}")
            case DeadLetter():
                yield line("unreadable", "red", f"{event.problem.message}; it began with {event.head!r}")
            case Done():
                yield from _done(event, billed_in_all, told_already=event.problem in given_up)
            case _:
                pass
    if not any(isinstance(event, Done) for event in told):
        yield from _not_yet(told, now)


def _wait(retry: Retry) -> str:
    most = f"{seconds(retry.not_before - retry.at)} at most"
    if not retry.awaiting:
        return f"{most} before the next round"
    return f"for {wait_in_words(retry)}; it looks again after {most}"


def _not_yet(told: list[Message], now: float) -> Iterator[RenderableType]:
    """Where a job is that has not ended, in the end, where it is seen first."""
    there = standing(course_of(told), now)
    place = f" {there.backend}/{there.model}" if there.backend else ""
    since = f" for {seconds(now - there.since)}" if there.since is not None and now > there.since else ""
    yield Text(clean(f"\nIt has not ended yet: {there.state}{place}{since}"), style="bold yellow")
    if there.waits_for:
        yield line("waits for", "yellow", there.waits_for)
    job = next((f" --job {event.job}" for event in told if isinstance(event, Analyzed)), "")
    yield Text(clean(f"`turnout watch{job}` shows what comes."), style="dim")


def course_of(told: Iterable[Message]) -> Course:
    """The same events as what a job has come through."""
    latest: dict[type[Message], Any] = {}
    attempted: list[Attempted] = []
    for event in told:
        if isinstance(event, Attempted):
            attempted.append(event)
        elif isinstance(event, Analyzed | Granted | Started | Retry | Due | Held):
            before = latest.get(type(event))
            if before is None or getattr(event, "n", 0) >= getattr(before, "n", 0):
                latest[type(event)] = event
    return Course(
        analyzed=latest.get(Analyzed), granted=latest.get(Granted), started=latest.get(Started), attempted=tuple(attempted),
        retry=latest.get(Retry), due=latest.get(Due), held=latest.get(Held),
    )  # fmt: skip


def reroute_in_words(event: Rerouted) -> str:
    """Where a job goes after a failure, and what changes with it."""
    same = event.from_backend == event.to_backend
    way = f"{event.to_backend} once more" if same else f"{event.from_backend} → {event.to_backend}"
    return f"{way}; {'; '.join(event.changes)}" if event.changes else way


def _analyzed(event: Analyzed) -> Iterator[RenderableType]:
    if event.slip is None:
        yield head(f"Not accepted at {day_and_clock(event.at)}")
        if event.rejected:
            yield from _problem(event.rejected)
        return
    slip = event.slip
    yield head(f"Accepted at {day_and_clock(slip.submitted_at)}")
    yield line("needs", "cyan", needs_in_words(slip.needs))
    for why in slip.needs.why:
        yield line("", "", why, "dim")
    yield line(
        "deadline", "cyan", f"{clock(slip.deadline_at)} ({seconds(slip.deadline_at - slip.submitted_at)} in all)"
    )


def needs_in_words(needs: Needs) -> str:
    """What a job needs on one line."""
    made = made_in_words(needs)
    parts = [made] if made else [] if needs.asset == "text" else [needs.asset]
    parts.append(f"{needs.task}, {needs.quality}, {needs.complexity} (score {round(needs.complexity_score, 1):g})")
    if not made:
        parts.append(f"~{count(needs.input_tokens, 'token')} in, at most {needs.max_output_tokens:,} out")
    parts += [f"must have {', '.join(needs.capabilities)}"] if needs.capabilities else []
    parts += [f"model {needs.model}"] if needs.model else []
    parts += [f"recipe {needs.recipe}"] if needs.recipe else []
    parts += [f"would like {', '.join(needs.preferred)}"] if needs.preferred else []
    parts += [f"prefers {needs.preferred_model}"] if needs.preferred_model else []
    parts += [f"prefers {needs.preferred_backend}"] if needs.preferred_backend else []
    parts += [] if needs.allow_cloud else ["local only"]
    parts += ["speed first"] if needs.prioritize_speed else []
    if needs.max_cost_microdollars is not None:
        parts.append(f"at most {dollars(needs.max_cost_microdollars) if needs.max_cost_microdollars else '$0'}")
    return "; ".join(parts)


def made_in_words(needs: Needs) -> str:
    """What a media job makes: `2 images of 1024x768`, `1 video of 768x512, 4 s`; empty for text and embeddings."""
    it = needs.media
    size = f"{it.width}x{it.height}" if it.width and it.height else ""
    length = f"{it.seconds:g} s" if it.seconds else count(it.frames, "frame") if it.frames else ""
    match needs.asset:
        case "image":
            return f"{count(it.images or 1, 'image')}{f' of {size}' if size else ''}"
        case "video":
            how = ", ".join(part for part in (size, length) if part)
            return f"1 video{f' of {how}' if how else ''}"
        case "audio":
            return f"{length} of audio" if it.seconds else "1 sound"
        case _:
            return ""


def _granted(event: Granted) -> Iterator[RenderableType]:
    for skipped in event.skipped:
        yield line("passed", "yellow", f"{skipped.backend}: {skipped.reason}")
    if event.verdict == "candidate":
        # The same worst case is held on every budget that fits the job: it is no sum.
        held = max((one.amount for one in event.reserved if one.unit == "microdollars"), default=0)
        probe = ", as the trial call of its breaker" if event.probe else ""
        reserved = f", {dollars(held)} reserved" if held else ""
        yield line("granted", "cyan", f"{event.backend}/{event.model}{reserved}{probe}")
    elif event.verdict == "refused":
        yield line("refused", "yellow", "no candidate may run now")
    else:
        yield line("void", "dim", "the job had ended meanwhile")


def billed(event: Attempted) -> str:
    """What an attempt cost, in words."""
    if event.unpriced:
        return "at a price that nobody knows"
    return f"billed {dollars(event.billed_microdollars)}" if event.billed_microdollars else "free"


def _attempted(event: Attempted) -> Iterator[RenderableType]:
    good = event.outcome == "ok"
    parts = [f"{event.backend}/{event.model}: {event.outcome}", seconds(event.latency_seconds)]
    if event.first_token_seconds is not None:
        parts.append(f"first token after {seconds(event.first_token_seconds)}")
    usage = event.usage
    if usage.output_tokens is not None:
        read = f"{usage.input_tokens:,}" if usage.input_tokens is not None else "?"
        parts.append(f"{read} tokens in, {usage.output_tokens:,} out")
    if event.took_up:
        parts.append(f"went on with what attempt {event.took_up} had begun")
    parts.append(billed(event))
    yield line("attempt", "green" if good else "red", ", ".join(parts))
    if event.problem:
        yield from _problem(event.problem)
    if event.partial:
        yield line("", "", f"before that it had written: {one_line(event.partial, 300)}")


def _problem(problem: Problem) -> Iterator[RenderableType]:
    """A problem whole: sentence, field, status, and the backend's own words."""
    yield line("problem", "red", problem.message)
    details = [f"field {problem.field}"] if problem.field else []
    details += [f"HTTP {problem.status}"] if problem.status else []
    details += [f"asked to wait {seconds(problem.retry_after_seconds)}"] if problem.retry_after_seconds else []
    if details:
        yield line("", "", ", ".join(details))
    if problem.body:
        yield Padding(Text(clean(problem.body), style="dim"), (0, 0, 0, 12))


def _billed_in_all(told: list[Message]) -> int | None:
    """What all attempts cost together, those too that ended after their job did; None when nobody knows of one."""
    attempted = {event.n: event for event in told if isinstance(event, Attempted)}.values()
    return None if any(one.unpriced for one in attempted) else sum(one.billed_microdollars for one in attempted)


def _done(event: Done, billed_in_all: int | None, *, told_already: bool) -> Iterator[RenderableType]:
    took = f" after {seconds(event.at - event.submitted_at)}" if event.submitted_at is not None else ""
    yield Text.assemble("\n", (f"{event.ending}{took}", f"bold {ENDINGS.get(event.ending, 'red')}"))
    if event.backend:
        yield line("by", "cyan", f"{event.backend}/{event.model}")
    if event.attempts or billed_in_all:
        cost = None if event.cost_microdollars is None or billed_in_all is None else max(
            event.cost_microdollars, billed_in_all
        )  # fmt: skip
        yield line("cost", "cyan", f"{dollars(cost)} for {count(len(event.attempts), 'attempt')}")
    for met in event.guardrails:
        way = "was passed over" if met.passed_over else "ran all the same"
        yield line("guardrail", "yellow", f"{met.backend}/{met.model} {way}: {met.text}")
    if event.problem and event.ending != "succeeded" and not told_already:
        yield from _problem(event.problem)
    if event.result and event.result.text:
        text = clean(event.result.text)
        cut = f"{text[:OUTPUT_CHARACTERS]} … ({len(text):,} characters)" if len(text) > OUTPUT_CHARACTERS else text
        yield line("answer", "cyan", "")
        yield Padding(Text(cut), (0, 0, 0, 4))
    elif event.result and event.result.ref:
        yield line("answer", "cyan", f"{event.result.ref.size_bytes:,} bytes, kept as {event.result.ref.key}")
    if event.result:
        yield from _made(event.result)


def _made(result: Result) -> Iterator[RenderableType]:
    """How an answer ended, what it calls, its files and embeddings, and what its checks say."""
    if result.finish_reason not in ("", "stop"):
        yield line("ended", "yellow", ENDED.get(result.finish_reason, result.finish_reason))
    if result.refusal:
        yield line("refused", "yellow", one_line(result.refusal, 300))
    for call in result.tool_calls[:FILES]:
        yield line("calls", "cyan", one_line(call_in_words(call), 300))
    if result.reasoning:
        yield line("thought", "dim", f"{count(len(result.reasoning), 'character')}: {one_line(result.reasoning, 120)}")
    if result.embeddings:
        yield line(
            "answer", "cyan", f"{count(len(result.embeddings), 'embedding')} of {len(result.embeddings[0]):,} numbers"
        )
    for one in result.artifacts[:FILES]:
        size = f", {one.width} x {one.height}" if one.width and one.height else ""
        yield line("file", "cyan", f"{one.name}: {one.ref.media_type}{size}, {count(one.ref.size_bytes, 'byte')}")
    if len(result.artifacts) > FILES:
        yield line("", "", f"and {len(result.artifacts) - FILES} more")
    for check in result.checks:
        score = f", {check.score:g} of 5" if check.score is not None else ""
        style = "green" if check.verdict == "pass" else "yellow"
        yield line(
            "check", style, f"{check.name}: {check.verdict}{score}{f': {check.message}' if check.message else ''}"
        )
