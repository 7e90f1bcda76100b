"""One fully filled example of every message type, and short makers for what tests need most."""

from __future__ import annotations

from typing import Any

import msgspec

from messages import (
    Analyzed,
    Attempt,
    Attempted,
    AttemptsAre,
    AttemptsOf,
    Backend,
    Breaker,
    Candidate,
    Chunk,
    DeadLetter,
    Decided,
    Deployment,
    Done,
    Due,
    Exclusion,
    ExecutorAlive,
    Expired,
    Explained,
    Failover,
    Granted,
    JobCancel,
    JobRate,
    JobRow,
    JobsAre,
    JobsOf,
    JobSubmit,
    LedgerEntry,
    Load,
    Message,
    Model,
    Needs,
    NeedsAre,
    NeedsOf,
    ObjectRef,
    Offer,
    Policy,
    Price,
    Problem,
    Progress,
    Refused,
    Rerouted,
    Reservation,
    Result,
    Retry,
    Running,
    Skipped,
    Slip,
    Started,
    Stats,
    Usage,
    Weights,
    Work,
)

T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""

PRICE = Price(input_per_mtok=150_000, output_per_mtok=600_000, unknown=True)
PROBLEM = Problem(
    reason="rate_limited", message="cloud: too many requests; wait 12 s", field="deadline_seconds", value="-3",
    status=429, body='{"error":"slow down"}', retry_after_seconds=12.5,
)  # fmt: skip
USAGE = Usage(input_tokens=40, output_tokens=120, cached_tokens=8, reasoning_tokens=20, estimated=True)
RESULT = Result(
    text="A haiku.",
    ref=ObjectRef(
        key="acme/j-1/2", size_bytes=300_000, sha256="9f86d081884c7d65", media_type="text/plain; charset=utf-8"
    ),
    finish_reason="stop",
    tool_calls=(msgspec.Raw(b'{"id":"call-1"}'),),
)
NEEDS = Needs(
    task="code", quality="final", complexity="complex", complexity_score=52.5, input_tokens=180,
    max_output_tokens=2048, capabilities=("code", "json"), model="llama3.1:8b", role="writer", product="landing",
    user="ada", workflow="site", step="hero", batch="monday", strategy="cost_first", preferred_backend="gpu-1",
    allow_cloud=False, prioritize_speed=True, max_cost_microdollars=9_000, json_output=True,
    why=("about 180 input tokens",),
)  # fmt: skip
SLIP = Slip(
    tenant="acme", job="j-1", submitted_at=T0, deadline_at=T0 + 600, input_seq=17,
    input=msgspec.Raw(b'{"prompt":"Write a haiku"}'), needs=NEEDS,
)  # fmt: skip
ATTEMPT = Attempt(
    n=1, backend="cloud", model="gpt-small", outcome="rate_limited", billed_microdollars=12, latency_seconds=0.8,
    problem=PROBLEM,
)  # fmt: skip
EXCLUSION = Exclusion(backend="cloud", until=T0 + 30, reason="its breaker is open")
RESERVATION = Reservation(
    budget="tenant acme: 5000000 microdollars per day", subject="ledger.tenant.acme.microdollars.day-20260101",
    amount=1_236, unit="microdollars",
)  # fmt: skip
FAILOVER = Failover(max_attempts=4, waits_seconds=(0.5, 2.0), max_extra_rounds=6, stall_seconds=15.0)
CANDIDATE = Candidate(
    backend="gpu-1", model="llama3.1:8b", permitted=True, reason="88.0 points", score=88.0,
    features={"priority": 1.0, "service_seconds": 10.0}, worst_case_microdollars=1_236, worst_case_tokens=2_228,
    max_output_tokens=1_024, price=PRICE, local=True, changes=("output capped at 1024 instead of 2048 tokens",),
)  # fmt: skip
MODEL = Model(
    name="llama3.1:8b", capabilities=("text", "json"), context_tokens=8_192, max_output_tokens=4_096, price=PRICE,
    quality_tier=3, tokens_per_second=55.0, first_token_seconds=0.2,
)  # fmt: skip
OFFER = Offer(
    backend="gpu-1", protocol="ollama", local=True, provider="us", priority=2, slots=4, models=(MODEL,),
    healthy=False, health_reason="no answer to a health check within 5 s",
)  # fmt: skip
RUNNING = Running(tenant="acme", job="j-1", n=2, run="41")
SUBMIT = JobSubmit(
    tenant="acme", id="j-1", prompt="Write a haiku", system="Be brief.",
    messages=({"role": "user", "content": [{"type": "text", "text": "hi"}]},), task="creative", quality="draft",
    model="llama3.1:8b", capabilities=("text",), role="writer", product="card", user="ada", workflow="site",
    step="hero", batch="monday", max_output_tokens=64, temperature=0.7, seed=7, stop=("END",),
    response_format={"type": "json_object"}, tools=({"type": "function"},), deadline_seconds=30.0,
    max_cost_microdollars=500, strategy="latency_first", preferred_backend="gpu-1", allow_cloud=False,
    prioritize_speed=True,
)  # fmt: skip
JOB: dict[str, Any] = {"tenant": "acme", "job": "j-1"}
ROUND: dict[str, Any] = {**JOB, "n": 2}
RETRY = Retry(
    **ROUND, slip=SLIP, attempts=(ATTEMPT,), excluded=(EXCLUSION,), not_before=T0 + 5, cause=PROBLEM, at=T0 + 4
)
ATTEMPTED = Attempted(
    **ROUND, backend="gpu-1", model="llama3.1:8b", task="code", workflow="site", outcome="ok", result=RESULT,
    partial="A hai", problem=PROBLEM, usage=USAGE, billed_microdollars=78, reserved=(RESERVATION,), probe=True,
    instance="exec-a", started_at=T0 + 6, first_token_seconds=0.3, latency_seconds=2.5, at=T0 + 9,
)  # fmt: skip
ROW = JobRow(
    **JOB, ending="failed", task="code", backend="gpu-1", model="llama3.1:8b", attempts=2, cost_microdollars=90,
    latency_seconds=9.0, submitted_at=T0, problem="gpu-1: silent for 20 s",
)  # fmt: skip

