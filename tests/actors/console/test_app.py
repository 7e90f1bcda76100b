"""The command line itself: commands, complaints, exit codes."""

from importlib.metadata import EntryPoint

import pytest

from actors.console import app
from actors.console.screen import Complaint

OURS = {
    "backends", "cancel", "dev", "doctor", "jobs", "run", "schema", "setup", "sim-backend", "submit", "watch", "why",
}  # fmt: skip


def test_our_commands_are_registered_and_load() -> None:
    points = app.found()
    assert set(points) >= OURS
    for name in OURS:
        assert callable(points[name].load())


def test_a_broken_command_is_listed_and_leaves_the_others_alone(capsys: pytest.CaptureFixture) -> None:
    points = {**app.found(), "demo": EntryPoint("demo", "no.such.module:demo", app.GROUP)}
    app.build(points, "").help_print()
    said = capsys.readouterr().out
    assert "can't be loaded: ModuleNotFoundError" in said
    assert "submit" in said


def test_a_broken_command_that_is_asked_for_says_why() -> None:
    points = {"demo": EntryPoint("demo", "no.such.module:demo", app.GROUP)}
    with pytest.raises(Complaint, match=r"'demo' \(no.such.module:demo\) can't be loaded"):
        app.build(points, "demo")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("submti hi", 'Did you mean "submit"?'),
        ("submit", "there is no prompt"),
        ("submit hi --qualty draft", "Did you mean --quality?"),
        ("submit hi --quality best", '"draft", "standard", "final"'),
        ("submit hi --deadline soon", "--deadline is 'soon'"),
        ("submit hi --max-cost -1", "--max-cost is '-1'"),
        ("submit hi --prompt hello", "given twice"),
        ("submit --file x.jsonl hi", "--file brings its own texts"),
        ("submit --file no-such-file.jsonl", "No such file"),
        ("submit hi --nats http://host", "it must begin with nats://"),
        ("submit hi --config no-such-file.toml", "settings file no-such-file.toml"),
        ("jobs --limit 0", "--limit is 0"),
        ("jobs --state done", "Choose from"),
        ("cancel", "cancel needs jobs, or --all"),
        ("cancel j-1 --all", "don't go together"),
        ("cancel j-1 --filter state=held", "are for --all"),
        ("cancel --all --filter state=done", "use choosing, queued, running, waiting, held or open"),
        ("cancel --all --filter colour=red", "one of state=, batch=, backend=, tenant="),
        ("rate j-1 9", "use 1 (useless) to 5 (excellent)"),
        ("recipes show", "takes one NAME"),
        ("submit hi --json", "Unknown option"),
        ("sim-backend --port 65536", "use 0 (any free one) to 65535"),
        ("get j-1 --to - --output json", "both want the standard output"),
        ("run", "requires an argument"),
        ("run frnt", "use one of front"),
        ("run analyzer", "runs alone only with rooms = 'apart'"),
        ("dev --nats-port 70000", "nats.port is 70000: use at most 65535"),
        ("setup --replicas 2", "--replicas is 2"),
        ("schema JobSub", "turnout schema JobSubmit"),
        ("why x --output xml", "Choose from"),
        ("sim-backend --fault boom=1", "'boom' is none of"),
        ("sim-backend --fault 500=much", "write KIND=SHARE"),
    ],
)
def test_wrong_usage_is_explained(line: str, said: str, capsys: pytest.CaptureFixture, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(line.split()) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert said in shown
    assert "Traceback" not in shown


def test_no_bus_is_said_without_the_password(capsys: pytest.CaptureFixture, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["submit", "hi", "--nats", "nats://me:secret@127.0.0.1:1"]) == 3
    shown = capsys.readouterr().err
    assert "no bus at nats://127.0.0.1:1 (from --nats): nothing listens there" in shown
    assert "turnout dev" in shown
    assert "secret" not in shown


def test_help_and_version(capsys: pytest.CaptureFixture) -> None:
    assert app.run([]) == 0
    assert "sim-backend" in capsys.readouterr().out
    assert app.run(["submit", "--help"]) == 0
    assert "--max-cost" in capsys.readouterr().out
    assert app.run(["--version"]) == 0
