"""Tables on screens of any width: nothing is ever cut."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from actors.console.tables import Fitted, show

WORDS = st.text(st.characters(categories=("L", "N", "P"), max_codepoint=0x2FF), max_size=50)


def drawn(made: Fitted, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, emoji=False, highlight=False)
    console.print(made, crop=False)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, int], list[str]]:
    names = draw(
        st.lists(st.sampled_from(["id", "state", "cost", "backend", "about", "when", "who"]), min_size=1, unique=True)
    )
    rows = draw(st.integers(0, 4))
    cells = {name: [draw(WORDS) for _ in range(rows)] for name in names}
    fold = {name: draw(st.integers(1, 40)) for name in names if draw(st.booleans())}
    drop = [name for name in names if name != "id" and draw(st.booleans())]
    return cells, fold, drop


@given(tables(), st.integers(20, 120))
def test_what_is_shown_is_whole_and_within_the_screen(
    made: tuple[dict[str, list[str]], dict[str, int], list[str]], width: int
) -> None:
    cells, fold, drop = made
    table = Fitted(cells, width, fold=fold, drop=drop)
    lines = drawn(table, width)
    assert all(len(line) <= width for line in lines)
    assert set(table.left_out) <= set(drop)
    shown = sorted("".join(lines).replace(" ", ""))
    for mark in {mark for name in cells if name not in table.left_out for cell in cells[name] for mark in cell}:
        wanted = sum(cell.count(mark) for name in cells if name not in table.left_out for cell in cells[name])
        assert shown.count(mark) >= wanted, "every character is there"


def test_columns_go_in_their_order_then_text_is_folded_then_rows_become_blocks() -> None:
    cells = {"id": ["a" * 20], "cost": ["$0.001"], "about": ["one two three four five six"], "who": ["ada"]}
    whole = Fitted(cells, 80, fold={"about": 10}, drop=("who", "cost"))
    assert (whole.left_out, len(drawn(whole, 80))) == ([], 2)
    narrow = Fitted(cells, 44, fold={"about": 10}, drop=("who", "cost"))
    assert narrow.left_out == ["who"]
    tight = Fitted(cells, 33, fold={"about": 10}, drop=("who", "cost"))
    assert tight.left_out == ["who", "cost"]
    blocks = Fitted(cells, 20, fold={"about": 10}, drop=("who", "cost"))
    assert not blocks.fits
    assert blocks.left_out == []
    assert "$0.001" in "".join(drawn(blocks, 20))


def test_a_wide_table_leaves_nothing_out(capsys) -> None:
    cells = {"id": ["x" * 90], "about": ["word " * 60]}
    show(cells, fold={"about": 10}, drop=("about",), wide=True)
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2
    assert "word " * 59 in told.out
    show({"id": ["x" * 150], "about": ["word " * 60]}, fold={"about": 20}, drop=("about",))
    assert "left out for want of room: about; --wide shows all" in capsys.readouterr().err
