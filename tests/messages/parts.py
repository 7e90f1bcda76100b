"""One fully filled value of every struct that messages share; no field has its default."""

from __future__ import annotations

from typing import Any

import msgspec

from messages import (
    AdaptiveRules,
    AnalysisRules,
    AnswerChecks,
    Artifact,
    Attempt,
    Attempted,
    Awaited,
    BackendRule,
    Bound,
    Candidate,
    CatalogueEntry,
    Change,
    Check,
    Correction,
    CostRules,
    Counted,
    Decided,
    Exclusion,
    Failover,
    FailoverRules,
    Features,
    Framing,
    GpuProcess,
    Guardrail,
    Input,
    JobRow,
    JobSubmit,
    Known,
    Match,
    Media,
    Met,
    Model,
    Needs,
    ObjectRef,
    Offer,
    Origin,
    Parameters,
    Plan,
    Policy,
    Preset,
    Price,
    Problem,
    Range,
    Rate,
    Reason,
    Reservation,
    Result,
    Retry,
    Room,
    Rule,
    Running,
    Share,
    Slip,
    Total,
    Usage,
    Weights,
)

T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""

RATE = Rate(up_to_pixels=1_048_576, quality="high", microdollars=80_000)
PRICE = Price(
    input_per_mtok=150_000, output_per_mtok=600_000, per_request=2_000, per_image=40_000, per_second=1_500, unknown=True,
    cached_input_per_mtok=15_000, cache_write_per_mtok=187_500, long_above_tokens=272_000, long_input_per_mtok=300_000,
    long_output_per_mtok=900_000, long_cached_input_per_mtok=30_000, long_cache_write_per_mtok=375_000,
    image_rates=(RATE,), second_rates=(RATE,), per_gpu_second=1_100, source="a list", as_of="2026-01-01",
)  # fmt: skip
PROBLEM = Problem(
    reason="rate_limited", message="cloud: too many requests; wait 12 s", field="deadline_seconds", value="-3",
    status=429, body='{"error":"slow down"}', retry_after_seconds=12.5, input_tokens=5_000, limit_tokens=4_096,
)  # fmt: skip
USAGE = Usage(
    input_tokens=40, output_tokens=120, cached_tokens=8, cache_write_tokens=4, reasoning_tokens=20, estimated=True,
    gpu_seconds=1.5,
)  # fmt: skip
OBJECT = ObjectRef(
    key="acme/j-1/2", size_bytes=300_000, sha256="9f86d081884c7d65", media_type="text/plain; charset=utf-8"
)
ARTIFACT = Artifact(
    name="turnout-0.png", ref=OBJECT, origin=Origin(backend="gpu-1", model="sdxl", recipe="text-to-image", seed=7),
    width=768, height=512, seconds=2.0, expires_at=T0 + 604_800,
)  # fmt: skip
INPUT = Input(name="image", media_type="image/png", data="iVBORw==", key="acme/inputs/1", sha256="9f86d081884c7d65")
CHECKS = AnswerChecks(
    min_characters=10, max_characters=4_000, must_match=("^#",), must_not_match=("TODO",), whole=True, soft=True,
    validator="Is it a haiku?", hard_below=1.5, soft_below=3.5,
)  # fmt: skip
RESULT = Result(
    text="A haiku.", ref=OBJECT, finish_reason="stop", tool_calls=(msgspec.Raw(b'{"id":"call-1"}'),),
    reasoning="Five, seven, five.", refusal="Not that one.", carried=(msgspec.Raw(b'{"type":"thinking"}'),),
    artifacts=(ARTIFACT,), embeddings=((0.5, -0.25),),
    checks=(Check(name="whole", verdict="soft_fail", message="cut at 64 tokens", score=2.5),),
)  # fmt: skip
MEDIA = Media(
    images=2, width=768, height=512, steps=30, frames=48, fps=24.0, seconds=2.0,
    checkpoints=("sdxl.safetensors",), loras=("ink",), node_types=("KSampler",),
)  # fmt: skip
FRAMING = Framing(template=300, message=12, tools=700, image=1_600, unbounded=50_000)
BOUND = Bound(tokens=900, messages=3, tools=True, images=1, unbounded="a video")
NEEDS = Needs(
    task="code", asset="image", quality="final", complexity="complex", complexity_score=52.5,
    complexity_parts={"length": 40.0, "code": 12.5}, input_tokens=180, max_output_tokens=2048, output_tokens=900,
    vram_mb=600, seconds=Range(low=2.0, high=9.5), cost_microdollars=Range(low=80.0, high=1_236.0),
    capabilities=("code", "json"), preferred=("vision",), media=MEDIA, stated=("steps",), model="llama3.1:8b",
    preferred_model="mistral:7b", role="writer", mode="full_mimic", product="landing", user="ada", workflow="site",
    step="hero", batch="monday", strategy="cost_first", preferred_backend="gpu-1", allow_cloud=False,
    prioritize_speed=True, max_cost_microdollars=9_000, value_per_hour_microdollars=1_800_000, json_output=True,
    why=("about 180 input tokens",), remarks=("role 'x' is in no policy",), recipe="text-to-image", bound=BOUND,
)  # fmt: skip
SLIP = Slip(
    tenant="acme", job="j-1", submitted_at=T0, deadline_at=T0 + 600, input_seq=17,
    input=msgspec.Raw(b'{"prompt":"Write a haiku"}'), needs=NEEDS, request="0e784467ca171a4f",
)  # fmt: skip
ATTEMPT = Attempt(
    n=1, backend="cloud", model="gpt-small", outcome="rate_limited", billed_microdollars=12, unpriced=True, latency_seconds=0.8,
    problem=PROBLEM, usage=USAGE,
)  # fmt: skip
COUNTED = Counted(backend="gpu-1", model="llama3.1:8b", tokens=180, by="/tokenize")
ROOM = Room(
    backend="gpu-1", model="llama3.1:8b", budget="team", unit="tokens", left=900, limit=20_000, ends_at=T0 + 3_600
)
EXCLUSION = Exclusion(backend="cloud", model="gpt-small", until=T0 + 30, reason="its breaker is open")
MET = Met(
    backend="cloud", model="gpt-small", kind="budget", budget="global/tokens/day", text="over budget", passed_over=False
)
GUARDRAIL = Guardrail(
    model=("gpt-small",), workflow=("site",), step=("hero",), tenant=("acme",), cost_limit_cents=10.0, token_limit=2_000,
    latency_target_ms=1_500.0, drop_if_over_budget=False, routing_weight=0.3,
)  # fmt: skip
RESERVATION = Reservation(
    budget="tenant:acme/microdollars/day", subject="ledger.tenant.acme.microdollars.day-20260101",
    amount=1_236, unit="microdollars", hold="9f3c",
)  # fmt: skip
FAILOVER = Failover(max_attempts=4, waits_seconds=(0.5, 2.0), stall_seconds=15.0)

