"""The laboratory's backends: queues, switches and moods come from the trace and a hash, never from who asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.lab.world import CHEAP, FAST, LOCAL, Fleet, Job, chance, jobs, lognormal

ROWS = """arrival_s,tenant,task,num_images,steps,has_lora,model,exec_s,status
10.0,u1,txt_2_img,2,30,1,m00,20.0,ok
11.0,u1,txt_2_img,1,30,0,m01,12.5,failed
12.0,u2,inpainting,9,45,0,m01,40.0,ok
"""


def job(number: int, at: float, model: str = "a", seconds: float = 20.0, images: int = 1) -> Job:
    return Job(number=number, at=at, tenant="t", model=model, images=images, steps=30, lora=False, kind="k",
               seconds=seconds, per_second=100.0)  # fmt: skip


def test_a_trace_is_read_in_order_without_what_failed(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(ROWS)
    first, second = jobs(file)
    assert (first.number, first.at, first.images, first.lora, first.kind) == (0, 10.0, 2, True, "txt_2_img-2-3")
    assert (second.number, second.model, second.kind, second.seconds) == (2, "m01", "inpainting-4-4", 40.0)
    assert [one.number for one in jobs(file, most=1)] == [0]


def test_chance_is_the_same_every_time_and_spread_evenly() -> None:
    assert chance("a", 1) == chance("a", 1) != chance("a", 2)
    drawn = [chance("x", n) for n in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.02)
    assert sorted(lognormal(6.0, 0.9, n) for n in range(2001))[1000] == pytest.approx(6.0, rel=0.1)


def test_the_local_gpu_runs_one_after_the_other_and_loads_models() -> None:
    fleet = Fleet(seed=1)
    one, same, other = (fleet.send(job(n, at=0.0, model=m), LOCAL) for n, m in enumerate(["a", "a", "b"]))
    assert (one.began, one.ended, one.switched) == (0.0, 20.0, False)
    assert (same.began, same.ended, same.switched) == (20.0, 40.0, False)
    assert other.began == 40.0
    assert other.ended > 60.0
    assert other.switched
    assert one.cost == 2000.0


def test_clouds_take_everything_at_once_for_money() -> None:
    fleet = Fleet(seed=1)
    cheap = [fleet.send(job(n, at=0.0, images=2), CHEAP) for n in range(3)]
    fast = [fleet.send(job(n, at=0.0), FAST) for n in range(3)]
    assert all(ran.began == 0.0 and ran.microdollars == 6_000 for ran in cheap)
    assert {ran.ended for ran in fast} in ({7.0}, {17.5})
    assert all(ran.microdollars == 40_000 for ran in fast)
