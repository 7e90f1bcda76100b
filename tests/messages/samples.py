"""One fully filled example of every message type, and short makers for what tests need most."""

from __future__ import annotations

from typing import Any

from messages import (
    Alert,
    Analyzed,
    Attempted,
    AttemptsAre,
    AttemptsOf,
    Backend,
    Breaker,
    BudgetsAre,
    BudgetsOf,
    BudgetState,
    Burn,
    Candidate,
    Chunk,
    CountIs,
    CountOf,
    DeadLetter,
    Decided,
    Deployment,
    Done,
    Due,
    Epoch,
    EstimateIs,
    EstimateOf,
    ExecutorAlive,
    Expired,
    Explained,
    Failover,
    Features,
    Gpu,
    Granted,
    Held,
    JobCancel,
    JobRate,
    JobResume,
    JobsAre,
    JobsOf,
    Known,
    LatencyRow,
    LedgerEntry,
    Limit,
    Load,
    Message,
    Minute,
    Model,
    ModelPrice,
    Needs,
    NeedsAre,
    NeedsOf,
    Notified,
    PoliciesAre,
    PoliciesOf,
    Preference,
    PreviewIs,
    PreviewOf,
    Progress,
    Queued,
    QuoteIs,
    QuoteOf,
    Range,
    Rebalance,
    Rebalanced,
    Refused,
    Rerouted,
    Sample,
    Skipped,
    Slip,
    Spending,
    Started,
    Stats,
    StatsReset,
    TotalsAre,
    TotalsOf,
    Work,
)
from tests.messages.parts import (
    ATTEMPT,
    ATTEMPTED,
    AWAITED,
    CHECKS,
    COUNTED,
    DECIDED,
    EXCLUSION,
    FAILOVER,
    GPU_PROCESS,
    JOB,
    MET,
    MODEL,
    NEEDS,
    OFFER,
    PARAMETERS,
    POLICY,
    PRICE,
    PROBLEM,
    REASON,
    RESERVATION,
    RESULT,
    RETRY,
    ROOM,
    ROUND,
    ROW,
    RUNNING,
    SHARE,
    SLIP,
    SUBMIT,
    T0,
    TOTAL,
    USAGE,
)

LIMIT = Limit(
    name="acme", scope="tenant", only="acme", unit="tokens", window="month", limit=5_000_000, soft_share=0.9,
    time_zone="Europe/Berlin", on_all_over_budget="ask", removed=True, by="ada", at=T0,
)  # fmt: skip
BUDGET_STATE = BudgetState(
    budget="acme", holder="acme", counter="ledger.tenant.acme.tokens.month-202601", unit="tokens", window="month",
    spent=4_000_000, reserved=600_000, limit=5_000_000, soft=True, began_at=T0, ends_at=T0 + 31 * 86_400, through_seq=99,
    at=T0 + 5,
)  # fmt: skip

