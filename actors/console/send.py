"""Publishing jobs and following them to their ends: subscribe first, then publish, and look directly after every gap."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from actors.console.board import MOST_ANSWERS, Json, Many, One, Screen
from actors.console.files import Upload, upload
from actors.console.follow import Track, Tracks
from actors.console.get import text_of
from actors.console.output import Output
from actors.console.publish import cancel_job, check_sizes, check_there, is_foreign, key_at, publish_all
from actors.console.reach import Where, check_room, reach
from actors.console.screen import FAILED, INTERRUPTED, OK, count, err, out
from actors.console.stop import Stop
from bus import codec
from bus.bus import Bus, BusUnavailable, Headers, Signal
from messages import Analyzed, Done, JobSubmit, Refused, token

SILENCE_SECONDS = 5.0
"""After so long without a word, what is stored is looked at directly."""
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to show it."""

    quiet: bool
    output: Output
    many: bool
    """A file was given, so that even one job is a list of them."""
    wait: bool
    show_answers: bool
    own_ids: bool
    """Some ids are the client's own, so that jobs of these ids may be there already."""
    uploads: tuple[Upload, ...] = ()
    """Files that must be in the object store first."""


def fresh_id() -> str:
    """An id that people can type."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


async def send(jobs: Sequence[JobSubmit], options: Options, where: Where) -> int:
    """Publish the jobs and wait for their ends; the exit code."""
    async with reach(where) as bus:
        check_room(where)
        await check_there(bus)
        check_sizes(bus, jobs)
        await upload(bus, options.uploads, quiet=options.quiet or options.output.machine)
        if not options.wait:
            await publish_all(bus, jobs)
            sent = [{"id": job.id, "tenant": job.tenant} for job in jobs]
            if options.output.machine:
                told(options, sent)
            for job in jobs if not options.output.machine else ():
                out.print(job.id, soft_wrap=True)
            if not options.quiet and not options.output.machine:
                err.print(f"{count(len(jobs), 'job')} sent. `turnout jobs` lists them, `turnout why ID` tells more.")
            return OK
        tracks = Tracks(jobs)
        screen = _screen(tracks, options)
        following = Following(bus, tracks, screen, own_ids=options.own_ids)
        try:
            await following.run(jobs)
        finally:
            screen.pause()
        answers = await _answers(bus, tracks, options)
        screen.finish(tracks, answers)
        if following.interrupted:
            return await _interrupted(bus, tracks, options)
        return OK if all(track.ending == "succeeded" for track in tracks.all.values()) else FAILED


def told(options: Options, sent: Sequence[object]) -> None:
    """What machines get of one job, or of many."""
    if options.many:
        options.output.rows(sent)
    else:
        options.output.one(sent[0])


def _screen(tracks: Tracks, options: Options) -> Screen:
    if options.output.machine:
        return Json(options.output, many=options.many, quiet=options.quiet)
    return One(quiet=options.quiet) if len(tracks.all) == 1 else Many(tracks, quiet=options.quiet)


class Following:
    """Hears the events of the jobs until all have ended or somebody interrupts."""

    def __init__(self, bus: Bus, tracks: Tracks, screen: Screen, *, own_ids: bool) -> None:
        self._bus, self._tracks, self._screen, self._own_ids = bus, tracks, screen, own_ids
        self._foreign: set[tuple[str, str]] = set()
        """Ids under which another job lives: ours is refused, and the end of that one is not ours."""
        self._news = asyncio.Event()
        self._told_lost = False
        self.interrupted = False

    async def run(self, jobs: Sequence[JobSubmit]) -> None:
        """Subscribe, publish, wait."""
        stop = Stop()
        for pattern in patterns(self._tracks):
            await self._bus.subscribe(pattern, self._on_signal)
        self._bus.on_reconnect(self._look)
        sending = asyncio.create_task(self._send(jobs))
        stopping = asyncio.create_task(stop.wanted.wait())
        try:
            await self._wait(sending, stopping)
        finally:
            for task in (sending, stopping):
                task.cancel()
            stop.close()

    async def _send(self, jobs: Sequence[JobSubmit]) -> None:
        numbers = await publish_all(self._bus, jobs)
        if self._own_ids:
            for job in jobs:
                if await is_foreign(self._bus, job, numbers[job.tenant, job.id]):
                    self._foreign.add((job.tenant, job.id))
            await self._look()  # A job of this id may have ended long ago.

    async def _wait(self, sending: asyncio.Task[None], stopping: asyncio.Task[bool]) -> None:
        while self._tracks.open:
            news = asyncio.create_task(self._news.wait())
            tasks: set[asyncio.Task[None] | asyncio.Task[bool]] = {news, stopping}
            if not sending.done():
                tasks.add(sending)
            done, _ = await asyncio.wait(tasks, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            self._news.clear()
            if sending.done():
                sending.result()
            if stopping.done():
                self.interrupted = True
                return
            if not done and sending.done():
                await self._after_silence()

    async def _after_silence(self) -> None:
        try:
            await self._look()
            await self._is_anybody_there()
            self._told_lost = False
        except BusUnavailable:
            if not self._told_lost:
                self._screen.note("the bus does not answer any more; waiting for it (Ctrl-C leaves, the jobs are kept)")
            self._told_lost = True

    async def _on_signal(self, signal: Signal) -> None:
        self._hear(signal.subject, signal.data, signal.headers)

    def _hear(self, subject: str, data: bytes, headers: Headers) -> None:
        kind = codec.type_at(subject)
        if self._foreign and kind is Done and key_at(subject) in self._foreign:
            return
        heard = self._tracks.hear(subject, data, headers)
        if heard is not None:
            self._screen.heard(*heard)
            self._news.set()

    async def _look(self) -> None:
        """Read the ends directly, of up to a few hundred open jobs: signals may have been missed."""
        for tenant, job in sorted(self._tracks.open)[:400]:
            kind = Refused if (tenant, job) in self._foreign else Done
            record = await self._bus.last("EV", kind.channel.key_of(tenant=tenant, job=job))
            if record is not None:
                self._hear(record.subject, record.data, record.headers)

    async def _is_anybody_there(self) -> None:
        """Say so when nobody takes the jobs at all."""
        silent = [track for track in self._tracks.all.values() if track.stage == "sent"]
        if not silent or len(silent) < len(self._tracks.all):
            return
        one = silent[0]
        if await self._bus.last("EV", Analyzed.channel.key_of(tenant=one.tenant, job=one.job)) is None:
            self._screen.note("nobody takes the job: is `turnout dev` (or `turnout run front`) running on this bus?")
        one.stage = "choosing"


def patterns(tracks: Tracks) -> list[str]:
    """The public subjects to hear: of one job alone, or of the tenants."""
    if len(tracks.all) == 1:
        ((tenant, job),) = tracks.all
        return [f"job.*.{token(tenant)}.{token(job)}", f"job.*.{token(tenant)}.{token(job)}.*"]
    return [f"job.*.{token(tenant)}.>" for tenant in sorted({tenant for tenant, _ in tracks.all})]


async def _answers(bus: Bus, tracks: Tracks, options: Options) -> dict[tuple[str, str], str]:
    """The texts of the jobs that succeeded, those in the object store included."""
    found: dict[tuple[str, str], str] = {}
    if len(tracks.all) > MOST_ANSWERS and not options.output.machine and not options.show_answers:
        return found
    for key, track in tracks.all.items():
        result = track.done.result if track.done else None
        if result is None or track.ending != "succeeded":
            continue
        if result.ref is not None:
            data = await bus.get_object(result.ref.key)
            found[key] = data.decode("utf-8", "replace") if data is not None else "(the answer is no longer kept)"
        elif (text := text_of(result)) or not result.artifacts:
            found[key] = text
    return found


async def _interrupted(bus: Bus, tracks: Tracks, options: Options) -> int:
    """Somebody pressed Ctrl-C: leave the jobs alone unless told otherwise, and say how to go on."""
    left: list[Track] = [tracks.all[key] for key in sorted(tracks.open)]
    if not left or options.output.machine:
        return INTERRUPTED
    if err.is_terminal and not options.quiet:
        err.print(f"\n{count(len(left), 'job')} not done yet. Cancel? [y/N] ", end="", style="bold")
        try:
            answer = input()  # noqa: ASYNC250  # Nothing else is left to do meanwhile.
        except (EOFError, KeyboardInterrupt):
            answer = ""
        if answer.strip().lower() in ("y", "yes"):
            for track in left:
                await cancel_job(bus, track.tenant, track.job, "cancelled by the client")
            err.print(f"cancelled {count(len(left), 'job')}")
            return INTERRUPTED
    err.print(f"{count(len(left), 'job')} left running. To go on:", soft_wrap=True)
    for track in left[:3]:
        more = f" --tenant {track.tenant}" if track.tenant != "default" else ""
        err.print(f"  turnout why {track.job}{more}     turnout cancel {track.job}{more}", soft_wrap=True)
    if len(left) > 3:
        err.print("  turnout jobs     lists them all")
    return INTERRUPTED
