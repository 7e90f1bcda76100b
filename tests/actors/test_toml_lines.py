from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.toml_lines import line_of, lines

# ------------------------------------------------------------------------------------------------- documents by hand


def test_tables_keys_and_elements_have_their_lines() -> None:
    found = lines(
        "\n".join(  # noqa: FLY002 -- one line of the document on each line here
            (
                "# comment = 1",  # 1
                'policy = "p"',
                "a.b.c = 1 # not.a = key",
                'text = """',
                "fake = 1",  # 5
                '[fake]""" # the end',
                "",
                "[weights]",
                "cost = 1",
                "[models.'x.y'] # dots",  # 10
                "roles = [ # first",
                "  'a', # [",
                "  { b = 1, c = [2, 3] },",
                "]",
                "[[rules]]",  # 15
                "[rules.match]",
                "task = ['code']",
                "[[rules]]",
                "[rules.match]",
                "\ttask = ['chat']",  # 20
                "at = 1979-05-27 07:32:00 # a blank in a value",
            )
        )
    )
    assert found["policy",] == 2
    assert found["a",] == found["a", "b"] == found["a", "b", "c"] == 3
    assert found["text",] == 4
    assert ("fake",) not in found
    assert found["weights",] == 8
    assert found["models",] == found["models", "x.y"] == 10
    assert found["models", "x.y", "roles", 0] == 12
    assert found["models", "x.y", "roles", 1, "b"] == found["models", "x.y", "roles", 1, "c", 1] == 13
    assert [found["rules", n] for n in (0, 1)] == [15, 18]
    assert [found["rules", n, "match", "task"] for n in (0, 1)] == [17, 20]
    assert found["rules", 1, "match", "at"] == 21


def test_a_table_stands_at_its_own_header() -> None:
    assert lines("[a.b]\n[a]\n")["a",] == 2


def test_tables_in_arrays_of_arrays() -> None:
    found = lines("[[a]]\n[[a.b]]\n[[a.b]]\n[[a]]\n[[a.b]]\nx = 1\n[a.b.c.d]\ny = 1")
    assert found["a", 0, "b", 1] == 3
    assert found["a", 1, "b", 0, "x"] == 6
    assert found["a", 1, "b", 0, "c", "d", "y"] == 8


@pytest.mark.parametrize(
    "value",
    [
        '""', "''", '""""""', "''''''", '"""a""""', '"""a"""""', "'''a''''", "'''a'''''", r'"\""', r'"""\""""', r"'\'",
        r'"\\"', '"""\n\n"""', "'''\n\"\"\"\n'''", '"#"', '"]"', "[]", "[[], [ ]]", "{}", "[\n]", "[1, # ]\n2,\n]",
        "1_000", "-inf", "0x1F", "1979-05-27 07:32:00Z", "07:32:00", "true",
    ],
)  # fmt: skip
def test_what_follows_a_value_is_found(value: str) -> None:
    text = f"first = {value} # = '\nlast = 1"
    assert set(tomllib.loads(text)) == {"first", "last"}
    assert lines(text)["last",] == text.count("\n") + 1


def test_windows_line_ends_count_once() -> None:
    assert lines('a = """\r\n"""\r\nb = 1\r\n')["b",] == 3


def test_what_is_not_written_stands_where_it_should_be() -> None:
    found = lines("\n[a]\nb = 1")
    assert line_of(found, ("a", "missing", 0)) == 2
    assert line_of(found, ("missing",)) == 1
    assert line_of(found, ("a", "b", "deeper")) == 3


@pytest.mark.parametrize("text", ["a", "= 1", "[a", "a = [1", "a =", "[[a]"])
def test_what_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1: not TOML"):
        lines(text)


# ----------------------------------------------------------------------------------------------------- any document

