from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.router.policyfile import LARGEST_BYTES, Fault, PolicyError, load_policy, read_policy, to_toml
from actors.router.strategies.registry import STRATEGIES
from messages.policies import Match, Policy, Rule, Weights

ROOT = Path(__file__).parents[3]
CORPUS = sorted((Path(__file__).parent / "bad_policies").glob("*.toml"))
EXPECT = re.compile(r'# expect: (\d+) (\S+) "(.*)"\s*\Z')


def load(text: str) -> Policy:
    return load_policy(text, "my.toml", strategies=STRATEGIES)


def refused(text: str) -> list[Fault]:
    with pytest.raises(PolicyError) as caught:
        load(text)
    return caught.value.faults


# ------------------------------------------------------------------------------------------------------- what is accepted


def test_keys_of_a_file_are_the_fields_of_a_policy() -> None:
    policy = load(
        """
        policy = "thrifty"
        strategy = "cost_first"

        [weights]
        cost = 40

        [[rules]]
        name = "writers"
        strategy = "pool_order"
        pool = ["light-1", "stable-1"]
        [rules.match]
        role = ["writer"]
        """
    )
    rule = Rule(name="writers", strategy="pool_order", pool=("light-1", "stable-1"), match=Match(role=("writer",)))
    assert policy == Policy(policy="thrifty", strategy="cost_first", weights=Weights(cost=40.0), rules=(rule,))


@pytest.mark.parametrize(
    "text",
    [
        'policy = "p"\nenabled = false',  # Nothing to order: by priority then.
        'policy = "p"\n[chains]\na = []',  # Speaks first, so it ends the chain of another policy.
        'policy = "p"\n[[rules]]\nname = "r"\nmax_attempts = 2',  # Nobody wrote fallbacks.
        'policy = "p"\n[[rules]]\nname = "r"\nshares = { a = 0.1, b = 0.2, c = 0.7 }',  # 1.0000000000000002 as floats.
        'policy = "p"\n[[rules]]\nname = "r"\nclasses.simple = ["a"]',  # No pool: everything is in it.
        'policy = "p"\n[[rules]]\nname = "r"\nmatch = { task = ["code", "creative"], complexity = ["simple", "high"] }',
    ],
)
def test_odd_policies_that_hold_are_accepted(text: str) -> None:
    assert load(text).policy == "p"


def test_users_strategies_are_known() -> None:
    assert load_policy('policy = "p"\nstrategy = "mine"', "f", strategies=["mine"]).strategy == "mine"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(b'\xef\xbb\xbfpolicy = "p"\r\n')
    assert read_policy(file, strategies=STRATEGIES) == Policy(policy="p")


