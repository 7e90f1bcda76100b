import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.texts import MARKS, Texts, split


def told(pieces: list[str], *, whole: bool = True) -> tuple[str, str, str]:
    texts = Texts()
    shown = "".join(texts.add(piece) for piece in pieces)
    shown += texts.end(whole=whole)
    return texts.text, texts.reasoning, shown


@pytest.mark.parametrize(
    ("said", "text", "reasoning"),
    [
        ('<think>The user wants JSON.</think>\n{"city":"Ulm"}', '{"city":"Ulm"}', "The user wants JSON."),
        ("\n<THINK>\nhm\n</THINK>\n\nHello", "Hello", "\nhm\n"),
        ("<think>a</think><think>b</think>c", "c", "ab"),
        ("[THINK]a[/THINK]b", "b", "a"),
        ("◁think▷a◁/think▷b", "b", "a"),
        ("<thought>a</thought>b", "b", "a"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi", "Hi", "hm"),
        ("thoughts\n</think>\n\nHello", "Hello", "thoughts"),
        ('<think lang="en" id="1">a</think>b', "b", "a"),
        ("<think>a<think>b</think>c</think>d", "d", "a<think>bc"),
        ("<mm:think>a</mm:think>b", "b", "a"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "b", "a"),
        ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>\nb\n<|end_of_solution|>", "b", "a"),
        ("<|channel>thought\na<channel|>b<turn|>", "b", "\na"),
        ("<|inner_prefix|>a<|inner_suffix|>b", "b", "a"),
        ("<|channel|>final<|message|>b<|return|>", "b", ""),
        (
            "<|start|>assistant<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "b",
            "a",
        ),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{}",
            "{}",
            "a",
        ),
        ("<|channel|>unheard of", "<|channel|>unheard of", ""),
        ("ChatML ends in <|im_end|>", "ChatML ends in <|im_end|>", ""),
        ("[Thinking] hm\n</think>\n\nHello", "Hello", "[Thinking] hm"),
        ("<think>a</think><", "<", "a"),
        ('internal</think>{"a": 1}', '{"a": 1}', "internal"),
        ("Let's write it.</think>The root cause", "The root cause", "Let's write it."),
        ("<think>a</think>b</think>c", "b</think>c", "a"),
        ("Hello <think>no</think>", "", "Hello <think>no"),
        ("The mark `</think>` ends it", "The mark `</think>` ends it", ""),
        ('He said "</think>" twice', 'He said "</think>" twice', ""),
        ("```\na</think>b\n```", "```\na</think>b\n```", ""),
        ('{"a": "x</think>y"}', '{"a": "x</think>y"}', ""),
        ("<thin ice", "<thin ice", ""),
        ("<", "<", ""),
        ("", "", ""),
        ("  \n", "  \n", ""),
        ("  Hello ", "  Hello ", ""),
        ("[1, 2]", "[1, 2]", ""),
        ("İ<think>", "İ<think>", ""),
    ],
)
def test_thoughts_are_told_apart(said: str, text: str, reasoning: str) -> None:
    assert split(said) == (text, reasoning)
    assert told(list(said))[:2] == (text, reasoning)


def test_thoughts_that_nothing_follows_are_the_answer_only_when_it_ended_by_itself() -> None:
    assert told(["<think>", "42"]) == ("42", "", "42")
    assert told(["<think>", "42"], whole=False) == ("", "42", "")
    texts = Texts()
    texts.add("<think>42")
    texts.end(whole=True)
    assert texts.never_ended


def test_nothing_of_a_thought_is_shown_meanwhile() -> None:
    texts = Texts()
    assert [texts.add(piece) for piece in ("<th", "ink>a", "b</thi", "nk>", "\n", "c", " d")] == [
        "",
        "",
        "",
        "",
        "",
        "c",
        " d",
    ]


PIECES = st.lists(
    st.sampled_from(
        [mark for pair in MARKS for mark in pair] + ["<think", "</", ">", "`", '"', "\n", " ", "{", "a", "Hello", "İ"]
    ),
    max_size=8,
)


@given(PIECES, st.data())
def test_how_it_was_cut_changes_nothing(words: list[str], data: st.DataObject) -> None:
    said = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=6)))
    pieces = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    assert told(pieces)[:2] == told([said])[:2]


@given(st.text(alphabet=st.characters(blacklist_characters="<[◁"), max_size=60))
def test_a_text_without_marks_stays_as_it_is(said: str) -> None:
    assert told(list(said)) == (said, "", said)
