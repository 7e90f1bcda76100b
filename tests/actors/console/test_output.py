"""What machines get: one document, or a line for each."""

import json

from actors.console.output import TEXT, Output


def test_many_are_one_list_or_a_line_each(capsys) -> None:
    Output(output="json").rows([{"a": 1}, {"a": 2}])
    assert json.loads(capsys.readouterr().out) == [{"a": 1}, {"a": 2}]
    Output(output="jsonl").rows([{"a": 1}, {"a": 2}])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"a": 1}, {"a": 2}]
    Output(output="json").rows([])
    assert json.loads(capsys.readouterr().out) == []
    for form in ("json", "jsonl"):
        Output(output=form).one({"a": 1})
        assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_what_comes_bit_by_bit_is_told_at_once_or_in_the_end(capsys) -> None:
    stream = Output(output="jsonl").stream()
    stream.put({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    stream.close()
    assert capsys.readouterr().out == ""
    stream = Output(output="json").stream()
    stream.put({"a": 1})
    assert capsys.readouterr().out == ""
    stream.close()
    assert json.loads(capsys.readouterr().out) == [{"a": 1}]
    assert not TEXT.machine
    stream = TEXT.stream()
    stream.put({"a": 1})
    stream.close()
    assert capsys.readouterr().out == ""