WEIGHTS = Weights(
    priority=30.0, cost=40.0, speed=15.0, queue=15.0, speed_mode_cost=5.0, speed_mode_speed=50.0, priorities=4.0,
    fast_seconds=2.0, slow_seconds=30.0, dear_microdollars=50_000.0, long_queue=20.0,
)  # fmt: skip
ADAPTIVE = AdaptiveRules(method="thompson", epsilon=0.02, enough=5, stale_seconds=900.0, slack=4.0)
COST = CostRules(
    value_per_hour_microdollars=7_200_000.0, speed_per_hour_microdollars=9_000_000.0,
    queue_price=0.2, risk_seconds=5.0, switch_back=2.0,
    miss_microdollars=10_000.0, spread=0.4,
)  # fmt: skip
CHANGE: dict[str, Any] = {
    "max_output_tokens": 512, "steps": 12, "width": 512, "height": 384, "frames": 16,
    "variants": {"llama3.1:70b": "llama3.1:8b"},
}  # fmt: skip
PRESET = Preset(**CHANGE, backends={"gpu-1": Change(**CHANGE)})
RULE = Rule(
    name="landing-writer",
    match=Match(
        task=("creative",), asset=("text",), quality=("draft",), complexity=("high",), capability=("json",),
        role=("writer",), mode=("full_mimic",), product=("landing",), workflow=("site",), step=("hero",),
        tenant=("acme",), node_type=("KSampler",),
    ),
    strategy="pool_order", pool=("llama3.1:8b", "gpt-small"), strict=True, fallbacks=2,
    classes={"high": ("gpt-small",)}, shares={"gpt-small": 0.25}, overflow=("cloud",), requires=("text",),
    prefers=("vision",), required_fields=("title",), checks=CHECKS, max_attempts=5,
)  # fmt: skip
POLICY = Policy(
    policy="thrifty", version=3, order=5, source="thrifty.toml", applied_at=T0, applied_by="ada", removed=True,
    enabled=False, fixed_order=("gpu-1",), shipped=("balancer",), guardrails=(GUARDRAIL,),
    strategy="cost_first", strategy_share=0.25,
    failover=FailoverRules(max_attempts=4, waits_seconds=(0.5, 2.0), stall_seconds=15.0),
    weights=WEIGHTS, adaptive=ADAPTIVE, cost=COST,
    analysis=AnalysisRules(
        characters_per_token=3.5, image_tokens=1_000.0, simple_below=40.0, complex_above=120.0, long_above=2_000.0,
        output_share=0.4,
    ),
    saturated_at=0.9, saturated_until=0.6, window_seconds=60.0, rules=(RULE,),
    chains={"llama3.1:8b": ("gpt-small",)},
    models={
        "writer-s": CatalogueEntry(
            model="llama3.1:8b", base_url="http://gpu-1:11434", backend="gpu-1", capabilities=("text",),
            context_tokens=8_192, max_output_tokens=4_096, quality_tier=3, parameters_billion=8.0, roles=("writer",),
            roles_denied=("validator",), vram_mb=6_000,
        )
    },
    backends={"gpu-1": BackendRule(multiplier=1.2, routing_weight=0.7, priority=2)},
    presets={"draft": PRESET}, degrade={"vision": "describe_style"},
)  # fmt: skip

