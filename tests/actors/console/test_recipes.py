"""`turnout recipes`, where no bus is."""

import pytest

from actors.console import app


@pytest.mark.parametrize("width", [80, 120])
def test_all_are_listed_whole(width: int, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path) -> None:
    from actors.console import screen

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(screen.out, "width", width)
    assert app.run(["recipes", "--nats", "nats://127.0.0.1:1"]) == 0
    said = capsys.readouterr()
    assert all(len(line) <= width for line in said.out.splitlines())
    for name in ("wan21-text-to-video", "flux-text-to-image", "control_image"):
        assert name in said.out
    assert "no bus is there" in said.err


def test_one_is_shown_and_an_unknown_one_is_told_the_nearest(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["recipes", "show", "inpaint", "--nats", "nats://127.0.0.1:1"]) == 0
    assert "image, mask" in capsys.readouterr().out
    assert app.run(["recipes", "show", "inpant", "--nats", "nats://127.0.0.1:1"]) == 1
    assert "did you mean inpaint?" in capsys.readouterr().err
