"""Fleets as the seeds describe them, and jobs that are walked through them round by round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.router.decide import decide
from actors.router.policyfile import load_policy
from actors.router.shipped import shipped_policies
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from actors.succession import exclusion
from messages import Attempt, Backend, Decided, Load, Model, Needs, Policy, Problem
from messages.values import Outcome
from tests.messages.samples import T0, backend, slip


def shipped(name: str) -> Policy:
    """A shipped policy by name."""
    return next(policy for policy in shipped_policies() if policy.policy == name)


def view_of(fleet: Iterable[Backend], *policies: Policy) -> View:
    """A router's view of a fleet, under the shipped policies and further ones."""
    view = View([*shipped_policies(), *policies])
    for one in fleet:
        view.learn_backend(one)
    return view


def served(*names: str, local: bool = False, **changes: Any) -> list[Backend]:
    """One backend for each model."""
    return [
        backend(f"on {name}", local=local, models=(Model(name=name, capabilities=("text", "vision")),), **changes)
        for name in names
    ]


def busy(view: View, name: str, share: float, slots: int = 10) -> None:
    """Give a backend so much work, in parts of its slots."""
    view.learn_load(Load(backend=name, waiting=0, running=round(share * slots), at=T0))


def decision(
    view: View, wanted: Needs | dict[str, Any], *, attempts: tuple[Attempt, ...] = (), now: float = T0
) -> Decided:
    """What is decided for a job after these attempts, with what they exclude."""
    return decide(
        slip(needs=wanted),
        n=len(attempts) + 1,
        attempts=attempts,
        excluded=tuple(exclusion(attempt) for attempt in attempts),
        view=view,
        now=now,
    ).decided


def walk(view: View, wanted: dict[str, Any], *, outcome: Outcome = "server_error") -> list[tuple[str, str]]:
    """Backend and model of every attempt, when each fails, until the job is given up."""
    attempts: tuple[Attempt, ...] = ()
    found: list[tuple[str, str]] = []
    while (made := decision(view, wanted, attempts=attempts)).ranking:
        first = made.ranking[0]
        found.append((first.backend, first.model))
        failed = Attempt(
            n=made.n, backend=first.backend, model=first.model, outcome=outcome, billed_microdollars=0,
            problem=Problem(reason=outcome, message=f"{first.backend}: {outcome}"),
        )  # fmt: skip
        attempts = (*attempts, failed)
    return found


def policy(text: str) -> Policy:
    """A policy of a test."""
    return load_policy(text, "test.toml", strategies=STRATEGIES)


CLOUD = ("deepseek-v3.1:671b-cloud", "kimi-k2:1t-cloud", "qwen3-coder:480b-cloud", "gpt-oss:120b-cloud",
         "gpt-oss:20b-cloud", "glm-4.6:cloud")  # fmt: skip
LOCAL = ("qwen2.5-coder:7b", "llama3.1:latest", "mythomax-l2-13b")


def _models(names: Iterable[str], **changes: Any) -> tuple[Model, ...]:
    return tuple(Model(name=name, context_tokens=64_000, **changes) for name in names)


def fleet_004() -> list[Backend]:
    """The backends of seed 004: Ollama here and in the cloud, one vLLM of two active, llama.cpp twice.

    What llama.cpp serves is called what it was started with: here the id of the catalogue.
    """
    return [
        backend("ollama", slots=10, models=_models(LOCAL)),
        backend("ollama_cloud", local=False, provider="ollama", priority=2, slots=10, models=_models(CLOUD)),
        backend("vllm-qwen", slots=10, models=_models(["Qwen2.5-Coder-7B-AWQ"]), exclusive_group="vllm"),
        backend("vllm-dolphin", models=_models(["Dolphin-2.8-Mistral-7B-AWQ"]), exclusive_group="vllm", active=False),
        backend("llama_cpp_native", models=_models(["llama_cpp_native"], first_token_seconds=0.05)),
        backend("llama_cpp_python", models=_models(["llama_cpp_python"], first_token_seconds=0.1)),
    ]


def spread_004() -> list[Backend]:
    """The same models with a backend each, so that one failure says nothing about the next hop."""
    fleet = [backend(f"cloud {name}", local=False, models=_models([name])) for name in CLOUD]
    return fleet + [backend(f"home {name}", models=_models([name])) for name in LOCAL] + fleet_004()[2:]