PARAMETERS = Parameters(
    model="llama3.1:8b-q4", steps=12, width=512, height=384, frames=16, degrade=("drop_images", "shorten")
)
CANDIDATE = Candidate(
    backend="gpu-1", model="llama3.1:8b", barred="budget", reason="over the job's limit", score=88.0,
    parts=(40.0, 30.0, 12.0, 6.0),
    known=Known(
        local=True, provider="us", priority=2, slots=4, unfit="not the active one of its group", names=("llama3.1",),
        capabilities=("text", "json"), context_tokens=8_192, max_output_tokens=4_096, price=PRICE, framing=FRAMING,
        quality_tier=3,
        parameters_billion=8.0, roles=("writer",), roles_denied=("validator",), loras=("ink",), vram_mb=6_000,
        lacks=("the LoRA ink",),
        vram_total_mb=24_000, swap_seconds=12.0, multiplier=1.2, routing_weight=0.7, chain=("gpt-small",),
    ),
    features=Features(
        price_microdollars=78.0, price_assumed=True, service_seconds=2.5,
        first_token_seconds=0.3, wait_seconds=1.5, switch_seconds=12.0,
        ahead=3.0, own=1.0, queue=2.0, used=7.0, saturated=True, runs=18.5, equals=6.5, spread=0.4,
        measured_at=T0 - 3,
        failure_rate=0.05, rating=4.5, ratings=12.0, vram_free_mb=9_000, loaded=True, open_until=T0 + 30,
        open_cause="failures", open_reason="3 failures in a row", input_ratio=1.1,
    ),
    worst_case_microdollars=1_236, worst_case_tokens=2_228, worst_case_input_tokens=1_204, unbounded="a video",
    max_output_tokens=1_024, parameters=PARAMETERS,
    changes=("output capped at 1024 instead of 2048 tokens",), breaches=("is late",), panic=True,
)  # fmt: skip
PLAN = Plan(
    strategy="pool_order", rule="thrifty@3 landing-writer",
    set_by={"pool": "thrifty@3 landing-writer"}, guardrails=(GUARDRAIL,), fixed=True, pool=("llama3.1:8b",), strict=True,
    fallbacks=2, classes={"high": ("gpt-small",)}, shares={"gpt-small": 0.25}, overflow=("cloud",),
    requires=("text",), prefers=("vision",), degrade={"vision": "describe_style"}, required_fields=("title",),
    checks=CHECKS, preset=PRESET, chain=("gpt-small",), output_share=0.4, weights=WEIGHTS, adaptive=ADAPTIVE, cost=COST,
    equal_weights=True, epoch=2,
)  # fmt: skip
REASON = Reason(
    kind="speed", about="gpu-1/llama3.1:8b", value=2.5, rival="cloud/gpt-small", rival_value=3.1, window_runs=10,
    text="20 % quicker than cloud/gpt-small over the last 10 runs.",
)  # fmt: skip
SHARE = Share(backend="gpu-1", model="llama3.1:8b", jobs=60, cost_microdollars=4_680, seconds=75.0)

