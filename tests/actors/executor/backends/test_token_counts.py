import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.token_counts import Counts, counts_in, over_the_rate


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 4200 (3100 in the messages, 1100 for it)",
         Counts(3100, 4096)),
        ("This model's maximum context length is 8192 tokens. Your messages resulted in 9000 tokens.", Counts(9000, 8192)),
        ("request (5000 tokens) exceeds the available context size (4096 tokens)", Counts(5000, 4096)),
        ("The input (61,709 tokens) is longer than the model's context length (40,960 tokens).", Counts(61_709, 40_960)),
        ("prompt is too long: 210000 tokens > 200000 maximum", Counts(210_000, 200_000)),
        ("The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).", Counts(1_100_000, 1_048_576)),
        ("This model's maximum prompt length is 131072 but the request contains 136973 tokens.", Counts(136_973, 131_072)),
        ("length of prompt_tokens (147509) must be less than max_seq_len (65536).", Counts(147_509, 65_536)),
        ("`inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000 `inputs` tokens and 1024 `max_new_tokens`",
         Counts(1000, 1512)),
        ("`inputs` must have less than 1024 tokens. Given: 1168", Counts(1168, 1024)),
        ("Trying to keep the first 111490 tokens when context the overflows. The model has a context length of only 32768 tokens",
         Counts(111_490, 32_768)),
        ("greater than the context length (n_keep: 13055>= n_ctx: 4096)", Counts(13_055, 4096)),
        ("Input length 131393 exceeds the maximum allowed input length of 131040 tokens.", Counts(131_393, 131_040)),
        ("prompt token count of 130000 exceeds the limit of 128000", Counts(130_000, 128_000)),
        ("Your request exceeded model token limit: 262144 (requested: 269030)", Counts(None, 262_144)),
        ("max_tokens is too large: 32768. This model supports at most 16384 completion tokens", Counts(None, 16_384)),
        ("the input length exceeds the context length", Counts()),
        ("at most 2 images may be sent in a prompt", Counts()),
        ("", Counts()),
    ],
)  # fmt: skip
def test_counts_as_servers_tell_them(said: str, counts: Counts) -> None:
    assert counts_in(said) == counts


def test_llama_cpp_tells_them_in_fields() -> None:
    assert Counts.told({"n_prompt_tokens": 5000, "n_ctx": 4096}) == Counts(5000, 4096)
    assert Counts.told({"n_prompt_tokens": True, "n_ctx": "4096"}) is None


@given(st.text())
def test_any_words_may_come(text: str) -> None:
    for said in (text, f"your messages resulted in {text} tokens", f"maximum context length is {text}"):
        counts = counts_in(said)
        assert (counts.input_tokens or 1) > 0
        assert (counts.limit_tokens or 1) > 0
        assert over_the_rate(said) in (True, False)


@pytest.mark.parametrize(
    ("said", "over"),
    [
        ("on tokens per minute (TPM): Limit 6000, Requested 14368", True),
        ("on tokens per min (TPM): Limit 30,000, Requested 33,476.", True),
        ("on tokens per minute (TPM): Limit 7000, Used 6800, Requested ~503.", False),
        ("on requests per day (RPD): Limit 1000", False),
    ],
)
def test_a_request_that_no_minute_holds(said: str, *, over: bool) -> None:
    assert over_the_rate(said) is over
