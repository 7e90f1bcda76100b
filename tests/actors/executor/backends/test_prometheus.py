import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.prometheus import counted, total

TEXT = """# HELP a:running How many.
# TYPE a:running gauge
a:running{engine="0",name="with } and \\" inside"} 2.0
a:running{engine="1"} 1.0 1395066363000
a:share 0.25
a:bad NaN
a:worse what
"""


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("a:running",), 3.0),
        (("a:none", "a:share"), 0.25),
        (("a:none",), None),
        (("a:bad",), None),
        (("a:worse",), None),
    ],
)
def test_a_figure_is_summed_over_its_labels(names: tuple[str, ...], value: float | None) -> None:
    assert total(TEXT, names) == value


def test_counts() -> None:
    assert counted(TEXT, "a:running") == 3
    assert counted("x -1", "x") is None


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert counted(text, "a:none_such_figure") is None


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_what_is_written_is_read(values: list[int]) -> None:
    text = "\n".join(f'x{{engine="{number}"}} {float(value)}' for number, value in enumerate(values))
    assert counted(text, "x") == sum(values)