MODEL = Model(
    name="llama3.1:8b", capabilities=("text", "json"), context_tokens=8_192, max_output_tokens=4_096, price=PRICE,
    quality_tier=3, tokens_per_second=55.0, first_token_seconds=0.2, seconds_per_job=6.0, parameters_billion=8.0,
    vram_mb=6_000, swap_seconds=12.0, loras=("ink",), has="cbkl", retires="2026-12-11",
    framing=FRAMING,
)  # fmt: skip
OFFER = Offer(
    backend="gpu-1", protocol="ollama", local=True, provider="us", priority=2, slots=4, models=(MODEL,),
    exclusive_group="gpu-0", active=False, vram_total_mb=24_000, here=True, gpu=1, healthy=False,
    health_reason="no answer to a health check within 5 s", version="0.13.1", foreign=2, loaded=("llama3.1:8b",),
    vram_free_mb=9_000, cold=True, switchable=True, notes=("recipe 'upscale' lacks a model",),
)  # fmt: skip
GPU_PROCESS = GpuProcess(pid=4_711, memory_mb=5_900)
RUNNING = Running(tenant="acme", job="j-1", n=2, run="41", backend="gpu-1", model="llama3.1:8b")
SUBMIT = JobSubmit(
    tenant="acme", id="j-1", prompt="Write a haiku", system="Be brief.",
    messages=({"role": "user", "content": [{"type": "text", "text": "hi"}]},), task="creative", asset="image",
    quality="draft", model="llama3.1:8b", preferred_model="mistral:7b", capabilities=("text",),
    preferred_capabilities=("vision",), role="style_refiner", mode="full_mimic", style="ink on rice paper",
    product="card", user="ada", workflow="site", step="hero", batch="monday", max_output_tokens=64, temperature=0.7,
    seed=7, stop=("END",), response_format={"type": "json_object"}, tools=({"type": "function"},), count=2, width=768,
    height=512, steps=30, frames=48, fps=24.0, seconds=2.0, loras=("ink",),
    graph={"3": {"class_type": "KSampler", "inputs": {"steps": 30}}}, deadline_seconds=30.0,
    max_cost_microdollars=500, strategy="latency_first", preferred_backend="gpu-1", allow_cloud=False,
    prioritize_speed=True, value_per_hour_microdollars=1_800_000, negative_prompt="blurred", recipe="text-to-image",
    inputs=(INPUT,), texts=("a pond",), dimensions=256,
)  # fmt: skip
JOB: dict[str, Any] = {"tenant": "acme", "job": "j-1"}
ROUND: dict[str, Any] = {**JOB, "n": 2}
AWAITED = Awaited(
    kind="settlement", name="ledger.global.all.tokens.total", model="*", budget="global/tokens/total", amount=1_224
)
RETRY = Retry(
    **ROUND, slip=SLIP, attempts=(ATTEMPT,), excluded=(EXCLUSION,), not_before=T0 + 5, awaiting=(AWAITED,), cause=PROBLEM,
    rooms=(ROOM,), counted=(COUNTED,), at=T0 + 4,
)  # fmt: skip
DECIDED = Decided(
    **ROUND, slip=SLIP, attempts=(ATTEMPT,), excluded=(EXCLUSION,), cause=PROBLEM, rooms=(ROOM,),
    counted=(COUNTED,), ranking=(CANDIDATE,),
    others=(CANDIDATE,), omitted=3, everything=OBJECT, strategy="weighted_score",
    parts=("priority", "cost", "speed", "queue"), plan=PLAN, policy="thrifty@3 landing-writer", number=0.31,
    explored=True, failover=FAILOVER, reason="gpu-1 is the only one", wait_seconds=0.5, awaiting=(AWAITED,),
    gave_up=PROBLEM, at=T0 + 2,
)  # fmt: skip
ATTEMPTED = Attempted(
    **ROUND, backend="gpu-1", model="llama3.1:8b", task="code", workflow="site", step="hero", input_estimate=36,
    switched=True, request="0e784467ca171a4f", outcome="ok", result=RESULT, partial="A hai", problem=PROBLEM, usage=USAGE,
    billed_microdollars=78, begun=False, unpriced=True, counted_tokens=340, counted_gpu_milliseconds=2_400,
    reserved=(RESERVATION,), probe=True, instance="exec-a", started_at=T0 + 6, first_token_seconds=0.3,
    latency_seconds=2.5, took_up=1, corrections=(
        Correction(n=1, billed_microdollars=12, counted_tokens=3, counted_gpu_milliseconds=900),
    ), at=T0 + 9,
)  # fmt: skip
TOTAL = Total(
    backend="gpu-1", model="llama3.1:8b", attempts=9, succeeded=8, billed_microdollars=90, unpriced=1, input_tokens=400,
    output_tokens=700,
)  # fmt: skip
ROW = JobRow(
    **JOB, ending="failed", task="code", backend="gpu-1", model="llama3.1:8b", attempts=2, cost_microdollars=90,
    latency_seconds=9.0, submitted_at=T0, problem="gpu-1: silent for 20 s",
    head="Merge two sorted lists", batch="monday", state="running", since=T0 + 2, n=2, waits_for="backend gpu-1", share=0.5,
    step="step 6 of 12",
)  # fmt: skip
