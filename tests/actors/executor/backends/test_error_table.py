from __future__ import annotations

from pathlib import Path

import pytest

from actors.executor.backends import error_table
from actors.executor.backends.error_rules import RULES, SUBJECTS
from actors.executor.backends.error_words import STATUSES

PAGE = Path(__file__).parents[4] / "docs" / "guides" / "errors.md"


def test_the_page_holds_the_present_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert error_table.written(text) == text, (
        "run: python -m actors.executor.backends.error_table --write docs/guides/errors.md"
    )


def test_every_rule_and_every_status_has_a_row() -> None:
    text = error_table.table()
    assert all(rule.what in text for rule in RULES + SUBJECTS)
    assert all(str(status) in text for status in STATUSES)
    assert {line.count("|") for line in text.splitlines()} == {6}


def test_it_writes_where_it_belongs_and_says_where_it_can_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error_table.main([])
    assert capsys.readouterr().out == error_table.table()
    page = tmp_path / "page.md"
    page.write_text(f"a\n{error_table.BEGIN}\nold\n{error_table.END}\nb\n", encoding="utf-8")
    error_table.main(["--write", str(page)])
    assert (
        page.read_text(encoding="utf-8") == f"a\n{error_table.BEGIN}\n\n{error_table.table()}\n{error_table.END}\nb\n"
    )
    with pytest.raises(ValueError, match="no place for the table"):
        error_table.written("a page")