WORDS = st.sampled_from(["a", "b-1", "x.y", "a b", "ä", '"', "'", "[k]", "#", "=", "\\", "tab\t", "1", "-"])
"""Few, so that tables meet; most of them need quotes."""
TEXTS = st.text(st.sampled_from("a=#[]{}'\"\\\n, é"), max_size=12)
SCALARS = st.one_of(st.booleans(), st.integers(-1000, 1000), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
TABLES = st.recursive(
    st.dictionaries(WORDS, VALUES, max_size=3),
    lambda inner: st.dictionaries(WORDS, st.one_of(VALUES, inner, st.lists(inner, min_size=1, max_size=3)), max_size=4),
    max_leaves=8,
)


class Writer:
    """Writes a tree as TOML, with layouts that Hypothesis draws."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def one_of(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def key(self, word: str) -> str:
        if word.replace("-", "").isalnum() and word.isascii():
            return word
        quotes = ["basic"] if "'" in word or "\t" in word else ["basic", "literal"]
        return f"'{word}'" if self.draw(st.sampled_from(quotes)) == "literal" else json.dumps(word, ensure_ascii=False)

    def text(self, text: str) -> str:
        forms = [json.dumps(text, ensure_ascii=False)]
        if "\\" not in text and '"""' not in text and not text.endswith('"'):
            forms.append(f'"""\n{text}"""')
        if "'''" not in text and not text.endswith("'"):
            forms.append(f"'''\n{text}'''")
        if "'" not in text and "\n" not in text:
            forms.append(f"'{text}'")
        return self.draw(st.sampled_from(forms))

    def value(self, value: Any, *, inline: bool = False) -> str:
        """A value on one line or several; within inline tables no line may end between the elements."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            pairs = [f"{self.key(k)} = {self.value(v, inline=True)}" for k, v in value.items()]
            return "{" + self.one_of("", " ") + ", ".join(pairs) + self.one_of("", " ") + "}"
        if isinstance(value, list):
            gap = self.one_of("", " ", "\n", "\n  # ] comment\n  ")
            last = self.one_of("", ",") if value else ""
            return f"[{gap}" + f",{gap}".join(self.value(v, inline=inline) for v in value) + f"{last}{gap}]"
        return repr(value)

    def table(self, table: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
        """Values first; then tables inline, with dotted keys, or under headers."""
        later: list[tuple[str, Any]] = []
        for word, value in table.items():
            tables = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
            if tables and self.one_of("inline", "header") == "header":
                later.append((word, value))
            elif isinstance(value, dict) and value and self.one_of("inline", "dotted") == "dotted":
                for inner, part in value.items():
                    yield f"{self.key(word)}{self.one_of('.', ' . ')}{self.key(inner)}={self.value(part)}"
            else:
                yield f"{self.key(word)} = {self.value(value)}{self.one_of('', ' # = 1', '   ')}"
        for word, value in later:
            here = (*path, word)
            name = ".".join(self.key(part) for part in here)
            for one in value if isinstance(value, list) else [value]:
                yield self.one_of("", "\n") + (f"[[{name}]]" if isinstance(value, list) else f"[ {name} ]")
                yield from self.table(one, here)


def told_apart(value: Any, number: Iterator[int]) -> Any:
    """The same tree with a number at each key, so that a line which holds the key is the key's line."""
    if isinstance(value, dict):
        return {f"{key}{next(number)}": told_apart(inner, number) for key, inner in value.items()}
    return [told_apart(inner, number) for inner in value] if isinstance(value, list) else value


@st.composite
def documents(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    tree = told_apart(draw(TABLES), itertools.count(100))
    gap, end = draw(st.sampled_from(["\n", "\n\n", "\n# c\n"])), draw(st.sampled_from(["", "\n", "\n\n"]))
    return tree, gap.join(Writer(draw).table(tree, ())) + end


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, one in inner:
        yield (*path, part), one
        yield from leaves(one, (*path, part))


@given(documents())
def test_every_path_has_the_line_that_its_key_stands_on(document: tuple[dict[str, Any], str]) -> None:
    tree, text = document
    assert tomllib.loads(text) == tree
    found = lines(text)
    written = text.split("\n")
    paths = dict(leaves(tree))
    assert set(found) == {(), *paths}
    for path, value in paths.items():
        line = written[found[path] - 1]
        if isinstance(path[-1], str):
            assert path[-1] in line or json.dumps(path[-1], ensure_ascii=False) in line
        elif isinstance(value, (int, float)):
            assert (repr(value) if not isinstance(value, bool) else str(value).lower()) in line
        if isinstance(path[-1], int):
            before = (*path[:-1], path[-1] - 1) if path[-1] else path[:-1]
            assert found[path] >= found[before]