def test_examples_of_the_guide_are_accepted() -> None:
    guide = (ROOT / "docs" / "guides" / "policies.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml policy\n(.*?)```", guide, re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        assert load_policy(example, "policies.md", strategies=STRATEGIES).policy


# -------------------------------------------------------------------------------------------------------- what is refused


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_wrong_files_are_refused_with_line_field_and_reason(file: Path) -> None:
    """Exactly the faults that the first lines of the file expect, each at its line and in words that help."""
    head = file.read_bytes().decode("utf-8", "replace").splitlines()
    found = [match.groups() for line in head if (match := EXPECT.match(line))]
    expected = [(int(line), "" if field == "-" else field, words) for line, field, words in found]
    assert expected
    with pytest.raises(PolicyError) as caught:
        read_policy(file, strategies=STRATEGIES)
    faults = caught.value.faults
    assert sorted((f.line, f.field) for f in faults) == sorted((line, field) for line, field, _ in expected)
    for line, field, words in expected:
        (fault,) = [f for f in faults if (f.line, f.field) == (line, field)]
        assert words in fault.message.replace('"', "'")
        assert f"{file}:{line}: " in str(caught.value)


def test_all_faults_are_printed_by_line() -> None:
    with pytest.raises(PolicyError) as caught:
        load('policy = "p"\norder = "x"\n\n[weights]\ncots = 1\n')
    assert str(caught.value).splitlines() == [
        "my.toml:2: order: x is a text: use a whole number",
        "my.toml:5: weights.cots: cots is no key of [weights]. Did you mean cost?",
    ]


def test_a_long_value_is_cut() -> None:
    (fault,) = refused(f'policy = "p"\norder = "{"x" * 1_000}"')
    assert len(fault.value) == 200
    assert len(fault.message) < 300


def test_a_fault_behind_another_keeps_its_position() -> None:
    faults = refused('policy = "p"\n[[rules]]\nname = "r"\npool = [1, "a"]\noverflow = [2, "b", "a"]')
    assert [(fault.field, fault.line) for fault in faults] == [
        ("rules[0].pool[0]", 4), ("rules[0].overflow[0]", 5), ("rules[0].overflow[1]", 5),
    ]  # fmt: skip


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.toml: can't be read: No such file"):
        read_policy(tmp_path / "nowhere.toml", strategies=STRATEGIES)
    with pytest.raises(PolicyError, match="can't be read"):
        read_policy(tmp_path, strategies=STRATEGIES)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.touch()
    with pytest.raises(PolicyError, match=r"empty\.toml:1: policy: the file is empty"):
        read_policy(file, strategies=STRATEGIES)


@pytest.mark.parametrize("opening", ["[", "{a="])
def test_deep_nesting_is_refused(opening: str) -> None:
    (fault,) = refused(f"policy = {opening * 5_000}")
    assert fault.message == "is nested too deeply"


def test_a_number_of_many_digits_is_refused() -> None:
    (fault,) = refused(f'policy = "p"\norder = {"9" * 5_000}')
    assert "not valid TOML" in fault.message


def test_a_file_too_large_for_a_message_is_refused() -> None:
    (fault,) = refused(f'policy = "p"\nsource = "{"x" * LARGEST_BYTES}"')
    assert "a policy may have 524,288" in fault.message


# ------------------------------------------------------------------------------------------------------------ any file

PARTS = msgspec.inspect.multi_type_info([Policy])
ATOMS = st.sampled_from(["", "a", "b", "code", "simple", "draft", "direct", "vision", 0, 1, 5, 0.5, -1, True, False])


def _shaped(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values that are right for a type, more often than not."""
    match kind:
        case msgspec.inspect.UnionType():
            return _shaped(kind.types[0] if not isinstance(kind.types[0], msgspec.inspect.NoneType) else kind.types[1])
        case msgspec.inspect.StructType():
            needed = {field.encode_name: _often(_shaped(field.type)) for field in kind.fields if field.required}
            others = {field.encode_name: _often(_shaped(field.type)) for field in kind.fields if not field.required}
            return st.fixed_dictionaries(needed, optional=others)
        case msgspec.inspect.DictType():
            names = st.sampled_from(["a", "b", "simple", "high", "draft", ""])
            return st.dictionaries(names, _often(_shaped(kind.value_type)), max_size=2)
        case msgspec.inspect.VarTupleType():
            return st.lists(_often(_shaped(kind.item_type)), max_size=2)
        case msgspec.inspect.LiteralType():
            return st.sampled_from(kind.values)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return st.sampled_from([0, 1, 2, 0.25, 0.75, 40])
        case _:
            return st.sampled_from(["direct", "cost_first", "manual"])


def _often(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 15).flatmap(
        lambda n: right if n else st.one_of(ATOMS, st.lists(ATOMS, max_size=2), st.just({}), st.just({"unknown": 1}))
    )


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(_inline, value))}]" if isinstance(value, list) else json.dumps(value)


@settings(max_examples=60)
@given(_shaped(PARTS[0]))
def test_any_file_is_accepted_or_refused_with_lines_and_words(tree: dict[str, Any]) -> None:
    """Whatever stands in it: nothing but PolicyError is raised, and what is accepted can be shown and loaded again."""
    text = "".join(f"{key} = {_inline(value)}\n" for key, value in tree.items())
    policy, faults = _outcome(text)
    for fault in faults:
        assert fault.message
        first = re.split(r"[.\[]", fault.field)[0]
        assert fault.line == (list(tree).index(first) + 1 if first in tree else 1)
    assert (policy is None) == bool(faults)
    assert policy is None or load(to_toml(policy)) == policy


def _outcome(text: str) -> tuple[Policy | None, list[Fault]]:
    try:
        return load(text), []
    except PolicyError as error:
        return None, error.faults
