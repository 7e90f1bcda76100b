"""`turnout verify` against a real nats-server: whole, tampered, missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.actor import Heard
from actors.console import verify as module
from actors.console.output import Output
from actors.console.reach import Where
from actors.console.screen import Complaint, Wrong
from actors.console.verify import verify
from actors.counter import BusCounter
from actors.journal import Journal
from actors.node import set_up
from actors.router.actor import Router
from actors.settings import Settings
from bus import codec
from bus.bus import Bus
from bus.jetstream import connect
from bus.server import NatsServer
from messages import Analyzed, Decided, Message
from tests.messages.samples import T0, backend, slip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server with six whole decisions, one of them over a large fleet; its URL."""
    with asyncio.Runner() as runner:
        started = NatsServer(tmp_path_factory.mktemp("verify"))
        runner.run(started.__aenter__())
        try:
            runner.run(fill(started.url))
            yield started.url
        finally:
            runner.run(started.__aexit__(None, None, None))


async def fill(url: str) -> None:
    bus = await connect(url, name="test")
    await set_up(bus, Settings())
    for job in ("one", "two", "three"):
        await store(bus, await decided(bus, job, fleet=3))
    await store(bus, await decided(bus, "large", fleet=30))
    await store(bus, await decided(bus, "one", fleet=3, tenant="other"))
    forged = await decided(bus, "forged", fleet=3, tenant="evil")
    first, *rest = forged.ranking
    await store(
        bus, msgspec.structs.replace(forged, ranking=(msgspec.structs.replace(first, score=first.score + 1), *rest))
    )
    swapped = await decided(bus, "swapped", fleet=30, tenant="evil")
    assert swapped.everything is not None
    await bus.put_object(swapped.everything.key, b"[]")
    await store(bus, swapped)
    gone = await decided(bus, "gone", fleet=30, tenant="lost")
    assert gone.everything is not None
    await store(
        bus, msgspec.structs.replace(gone, everything=msgspec.structs.replace(gone.everything, key="lost/nowhere"))
    )
    own = await decided(bus, "own", fleet=3, tenant="lost")
    plan = msgspec.structs.replace(own.plan, strategy="by_letter")
    await store(bus, msgspec.structs.replace(own, plan=plan, strategy="by_letter"))
    await bus.publish("ev.decided.garbled.x.1", b"{}", msg_id="garbled")
    await bus.close()


async def decided(bus: Bus, job: str, *, fleet: int, tenant: str = "default") -> Decided:
    """What a router says; what it keeps beside the event lies in the server's object store."""
    heard = Heard(now=T0)
    router = Router(keeper=Journal(bus), counter=BusCounter(bus))
    for number in range(fleet):
        router.backend(backend(f"b{number:02}", priority=1 + number % 3), heard)
    analyzed = Analyzed(tenant=tenant, job=job, fingerprint="f", slip=slip(tenant=tenant, job=job), at=T0)
    (said,) = [one async for one in router.analyzed(analyzed, heard)]
    assert isinstance(said, Decided)
    return said


async def store(bus: Bus, message: Message) -> None:
    await bus.publish(message.subject, codec.encode(message), msg_id=message.subject)


def verified(url: str, *jobs: str, **options: Any) -> int:
    return verify(*jobs, where=Where(nats=url), **options)


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[Sequence[str], str]:
    said = capsys.readouterr()
    return said.out.splitlines(), said.err


def test_whole_decisions_derive_identically(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(server, "one", "two") == 0
    assert printed(capsys)[0] == ["2 decisions, 6 candidates: all derive identically"]
    assert verified(server, "large") == 0
    assert printed(capsys)[0] == ["1 decision, 30 candidates: all derive identically"]
    assert verified(server, everything=True, tenant="default") == 0
    assert printed(capsys)[0] == ["4 decisions, 39 candidates: all derive identically"]


def test_a_tampered_score_and_forged_candidates_are_named(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(server, everything=True, tenant="evil") == 1
    forged, swapped, total = printed(capsys)[0]
    assert forged.startswith("evil/forged round 1: ranking[0].score: stored ")
    assert ", derived " in forged
    assert swapped.startswith("evil/swapped round 1: everything.sha256: stored '")
    assert total == "2 decisions: 0 derive identically, 2 differ"


def test_what_is_missing_is_no_difference_and_yet_no_success(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(server, everything=True, tenant="lost") == 1
    gone, own, total = printed(capsys)[0]
    assert gone == "lost/gone round 1: its candidates, kept as lost/nowhere, are not there any more"
    assert own == "lost/own round 1: the strategy 'by_letter' is not installed here"
    assert total == "2 decisions: 0 derive identically, 2 can't be derived here"


def test_everything_of_every_tenant_for_machines(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVERY", 4)
    assert verified(server, everything=True, output=Output(output="jsonl")) == 1
    *findings, total = [json.loads(line) for line in printed(capsys)[0]]
    assert [(found["tenant"], found["job"], found["what"]) for found in findings] == [
        ("evil", "forged", "differs"),
        ("evil", "swapped", "differs"),
        ("lost", "gone", "underivable"),
        ("lost", "own", "underivable"),
        ("", "ev.decided.garbled.x.1", "differs"),
    ]
    assert total == {"decisions": 10, "candidates": 48, "differ": 3, "underivable": 2, "identical": 5}
    assert verified(server, everything=True) == 1
    lines, aside = printed(capsys)
    assert lines[-1] == "10 decisions: 5 derive identically, 3 differ, 2 can't be derived here"
    assert aside.splitlines() == ["4 decisions …", "8 decisions …"]


def test_an_unknown_job_is_a_complaint(server: str) -> None:
    with pytest.raises(Complaint, match="there is no decision about the job 'nope' of tenant 'default'"):
        verified(server, "one", "nope")
    with pytest.raises(Complaint, match="the job 'two' of tenant 'other'"):
        verified(server, "two", tenant="other")


def test_jobs_or_all_and_not_both(server: str) -> None:
    with pytest.raises(Wrong, match="verify needs jobs, or --all"):
        verified(server)
    with pytest.raises(Wrong, match="don't go together"):
        verified(server, "one", everything=True)


def test_before_the_first_job_there_is_nothing_to_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def start() -> NatsServer:
        started = await NatsServer(tmp_path).__aenter__()
        bus = await connect(started.url, name="test")
        await set_up(bus, Settings())
        await bus.close()
        return started

    with asyncio.Runner() as runner:
        started = runner.run(start())
        try:
            assert verified(started.url, everything=True) == 0
        finally:
            runner.run(started.__aexit__(None, None, None))
    assert printed(capsys)[0] == ["there is no decision yet"]
