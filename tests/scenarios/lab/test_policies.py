"""Policies in the laboratory: expected cost beats the seeds' strategies and what other systems do (requirement C9)."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from actors.router.shipped import shipped_policies
from scenarios.lab.__main__ import DEFAULT, OURS, compare, main, result
from scenarios.lab.policies import PEERS, Ours, Peer, play
from scenarios.lab.world import LOCAL, PATIENT_PER_SECOND, URGENT_PER_SECOND, Job, chance, jobs, lognormal

TRACES = Path(os.environ.get("TURNOUT_TRACES", Path(__file__).parents[4] / "shared" / "traces"))
IMAGES = TRACES / "image_gentd26_reconstructed_dev.csv"
MOST = 1_500


def bursts(count: int) -> list[Job]:
    """Traffic in bursts, of three models, about as much as the local GPU can do."""
    at, found = 0.0, list[Job]()
    for n in range(count):
        at += lognormal(2.0 if n % 20 else 600.0, 0.8, "gap", n)
        found.append(
            Job(number=n, at=at, tenant="t", model=f"m{int(3 * chance('model', n // 3))}", images=1, steps=30, lora=False,
                kind="txt_2_img-1-3", seconds=lognormal(22.0, 0.5, "size", n),
                per_second=URGENT_PER_SECOND if chance("value", n) < 0.3 else PATIENT_PER_SECOND)
        )  # fmt: skip
    return found


BURSTS = bursts(600)


def test_the_same_trace_gives_the_same_figures() -> None:
    one, other = (compare(BURSTS[:200], ("expected_cost", "two choices"), seed=3) for _ in range(2))
    assert one == other


def test_expected_cost_wins_on_bursts() -> None:
    first, second, *_ = compare(BURSTS, [name for name in (*OURS, *PEERS) if name != DEFAULT])
    assert first.name == "expected_cost"
    assert second.dollars > 1.05 * first.dollars


@pytest.mark.skipif(not IMAGES.exists(), reason=f"no traces at {TRACES}; set TURNOUT_TRACES")
@pytest.mark.parametrize("seed", [1, 2])
def test_expected_cost_wins_on_the_trace(seed: int) -> None:
    names = [name for name in (*OURS, *PEERS) if name != DEFAULT]
    first, second, *_ = compare(list(jobs(IMAGES, most=MOST)), names, seed=seed)
    assert first.name == "expected_cost"
    assert second.dollars > 1.05 * first.dollars


@pytest.mark.parametrize("told", [True, False])
def test_what_is_shipped_is_the_best_of_our_strategies_within_1_percent(told: bool) -> None:
    found = {one.name: one.dollars for one in compare(BURSTS, OURS, told=told)}
    assert found[DEFAULT] <= 1.01 * min(found.values())


def test_a_switch_must_pay() -> None:
    ours = result("", play(BURSTS, Ours("expected_cost", shipped_policies(), ("m0", "m1", "m2"))))
    blind = result("", play(BURSTS, Peer("local if idle, else cheap", 1)))
    assert ours.switches / ours.local < blind.switches / blind.local


def test_every_job_ends_once_wherever_it_goes() -> None:
    for name in PEERS:
        done = play(BURSTS[:100], Peer(name, 1))
        assert [ran.job for ran in done] == BURSTS[:100]
        assert all(ran.ended > ran.began >= ran.job.at for ran in done)
        local = sorted((ran.began, ran.ended) for ran in done if ran.backend == LOCAL)
        assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(local))


def test_wrong_names_say_what_is_right() -> None:
    with pytest.raises(ValueError, match="'cheapest' is no policy; use one of random"):
        Peer("cheapest", 1).choose(BURSTS[0], 0)
    with pytest.raises(ValueError, match="no jobs"):
        result("x", [])


def test_it_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["arrival_s,tenant,task,num_images,steps,has_lora,model,exec_s,status"]
    lines += [f"{job.at},t,txt_2_img,1,30,0,{job.model},{job.seconds},ok" for job in BURSTS[:20]]
    file = tmp_path / "trace.csv"
    file.write_text("\n".join(lines))
    main([str(file), "--jobs", "15"])
    printed = capsys.readouterr().out
    assert "15 jobs, seed 1" in printed
    assert all(name in printed for name in (*OURS, *PEERS))
