from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.llama_cpp import described
from actors.executor.backends.lm_studio import is_loaded, offer_of
from actors.executor.backends.openai_models import (
    capabilities,
    cards_of,
    family,
    only_responses,
    other_offers,
    own_offers,
    reasons,
)
from actors.executor.backends.port import BackendError, Offer
from actors.executor.backends.vllm import offers_of

SEES = ("text", "vision", "tools", "json")
THINKS = (*SEES, "thinking")


@pytest.mark.parametrize(
    ("model", "can", "thinks", "at_responses"),
    [
        ("gpt-6-luna", THINKS, True, False),
        ("gpt-6.1-sol", THINKS, True, False),
        ("gpt-10", THINKS, True, False),
        ("o3", THINKS, True, False),
        ("o3-mini", ("text", "tools", "json", "thinking"), True, False),
        ("gpt-5.5-pro", THINKS, True, True),
        ("gpt-5.5-pro-2026-04-23", THINKS, True, True),
        ("o1-pro", THINKS, True, True),
        ("gpt-5-codex", THINKS, True, True),
        ("gpt-5-chat-latest", SEES, False, False),
        ("gpt-4.1", SEES, False, False),
        ("gpt-4o-mini", SEES, False, False),
        ("ft:gpt-4.1-mini:org::id", SEES, False, False),
        ("ft:o4-mini:org::id", THINKS, True, False),
        ("gpt-4", ("text", "tools", "json"), False, False),
        ("gpt-4-0613", ("text", "tools", "json"), False, False),
        ("gpt-4-turbo", SEES, False, False),
        ("gpt-3.5-turbo", ("text", "tools", "json"), False, False),
        ("chatgpt-4o-latest", ("text", "vision", "json"), False, False),
        ("gpt-image-2.5-flare", ("image",), False, False),
        ("chatgpt-image-latest", ("image",), False, False),
        ("text-embedding-3-large", ("embedding",), False, False),
        ("some-proxy-model", ("text",), False, False),
        *(
            (name, (), False, False)
            for name in ("whisper-1", "tts-1", "gpt-4o-audio-preview", "sora-2", "dall-e-3", "babbage-002",
                         "omni-moderation-latest", "gpt-4o-search-preview", "gpt-3.5-turbo-instruct", "gpt-realtime")
        ),
    ],
)  # fmt: skip
def test_what_a_name_tells(model: str, can: tuple[str, ...], thinks: bool, at_responses: bool) -> None:
    assert (capabilities(model), reasons(model), only_responses(model)) == (can, thinks, at_responses)


@given(st.text())
def test_any_name_is_read(model: str) -> None:
    assert family(model) in model
    assert set(capabilities(model)) <= {*THINKS, "image", "embedding"}
    assert reasons(model) or not only_responses(model)


def test_own_offers_leave_out_what_no_call_can_ask_for() -> None:
    cards: list[dict[str, Any]] = [
        {"id": "gpt-5-mini", "shutdown_date": "2026-12-11"},
        {"id": "whisper-1"},
        {"id": "gpt-4.1", "shutdown_date": None},
    ]
    assert own_offers(cards) == (
        Offer(model="gpt-5-mini", capabilities=THINKS, retires="2026-12-11"),
        Offer(model="gpt-4.1", capabilities=SEES),
    )


@pytest.mark.parametrize("fields", [None, 5, [], {}, {"data": None}, {"data": {}}])
def test_no_list(fields: object) -> None:
    with pytest.raises(BackendError) as caught:
        cards_of(fields)
    assert caught.value.kind == "invalid_structure"


def test_each_card_once_and_others_by_what_they_say() -> None:
    fields = {"data": [{"id": "a"}, {"id": "a", "max_model_len": 5}, {"id": ""}, 5, {"id": "nomic-embed-text"}]}
    cards = cards_of(fields)
    assert [card["id"] for card in cards] == ["a", "nomic-embed-text"]
    assert other_offers(fields, cards) == (
        Offer(model="a"),
        Offer(model="nomic-embed-text", capabilities=("embedding",)),
    )


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(
            ["n_ctx", "n_params", "value", "vision", "trained_for_tool_use", "reasoning", "config", "context_length", "id",
             "supports_tools", "default_generation_settings", "chat_template_caps", "modalities"]
        ), inner, max_size=3,
    ),
    max_leaves=4,
)  # fmt: skip
CARDS = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["a", "b", "gpt-4.1", "embed"])},
        optional=dict.fromkeys(
            ["key", "meta", "status", "parent", "max_model_len", "owned_by", "shutdown_date", "capabilities", "type",
             "loaded_instances", "state", "params_string", "max_context_length", "aliases", "name", "model"], ODD
        ),
    ) | ODD,
    max_size=4,
)  # fmt: skip


@given(CARDS, ODD, ODD)
def test_odd_cards_break_nothing(data: list[Any], second: Any, props: Any) -> None:
    fields = {"data": data, "models": second or data}
    cards = cards_of(fields)
    assert len({card["id"] for card in cards}) == len(cards)
    others = other_offers(fields, cards)
    found = [*own_offers(cards), *others, *offers_of(cards, awake=True), *(offer_of(card) for card in cards)]
    found += [
        described(offer, card, props if isinstance(props, dict) else {})
        for offer, card in zip(others, cards, strict=True)
    ]
    assert all(offer.capabilities for offer in found)
    assert all(offer.context_tokens is None or offer.context_tokens > 0 for offer in found)
    assert all(is_loaded(card) == offer_of(card).loaded for card in cards)
