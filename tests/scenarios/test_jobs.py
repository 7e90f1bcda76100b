"""The demo's jobs are real submissions, and varied."""

from collections import Counter
from importlib.resources import files

import msgspec
import pytest

from actors.analyzer.check import check
from actors.analyzer.needs import needs_of
from actors.router.strategies import STRATEGIES
from messages import JobSubmit
from scenarios.demo.fleet import FLEET, SETTINGS

LINES = files("scenarios").joinpath("jobs/mixed.jsonl").read_bytes().splitlines()
JOBS = [msgspec.json.decode(line, type=JobSubmit) for line in LINES]
NEEDS = [needs_of(job) for job in JOBS]


def test_there_are_sixty_and_no_two_are_alike():
    assert len(JOBS) == 60
    assert len({job.prompt or str(job.messages) for job in JOBS}) == 60


@pytest.mark.parametrize("number", range(1, 61))
def test_each_would_be_accepted(number):
    problem = check(
        JOBS[number - 1],
        tenant="demo",
        models={model.name for member in FLEET for model in member.offer.models},
        strategies=STRATEGIES,
        longest_deadline=SETTINGS.jobs.longest_deadline_seconds,
    )
    assert problem is None


def test_none_names_an_id_or_a_tenant_so_that_anybody_may_submit_them_again():
    assert not any(job.id or job.tenant for job in JOBS)


def test_all_kinds_of_work_are_there():
    tasks = Counter(needs.task for needs in NEEDS)
    assert min(tasks[task] for task in ("chat", "code", "analytical", "creative")) >= 8
    assert {job.role for job in JOBS} == {"", "classifier", "writer", "expander", "validator", "style_refiner"}
    qualities = Counter(needs.quality for needs in NEEDS)
    assert min(qualities[quality] for quality in ("draft", "standard", "final")) >= 10


def test_users_ask_for_different_things():
    assert {job.preferred_backend for job in JOBS} == {"", *(member.offer.backend for member in FLEET)}
    assert sum(job.allow_cloud is False for job in JOBS) >= 3
    assert sum(bool(job.prioritize_speed) for job in JOBS) >= 5
    assert sum(job.max_cost_microdollars is not None for job in JOBS) >= 3
    assert sum(job.deadline_seconds is not None for job in JOBS) >= 10
    assert {job.strategy for job in JOBS} >= {"cost_first", "latency_first"}
    assert sum(needs.json_output for needs in NEEDS) >= 5
    assert len({job.user for job in JOBS}) >= 8
    assert len({job.workflow for job in JOBS}) >= 8


def test_every_job_fits_somewhere():
    for job, needs in zip(JOBS, NEEDS, strict=True):
        able = [m.offer for m in FLEET if set(needs.capabilities) <= set(m.offer.models[0].capabilities)]
        assert [offer for offer in able if offer.local or job.allow_cloud is not False], job.prompt