EXAMPLES: tuple[Message, ...] = (
    SUBMIT,
    JobCancel(**JOB, reason="no longer needed"),
    JobRate(**JOB, score=4.5, rater="ada"),
    Analyzed(**JOB, fingerprint="5f2c", slip=SLIP, rejected=PROBLEM, at=T0 + 1),
    Refused(**JOB, problem=PROBLEM, at=T0 + 1),
    DeadLetter(
        **JOB, stream="IN", seq=17, subject_heard="job.submit.acme", problem=PROBLEM, head='{"promt":1}', at=T0 + 1
    ),
    Expired(**JOB, at=T0 + 600),
    RETRY,
    Due(**ROUND, retry=RETRY),
    Decided(
        **ROUND, slip=SLIP, attempts=(ATTEMPT,), excluded=(EXCLUSION,), ranking=(CANDIDATE,), others=(CANDIDATE,),
        strategy="weighted_score", policy="default@3", failover=FAILOVER, reason="gpu-1 is the only one",
        wait_seconds=0.5, gave_up=PROBLEM, at=T0 + 2,
    ),
    Rerouted(
        **ROUND, from_backend="cloud", to_backend="gpu-1", cause=PROBLEM, changes=("model a -> b",), at=T0 + 2
    ),
    Explained(
        **ROUND, chosen="gpu-1/llama3.1:8b", summary="gpu-1 leads.", why=("20% faster",),
        alternatives=("cloud/gpt-small: dear",), suggestions=("look after cloud",),
    ),
    Done(
        **JOB, ending="succeeded", result=RESULT, problem=PROBLEM, attempts=(ATTEMPT,), backend="gpu-1",
        model="llama3.1:8b", usage=USAGE, cost_microdollars=90, submitted_at=T0, at=T0 + 9,
    ),
    NeedsOf(submit=SUBMIT),
    NeedsAre(needs=NEEDS, problem=PROBLEM),
    Granted(
        **ROUND, verdict="candidate", backend="gpu-1", model="llama3.1:8b", reserved=(RESERVATION,),
        skipped=(Skipped(backend="cloud", reason="over budget", until=T0 + 60),), probe=True, at=T0 + 3,
    ),
    Work(
        **ROUND, backend="gpu-1", model="llama3.1:8b", slip=SLIP, attempts=(ATTEMPT,), excluded=(EXCLUSION,),
        reserved=(RESERVATION,), failover=FAILOVER, probe=True, worst_case_microdollars=1_236, price=PRICE,
        max_output_tokens=1_024,
    ),
    Started(
        **ROUND, backend="gpu-1", instance="exec-a", boot="b7", run="41", purpose="drain", at=T0 + 5
    ),
    ATTEMPTED,
    Chunk(**ROUND, number=3, text=" old pond"),
    Progress(**ROUND, number=1, stage="first_token", backend="gpu-1"),
    LedgerEntry(
        step="reserve", budget=RESERVATION.budget, counter=RESERVATION.subject, amount=1_236, unit="microdollars",
        **ROUND, backend="gpu-1", model="llama3.1:8b", at=T0 + 3,
    ),
    ExecutorAlive(
        instance="exec-a", boot="b7", number=12, offers=(OFFER,), running=(RUNNING,), leaving=True, at=T0 + 6
    ),
    Backend(
        backend="gpu-1", protocol="ollama", local=True, provider="us", priority=2, slots=4, executors=("exec-a",),
        models=(MODEL,), healthy=False, health_reason="no executor serves it", at=T0,
    ),
    Load(backend="gpu-1", waiting=2, running=4, at=T0),
    Breaker(
        backend="gpu-1", model="llama3.1:8b", through_seq=99, failures_in_row=3, times_opened=1, open_until=T0 + 30,
        opened_at=T0,
        reason="3 failures in a row, last: timeout", probe_tenant="acme", probe_job="j-1", probe_n=2,
        probe_until=T0 + 120,
    ),
    Stats(
        backend="gpu-1", model="llama3.1:8b", workflow="site", attempts=20, successes=19, latency_seconds=2.5,
        first_token_seconds=0.3, tokens_per_second=48.0, cost_microdollars=80.5, at=T0,
    ),
    Policy(
        policy="thrifty", version=3, strategy="cost_first", failover=FAILOVER,
        weights=Weights(
            priority=30.0, cost=40.0, speed=15.0, queue=15.0, fast_seconds=2.0, slow_seconds=30.0,
            dear_microdollars=50_000.0, long_queue=20.0,
        ),
    ),
    Deployment(deployment="staging", rooms="apart"),
    JobsOf(tenant="acme", ending="failed", batch="monday", limit=10),
    JobsAre(jobs=(ROW,)),
    AttemptsOf(**JOB),
    AttemptsAre(attempts=(ATTEMPTED,)),
)  # fmt: skip


