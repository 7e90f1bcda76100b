"""Jobs through the whole system to real providers, and a purse that bounds what they cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from actors import node
from actors.executor.backends import kinds
from actors.executor.clients import key_in
from actors.executor.places import BASE_VARIABLES, hosted_name
from actors.settings import BackendSettings, Settings
from messages import Chunk, Done, JobSubmit, Model, Price
from tests.e2e.system import TENANT, System

CENTS_VARIABLE: Final = "TURNOUT_LIVE_CENTS"
CENTS: Final = 5.0
"""What all live tests of one run may cost together, unless the variable says otherwise."""
HOSTED: Final = ("openai", "anthropic", "gemini")
"""Providers whose key alone says where they are."""
TEXT_MICRODOLLARS: Final = 5_000
EMBEDDING_MICRODOLLARS: Final = 500
ENDPOINT_VARIABLE: Final = "RUNPOD_ENDPOINT"
"""URL of a RunPod endpoint, `https://api.runpod.ai/v2/<id>`."""
MODEL_VARIABLE: Final = "RUNPOD_MODEL"
"""The model that its vLLM workers serve."""
RATE_VARIABLE: Final = "RUNPOD_MICRODOLLARS_PER_SECOND"
RATE: Final = 760
"""Of an endpoint's GPU, where the variable says nothing: an A100 with 80 GB."""
RUNPOD_SECONDS: Final = 20
"""The longest that one call may take; a worker that has to start first may take longer, and the test fails."""
PROMPT: Final = "Answer with the one word: OK"


class NoRoom(Exception):
    """The next call may cost more than is left; the text says how to allow it."""


class Purse:
    """What may be spent, and what was."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.limit = round(float(environment.get(CENTS_VARIABLE, "") or CENTS) * 10_000)
        self.spent = 0

    def take(self, worst: int) -> None:
        """Hold the worst case of a call. Raises NoRoom."""
        if self.spent + worst > self.limit:
            left = (self.limit - self.spent) / 10_000
            raise NoRoom(f"may cost {worst / 10_000:g} cents, {left:g} are left: set {CENTS_VARIABLE}")
        self.spent += worst

    def give_back(self, worst: int, cost: int) -> None:
        """Its cost is known: only that was spent."""
        self.spent += cost - worst


def missing(kind: str, environment: Mapping[str, str]) -> str:
    """What must be set before this provider can be asked; empty: nothing."""
    if not key_in(kinds.kind(kind), environment)[1]:
        return f"{' or '.join(kinds.kind(kind).key_variables)} is not set"
    wanted = (ENDPOINT_VARIABLE, MODEL_VARIABLE) if kind == "runpod" else ()
    return ", ".join(f"{name} is not set" for name in wanted if not environment.get(name))


@asynccontextmanager
async def provider(system: System, kind: str, environment: Mapping[str, str]) -> AsyncGenerator[str, None]:
    """This provider alone, as a key in the environment makes it; the name of its backend."""
    if kind == "runpod":
        backend = endpoint(environment)
        found = node.discovery(Settings(discover=False, backends=(backend,)), system.bus.now, environment=environment)
        async with system.taking(found):
            yield backend.name
        return
    names = (*kinds.kind(kind).key_variables, BASE_VARIABLES[kind])
    alone = {name: environment[name] for name in names if name in environment}
    found = node.discovery(Settings(), system.bus.now, environment=alone)
    found.places.clear()  # What runs on this machine is of no interest.
    async with system.taking(found):
        yield hosted_name(kinds.kind(kind))


def endpoint(environment: Mapping[str, str]) -> BackendSettings:
    """The RunPod endpoint as settings name it: no list says what its GPU costs."""
    price = Price(per_gpu_second=int(environment.get(RATE_VARIABLE, "") or RATE))
    return BackendSettings(
        name="runpod", protocol="runpod", url=environment[ENDPOINT_VARIABLE], provider="runpod",
        api_key_env=key_in(kinds.kind("runpod"), environment)[0], options={"worker": "vllm"},
        models=(Model(name=environment[MODEL_VARIABLE], price=price),),
    )  # fmt: skip


def cheapest(models: tuple[Model, ...], capability: str) -> Model | None:
    """The model with this capability whose tokens cost least."""
    able = [model for model in models if capability in model.capabilities and not model.price.unknown]
    return min(able, key=lambda model: (model.price.output_per_mtok, model.price.input_per_mtok), default=None)


async def text(system: System, kind: str, purse: Purse, environment: Mapping[str, str]) -> Done:
    """A short text; its end, checked. Raises NoRoom."""
    job = JobSubmit(id=f"live-{kind}-text", prompt=PROMPT, quality="draft", max_output_tokens=256)
    worst = TEXT_MICRODOLLARS
    if kind == "runpod":
        worst = (RUNPOD_SECONDS + 1) * endpoint(environment).models[0].price.per_gpu_second
        job = msgspec.structs.replace(job, deadline_seconds=float(RUNPOD_SECONDS))
    done = await _ended(system, kind, job, "text", worst, purse, environment)
    assert done.result is not None
    assert done.result.text
    chunks = system.told(Chunk, job.id)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert "".join(chunk.text for chunk in chunks) == done.result.text
    assert done.usage is not None
    assert kind == "runpod" or (done.usage.input_tokens and done.usage.output_tokens)
    return done


async def embedding(system: System, kind: str, purse: Purse, environment: Mapping[str, str]) -> Done:
    """Two short texts embedded; their end, checked. Raises NoRoom."""
    job = JobSubmit(id=f"live-{kind}-embedding", asset="embedding", texts=("switch", "signal"))
    done = await _ended(system, kind, job, "embedding", EMBEDDING_MICRODOLLARS, purse, environment)
    assert done.result is not None
    one, other = done.result.embeddings
    assert len(one) == len(other) > 1
    assert done.usage is not None
    assert done.usage.input_tokens
    return done


async def _ended(
    system: System, kind: str, job: JobSubmit, capability: str, worst: int, purse: Purse, environment: Mapping[str, str]
) -> Done:
    """The end of a job that may cost `worst` and not more: the purse is asked before anything is sent. Raises NoRoom."""
    purse.take(worst)
    async with provider(system, kind, environment) as name:
        model = cheapest(system.backends[name].models, capability)
        assert model is not None, f"{name} offers no {capability} at a known price"
        job = msgspec.structs.replace(job, model=model.name, max_cost_microdollars=worst)
        await system.submit(job)
        done = await system.done(job.id)
    if done.cost_microdollars is not None:
        purse.give_back(worst, done.cost_microdollars)
    assert done.ending == "succeeded", done.problem
    assert (done.tenant, done.backend, done.model) == (TENANT, name, model.name)
    assert done.cost_microdollars is not None
    assert 0 < done.cost_microdollars <= worst
    return done
