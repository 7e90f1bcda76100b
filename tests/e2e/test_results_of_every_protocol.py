"""A job through the whole system ends with what the backend made, whatever protocol it speaks: text, files, usage and cost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from messages import Chunk, Done, Progress
from tests.actors.console.live import run
from tests.e2e.case import Case
from tests.e2e.cases import CASES
from tests.e2e.system import KEY, TENANT, System


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def get(system: System, *words: str) -> int:
    return run("get", *words, "--tenant", TENANT, url=system.server.url)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_job_ends_with_its_result(
    case: Case, system: System, here: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    done = system.do(ended(case, system))
    job, result = done.job, done.result
    assert (done.ending, done.backend, done.model) == ("succeeded", case.name, case.job["model"]), done.problem
    assert result is not None
    assert (result.text or "", result.embeddings) == (case.text, case.embeddings)
    assert KEY not in msgspec.json.encode(done).decode()

    chunks = system.told(Chunk, job)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert "".join(chunk.text for chunk in chunks) == case.text
    assert not case.text or any(one.stage == "first_token" for one in system.told(Progress, job))

    assert done.usage == case.usage
    assert done.cost_microdollars == case.cost
    assert [attempt.billed_microdollars for attempt in done.attempts] == [case.cost]

    capsysbinary.readouterr()
    if case.made is None:
        assert not result.artifacts
        assert get(system, job) == 0
        printed = capsysbinary.readouterr().out.decode()
        if case.embeddings:
            assert json.loads(printed) == [list(one) for one in case.embeddings]
        else:
            assert printed == f"{case.text}\n"
        return
    media_type, data = case.made
    [artifact] = result.artifacts
    assert (artifact.ref.media_type, artifact.ref.size_bytes) == (media_type, len(data))
    assert artifact.ref.sha256 == hashlib.sha256(data).hexdigest()
    assert (artifact.origin.backend, artifact.origin.model) == (case.name, case.job["model"])
    assert get(system, job, "-o", "made.bin") == 0
    assert (here / "made.bin").read_bytes() == data
    assert get(system, job, "-o", ".") == 0
    assert sorted(path.name for path in here.iterdir()) == sorted(["made.bin", artifact.name])


async def ended(case: Case, system: System) -> Done:
    async with case.fake() as fake:
        case.prepare(fake)
        async with system.serving(case.settings(case.name, fake.url, 1)):
            await system.submit(case.submission(f"whole-{case.name}"))
            return await system.done(f"whole-{case.name}")