EXAMPLES: tuple[Message, ...] = (
    SUBMIT,
    JobCancel(**JOB, reason="no longer needed"),
    JobRate(**JOB, score=4.5, rater="ada"),
    JobResume(**JOB, by="ada"),
    Analyzed(**JOB, fingerprint="5f2c", slip=SLIP, rejected=PROBLEM, head="Merge two sorted lists", at=T0 + 1),
    Refused(**JOB, word="rate", problem=PROBLEM, at=T0 + 1),
    DeadLetter(
        **JOB, stream="IN", seq=17, subject_heard="job.submit.acme", problem=PROBLEM, head='{"promt":1}', at=T0 + 1
    ),
    Expired(**JOB, at=T0 + 600),
    RETRY,
    Due(**ROUND, retry=RETRY, woken_by=AWAITED),
    DECIDED,
    Rerouted(
        **ROUND, from_backend="cloud", to_backend="gpu-1", cause=PROBLEM, changes=("model a -> b",), at=T0 + 2
    ),
    Explained(
        **ROUND, chosen="gpu-1/llama3.1:8b", summary="gpu-1 leads.", reasons=(REASON,), alternatives=(REASON,),
        adjusted=("output capped at 1024 tokens",), suggestions=("look after cloud",),
    ),
    Done(
        **JOB, ending="succeeded", result=RESULT, problem=PROBLEM, attempts=(ATTEMPT,), backend="gpu-1",
        model="llama3.1:8b", usage=USAGE, guardrails=(MET,), cost_microdollars=90, submitted_at=T0, at=T0 + 9,
    ),
    NeedsOf(submit=SUBMIT),
    NeedsAre(needs=NEEDS, problem=PROBLEM),
    Granted(
        **ROUND, verdict="candidate", backend="gpu-1", model="llama3.1:8b", reserved=(RESERVATION,),
        skipped=(
            Skipped(
                backend="cloud", model="gpt-small", reason="over budget", until=T0 + 60, awaits=AWAITED, rooms=(ROOM,),
                budget="global/tokens/day",
            ),
        ), probe=True, when_over="wait", room_at=T0 + 60, over=("global/tokens/day",), hopeless=True, settling=True,
        softens=True, at=T0 + 3,
    ),
    Held(
        **ROUND, user="ada", workflow="site", problem=PROBLEM, budgets=("global/tokens/day",), cost_microdollars=1_236,
        tokens=1_224, until=T0 + 600, at=T0 + 3,
    ),
    Work(
        **ROUND, backend="gpu-1", model="llama3.1:8b", slip=SLIP, attempts=(ATTEMPT,), excluded=(EXCLUSION,),
        reserved=(RESERVATION,), failover=FAILOVER, probe=True, worst_case_microdollars=1_236, price=PRICE,
        max_output_tokens=1_024, parameters=PARAMETERS, required_fields=("title",), checks=CHECKS,
        longest_seconds=90.0, met=(MET,),
    ),
    Queued(**ROUND, backend="gpu-1", seq=41),
    Started(
        **ROUND, backend="gpu-1", instance="exec-a", boot="b7", run="41", purpose="drain", at=T0 + 5
    ),
    ATTEMPTED,
    Chunk(**ROUND, number=3, text=" old pond"),
    Progress(
        **ROUND, number=1, stage="working", backend="gpu-1", share=0.4, text="step 12 of 30", preview="/9j/",
    ),
    LedgerEntry(
        step="reserve", budget=RESERVATION.budget, counter=RESERVATION.subject, amount=1_236, unit="microdollars",
        hold=RESERVATION.hold, limit=5_000_000,
        **ROUND, backend="gpu-1", model="llama3.1:8b", at=T0 + 3,
    ),
    ExecutorAlive(
        instance="exec-a", boot="b7", number=12, offers=(OFFER,), running=(RUNNING,), leaving=True, host="box", at=T0 + 6
    ),
    Backend(
        backend="gpu-1", protocol="ollama", local=True, provider="us", priority=2, slots=4, executors=("exec-a",),
        models=(MODEL,), exclusive_group="gpu-0", active=False, vram_total_mb=24_000, healthy=False,
        health_reason="no executor serves it", version="0.13.1", cold=True, switchable=True, notes=("a note",), at=T0,
    ),
    Load(backend="gpu-1", waiting=2, running=4, foreign=1, loaded=("llama3.1:8b",), vram_free_mb=9_000, through_seq=41, at=T0),
    Gpu(
        host="box", index=1, name="NVIDIA L4", uuid="GPU-5f1d", memory_total_mb=24_000, memory_free_mb=9_000,
        memory_used_mb=15_000, load=0.65, temperature_c=61.0, processes=(GPU_PROCESS,), driver="580.65.06",
        problem="its temperature is wrong", at=T0,
    ),
    Breaker(
        backend="gpu-1", model="llama3.1:8b", through_seq=99, failures_in_row=3, times_opened=1, open_until=T0 + 30,
        opened_at=T0, strikes=2, quiet_since=T0 - 900, cause="failures", by="ada", suspects=("0e784467ca171a4f",),
        suspected_at=T0 - 1, executors=("exec-a",),
        recent=(Minute(minute=29_453_760, calls=5, failures=3),),
        reason="3 failures in a row, last: timeout", probe_tenant="acme", probe_job="j-1", probe_n=2,
        probe_until=T0 + 120,
    ),
    Stats(
        backend="gpu-1", model="llama3.1:8b", scope="acme/site/hero", epoch=2, attempts=20, successes=19, weight=17.3,
        latency_seconds=2.5, latency_spread=0.4, first_token_seconds=0.3, tokens_per_second=48.0, output_tokens=120.0,
        input_ratio=1.1, cost_microdollars=80.5, swap_seconds=11.5, failure_rate=0.05, rating=4.5, ratings=12, at=T0,
    ),
    Epoch(of="figures", epoch=2, by="ada", at=T0),
    StatsReset(epoch=2, by="ada", forgotten=14, at=T0),
    Preference(
        tenant="acme", scope="user:ada", quality="draft", strategy="cost_first", preferred_backend="gpu-1",
        preferred_model="llama3.1:8b", allow_cloud=False, prioritize_speed=True, max_cost_microdollars=9_000,
        value_per_hour_microdollars=1_800_000, at=T0,
    ),
    POLICY,
    LIMIT,
    BUDGET_STATE,
    BudgetsOf(name="global/tokens/day"),
    BudgetsAre(limits=(LIMIT,), states=(BUDGET_STATE,)),
    ModelPrice(seller="cloud", model="gpt-small", price=PRICE, withdrawn=True, by="ada", at=T0),
    Deployment(deployment="staging", rooms="apart"),
    JobsOf(
        tenant="acme", ending="failed", batch="monday", limit=10, states=("failed", "held"), backend="gpu-1", after="[1,2]"
    ),
    JobsAre(jobs=(ROW,), more="[1,2]"),
    TotalsOf(backend="gpu-1"),
    TotalsAre(totals=(TOTAL,), since=T0),
    AttemptsOf(**JOB),
    AttemptsAre(attempts=(ATTEMPTED,)),
    PreviewOf(tenant="acme", job="j-1", needs=NEEDS),
    PreviewIs(decided=DECIDED, problem=PROBLEM),
    EstimateOf(
        tenant="acme", needs=NEEDS, jobs=100, split={"gpu-1": 60, "cloud": 40}, budget_microdollars=50_000
    ),
    EstimateIs(
        shares=(SHARE,), cost_microdollars=4_680, seconds=75.0, dearest=SHARE, left_over=40,
        notes=("40 jobs are not paid for",), problem=PROBLEM,
    ),
    QuoteOf(tenant="acme", needs=NEEDS),
    QuoteIs(
        backend="gpu-1", model="llama3.1:8b", price_microdollars=Range(low=78.0, high=1_236.0),
        seconds=Range(low=2.0, high=9.5), wait_seconds=1.5, switch_seconds=12.0, runner_up="cloud/gpt-small",
        runner_up_price_microdollars=Range(low=90.0, high=900.0), runner_up_seconds=Range(low=1.0, high=4.0),
        changes=("512 instead of 768 pixels wide",), problem=PROBLEM,
    ),
    CountOf(backend="gpu-1", model="llama3.1:8b", slip=SLIP, parameters=PARAMETERS, max_output_tokens=1_024),
    CountIs(counted=COUNTED, problem=PROBLEM),
    PoliciesOf(name="thrifty"),
    PoliciesAre(policies=(POLICY,)),
    Rebalance(by="ada"),
    Rebalanced(epoch=2, forgotten=14),
    Alert(
        tenant="acme", kind="burn_rate", cause="acme/acme/month-202601/fast/3", severity="alert",
        text="Budget acme of acme is used up 15 times too fast.", advice="raise it, or look who sends so much",
        budget="acme", holder="acme", unit="tokens", window="month", spent=4_000_000, reserved=600_000, limit=5_000_000,
        projected=9_000_000, burns=(Burn(seconds=3600.0, rate=15.0),), hours_left=2.5, jobs_left=120, target="hero",
        backend="gpu-1", model="llama3.1:8b", workflow="site", step="hero", job="j-1", of="first_token",
        target_seconds=1.5, measured_seconds=2.5, in_row=4, left_out=7, at=T0 + 9,
    ),
    Notified(
        tenant="acme", kind="burn_rate", cause="acme/acme/month-202601/fast/3", webhook="ops", notice="gave_up",
        status=500, tries=8, reason="the server answered 500", at=T0 + 900,
    ),
    LatencyRow(
        target="hero", tenant="acme", backend="gpu-1", model="llama3.1:8b", through_seq=99, in_row=4, telling="alert",
        alerted_at=T0 + 9, minute=29_453_760, warnings=3, alerts=1, left_out=2, job_tenant="acme", job="j-1", n=2,
        workflow="site", step="hero", of="first_token", target_seconds=1.5, measured_seconds=2.5, at=T0 + 9,
    ),
    Spending(
        budget="acme", holder="acme", counter="ledger.tenant.acme.tokens.month-202601",
        samples=(Sample(at=T0, spent=0), Sample(at=T0 + 3600, spent=400_000)), per_hour=400_000.0, projected=9_000_000,
        breach_at=T0 + 45_000, per_job=1_200.0, per_hold=2_400.0, jobs_left=333, at=T0 + 3600,
    ),
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
    features: dict[str, Any] = {"service_seconds": 2.0, **changes.pop("features", {})}
    known: dict[str, Any] = {"local": True, "slots": 4, "capabilities": ("text",), **changes.pop("known", {})}
    given: dict[str, Any] = {
        "backend": name, "model": "m", "known": Known(**known), "features": Features(**features),
    }  # fmt: skip
    return Candidate(**{**given, **changes})


def decided(**changes: Any) -> Decided:
    """Round 1 of an ordinary job, with backend `a` in front."""
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 1, "slip": slip(), "ranking": (candidate(),),
        "strategy": "weighted_score", "policy": "default@1", "failover": Failover(), "reason": "a leads", "at": T0,
    }  # fmt: skip
    return Decided(**{**given, **changes})