def needs(**changes: Any) -> Needs:
    """What an ordinary chat job needs."""
    given: dict[str, Any] = {
        "task": "chat", "quality": "standard", "complexity": "simple", "complexity_score": 10.0, "input_tokens": 10,
        "max_output_tokens": 100,
    }  # fmt: skip
    return Needs(**{**given, **changes})


def slip(**changes: Any) -> Slip:
    """An ordinary job with ten minutes to go; `needs` may be given as a dict of changes."""
    wanted = changes.pop("needs", {})
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "submitted_at": T0, "deadline_at": T0 + 600, "input_seq": 1,
        "needs": wanted if isinstance(wanted, Needs) else needs(**wanted),
    }  # fmt: skip
    return Slip(**{**given, **changes})


def work(**changes: Any) -> Work:
    """An ordinary work item on backend `a`."""
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 1, "backend": "a", "model": "m", "slip": slip(), "failover": Failover(),
        "max_output_tokens": 100, "worst_case_microdollars": 60,
    }  # fmt: skip
    return Work(**{**given, **changes})


def attempted(**changes: Any) -> Attempted:
    """An attempt on backend `a` that went well."""
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 1, "backend": "a", "model": "m", "task": "chat", "outcome": "ok",
        "at": T0 + 2,
    }  # fmt: skip
    return Attempted(**{**given, **changes})


def backend(name: str = "a", **changes: Any) -> Backend:
    """A healthy local backend with one model `m`."""
    given: dict[str, Any] = {
        "backend": name, "protocol": "openai", "local": True, "slots": 4, "executors": ("exec-a",),
        "models": (Model(name="m"),), "healthy": True, "at": T0,
    }  # fmt: skip
    return Backend(**{**given, **changes})


def candidate(name: str = "a", **changes: Any) -> Candidate:
    """A permitted candidate: a free backend that answers in two seconds."""
    figures = {
        "priority": 1.0, "price_microdollars": 0.0, "service_seconds": 2.0, "wait_seconds": 0.0, "queue": 0.0,
        **changes.pop("features", {}),
    }  # fmt: skip
    given: dict[str, Any] = {"backend": name, "model": "m", "permitted": True, "reason": "", "features": figures}
    return Candidate(**{**given, **changes})


def decided(**changes: Any) -> Decided:
    """Round 1 of an ordinary job, with backend `a` in front."""
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 1, "slip": slip(), "ranking": (candidate(),),
        "strategy": "weighted_score", "policy": "default@1", "failover": Failover(), "reason": "a leads", "at": T0,
    }  # fmt: skip
    return Decided(**{**given, **changes})
