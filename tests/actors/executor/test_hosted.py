"""What becomes of a provider's list of models."""

from __future__ import annotations

import pytest

from actors.executor.backends import port
from actors.executor.hosted import CHOSEN, OPENAI, hosted_models, model_of
from actors.executor.places import priced
from actors.prices import PriceBook
from actors.settings import Settings
from messages import Price


def named(*names: str, **more: object) -> list[port.Offer]:
    return [port.Offer(model=name, **more) for name in names]  # type: ignore[arg-type]


def test_what_a_list_says_goes_into_the_model() -> None:
    offer = port.Offer(
        model="m", context_tokens=8192, max_output_tokens=2048, capabilities=("text", "tools"), parameters_billion=7.0,
        vram_mb=6000, loras=("a",), retires="2026-12-11",
    )  # fmt: skip
    model = model_of(offer, local=True)
    assert (model.context_tokens, model.max_output_tokens, model.vram_mb, model.loras) == (8192, 2048, 6000, ("a",))
    assert (model.parameters_billion, model.retires, model.price) == (7.0, "2026-12-11", Price())
    assert model.capabilities == ("code", "json", "text", "tools")
    assert model_of(offer, local=False).price.unknown


@pytest.mark.parametrize(
    ("name", "listed", "capabilities"),
    [
        ("nomic", ("embedding",), ("embedding",)),
        ("text-embedding-nomic", ("text",), ("embedding",)),
        ("org/text-embedding-3-small", ("text",), ("embedding",)),
        ("flux", ("image", "lora"), ("image", "lora")),
        ("wan", ("video", "recipe:image-to-video"), ("recipe:image-to-video", "video")),
        ("llama", ("text",), ("code", "json", "text")),
    ],
)
def test_nothing_is_offered_as_text_that_writes_none(
    name: str, listed: tuple[str, ...], capabilities: tuple[str, ...]
) -> None:
    assert model_of(port.Offer(model=name, capabilities=listed), local=True).capabilities == capabilities


def test_of_a_known_account_only_chosen_text_models_and_priced_media_are_used() -> None:
    assert hosted_models("openai", None, lambda _: False) == OPENAI
    listed = [
        *named("gpt-4o-mini", "unheard-of"), *named("gpt-image-2", "odd-image", capabilities=("image",)),
        *named("text-embedding-3-small", capabilities=("embedding",)),
    ]  # fmt: skip
    found = hosted_models("openai", listed, {"gpt-image-2", "text-embedding-3-small"}.__contains__)
    assert {model.name: model.capabilities for model in found} == {
        "gpt-4o-mini": ("code", "json", "text", "tools", "vision"), "gpt-image-2": ("image",),
        "text-embedding-3-small": ("embedding",),
    }  # fmt: skip
    assert found[0].quality_tier == 2


def test_of_a_provider_nobody_knows_all_are_used() -> None:
    assert hosted_models("mine", None, lambda _: False) == ()
    assert [model.name for model in hosted_models("mine", named("a", "b"), lambda _: False)] == ["a", "b"]


def test_the_lists_own_word_comes_before_ours() -> None:
    (model,) = hosted_models("openai", [port.Offer(model="gpt-4.1", max_output_tokens=9, retires="2027-01-01")], bool)
    assert (model.max_output_tokens, model.retires, model.context_tokens) == (9, "2027-01-01", 1_047_576)


@pytest.mark.parametrize("provider", sorted(CHOSEN))
def test_the_book_knows_what_the_chosen_models_cost(provider: str) -> None:
    book = PriceBook.open(Settings(), environment={}, now=lambda: 1_795_000_000.0)
    for model in priced(CHOSEN[provider], lambda name: book.price_of(provider, name)):
        assert model.price.input_per_mtok > 0, model.name
        assert model.price.output_per_mtok > 0
        assert not model.price.unknown
        assert (model.price.source, model.price.as_of) != ("", "")
