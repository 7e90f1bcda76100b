"""`turnout policy`: files alone, and a router on a real server that takes up what is applied."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from actors import node
from actors.console import policy as module
from bus import codec
from messages import Load, Policy, PreviewIs
from tests.actors.console.live import Live, live, run
from tests.actors.router.fleet002 import of_002
from tests.messages.samples import backend

GOOD = """policy = "mine"
strategy = "cost_first"

[[rules]]
name = "code"
match = { task = ["code"] }
pool = ["m"]
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("nats")) as deployment:
        deployment.know(backend("gpu"))
        yield deployment


@pytest.fixture
def clean(there: Live, capsys: pytest.CaptureFixture[str]) -> Iterator[Live]:
    """The deployment; what was applied is removed afterwards."""
    yield there
    run("policy", "remove", "mine", url=there.server.url)
    capsys.readouterr()


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


# check


def test_a_good_file_is_ok_without_a_bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, 'policy = "mine"\nstrategy = "cost_first"\n')
    assert run("policy", "check", file) == 0
    shown, said = capsys.readouterr()
    assert shown == f"{file}: ok: policy mine\n"
    assert said == ""


def test_every_fault_of_every_file_has_file_line_and_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path, 'policy = "a"\nstrategy = "cost_frist"\norder = "last"\n', "a.toml")
    good = written(tmp_path, GOOD, "b.toml")
    last = written(tmp_path, "policy = \n", "c.toml")
    assert run("policy", "check", first, good, last, str(tmp_path / "none.toml")) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{first}:2: strategy: ")
    assert "cost_first" in shown[0]
    assert shown[1].startswith(f"{first}:3: order: ")
    assert shown[2].startswith(f"{good}: ok: policy mine")
    assert shown[3].startswith(f"{last}:1: not valid TOML")
    assert "none.toml: can't be read" in shown[4]


def test_warnings_are_no_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, 'policy = "mine"\n\n[[rules]]\nname = "r"\npool = ["no-such-model"]\n')
    assert run("policy", "check", file) == 0
    shown, said = capsys.readouterr()
    assert shown == f"{file}: ok: policy mine, 1 warning\n"
    assert said.startswith(f"warning: {file}:5: rules[0].pool[0]: ")


def test_the_shipped_policies_pass_their_own_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        written(tmp_path, node.policyfile.to_toml(one), f"{one.policy}.toml") for one in node.routing({})[0]
    ]  # fmt: skip
    assert run("policy", "check", *files) == 0
    assert capsys.readouterr().out.count(": ok: policy") == len(files) > 3


# show


def test_all_in_force_are_shown(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "show", url=there.server.url) == 0
    shown = capsys.readouterr().out
    names = [line.split()[0] for line in shown.splitlines()[1:]]
    assert names == [one.policy for one in node.routing({})[0]]
    assert "shipped" in shown


def test_one_is_shown_with_its_rules_and_as_a_file(
    there: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("policy", "show", "chains", url=there.server.url) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("chains@0, order ")
    assert "task code" in shown
    assert run("policy", "show", "chains", "--toml", url=there.server.url) == 0
    file = written(tmp_path, capsys.readouterr().out)
    shipped = next(one for one in node.routing({})[0] if one.policy == "chains")
    assert node.read_policy(Path(file), {}) == shipped


# diff, apply, remove


def test_an_applied_policy_holds_at_once_and_has_a_version(
    clean: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, file = clean.server.url, written(tmp_path, GOOD)
    assert run("policy", "diff", file, url=url) == 0
    assert "mine is new" in capsys.readouterr().out
    assert clean.stored("mine") is None
    before = clean.bus.now()
    assert run("policy", "apply", file, "--by", "ada", url=url) == 0
    shown = capsys.readouterr().out
    assert "mine is new" in shown
    assert 'strategy: nothing -> "cost_first"' in shown
    assert "applied mine, version 1, by ada" in shown
    stored = clean.stored("mine")
    assert stored is not None
    assert (stored.version, stored.applied_by, stored.source) == (1, "ada", "mine.toml")
    assert before <= stored.applied_at <= clean.bus.now()
    assert run("decide", "Hello", url=url) == 0
    assert "Preview · cost_first · policy mine@1" in capsys.readouterr().out

    changed = written(tmp_path, GOOD.replace("cost_first", "latency_first"))
    assert run("policy", "diff", changed, url=url) == 0
    assert 'strategy: "cost_first" -> "latency_first"' in capsys.readouterr().out
    assert run("policy", "apply", changed, url=url) == 0
    assert "applied mine, version 2, by " in capsys.readouterr().out
    assert run("policy", "apply", changed, url=url) == 0
    assert "mine is in force like this already, as version 2" in capsys.readouterr().out
    assert (clean.stored("mine") or stored).version == 2


def test_a_removed_policy_holds_no_more_and_keeps_its_count(
    clean: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, file = clean.server.url, written(tmp_path, GOOD)
    assert run("policy", "apply", file, url=url) == 0
    held = clean.stored("mine")
    assert held is not None
    assert run("policy", "remove", "mine", "--by", "bob", url=url) == 0
    assert f"removed mine, version {held.version + 1}, by bob" in capsys.readouterr().out
    removed = clean.stored("mine")
    assert removed is not None
    assert (removed.removed, removed.applied_by) == (True, "bob")
    assert run("policy", "remove", "mine", url=url) == 1
    assert "no policy called 'mine' is in force" in capsys.readouterr().err
    assert run("policy", "apply", file, url=url) == 0
    assert f"version {held.version + 2}" in capsys.readouterr().out


def test_a_shipped_policy_is_replaced_and_does_not_come_back(
    there: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = there.server.url
    assert run("policy", "show", "adaptive", "--toml", url=url) == 0
    text = capsys.readouterr().out
    file = written(tmp_path, text.replace("[adaptive]\n", "[adaptive]\nepsilon = 0.02\n"), "adaptive.toml")
    assert run("policy", "apply", file, url=url) == 0
    assert "adaptive.epsilon: nothing -> 0.02" in capsys.readouterr().out
    assert run("policy", "remove", "adaptive", url=url) == 0
    capsys.readouterr()
    assert run("policy", "show", "adaptive", url=url) == 1
    assert "no policy called 'adaptive' is in force" in capsys.readouterr().err
    assert (
        run("policy", "apply", written(tmp_path, text, "adaptive.toml"), url=url) == 0
    )  # Others of this deployment need it.


def test_a_wrong_file_changes_nothing_and_says_so(
    clean: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = clean.server.url
    assert run("policy", "apply", written(tmp_path, GOOD), url=url) == 0
    held = clean.stored("mine")
    wrong = written(tmp_path, GOOD.replace("cost_first", "cost_frist"))
    capsys.readouterr()
    assert run("policy", "apply", wrong, url=url) == 1
    said = capsys.readouterr().err
    assert "1 fault; nothing is applied, and what is in force stays in force" in said
    assert f"{wrong}:2: strategy: " in said
    assert clean.stored("mine") == held
    assert run("policy", "diff", wrong, url=url) == 1
    assert f"{wrong}:2: strategy: " in capsys.readouterr().err


class Slow:
    """The bus of a command while somebody else applies the same policy, before or after it looks at what is stored."""

    def __init__(self, bus: Any, theirs: Policy, *, before: bool) -> None:
        self._bus, self._theirs, self._before = bus, theirs, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def last(self, stream: str, subject: str) -> Any:
        if self._before:
            await self._bus.put_fact(subject, codec.encode(self._theirs))
        found = await self._bus.last(stream, subject)
        if not self._before:
            await self._bus.put_fact(subject, codec.encode(self._theirs))
        return found


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("new", [True, False])
def test_who_comes_second_changes_nothing(
    clean: Live,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
    new: bool,
) -> None:
    url = clean.server.url
    if not new:
        assert run("policy", "apply", written(tmp_path, GOOD), url=url) == 0
    theirs = Policy(policy="mine", version=70, strategy="manual")
    store = module._store
    monkeypatch.setattr(
        module, "_store", lambda bus, *rest: store(cast("Any", Slow(bus, theirs, before=before)), *rest)
    )
    capsys.readouterr()
    changed = written(tmp_path, GOOD.replace("cost_first", "latency_first"))
    assert run("policy", "apply", changed, url=url) == 1
    assert "somebody else changed mine at this moment; nothing is applied" in capsys.readouterr().err
    assert clean.stored("mine") == theirs
    monkeypatch.undo()
    clean.know()  # The router hears of theirs, so that it can be removed.


def test_what_is_shown_as_a_file_is_in_force_already(
    clean: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = clean.server.url
    assert run("policy", "apply", written(tmp_path, GOOD), url=url) == 0
    capsys.readouterr()
    assert run("policy", "show", "mine", "--toml", url=url) == 0
    file = written(tmp_path, capsys.readouterr().out, "shown.toml")
    assert run("policy", "check", file) == 0
    assert run("policy", "apply", file, url=url) == 0
    assert "mine is in force like this already" in capsys.readouterr().out


def test_a_stored_policy_that_cannot_be_read_is_replaced(
    clean: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def damage() -> None:
        await clean.bus.put_fact(Policy(policy="mine").subject, b'{"type":')

    clean.do(damage())
    assert run("policy", "apply", written(tmp_path, GOOD), url=clean.server.url) == 0
    shown, said = capsys.readouterr()
    assert "what was stored as mine can't be read, and is replaced" in said
    assert "applied mine, version " in shown


def test_the_nearest_name_is_told(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "remove", "chians", url=there.server.url) == 1
    assert "no policy called 'chians' is in force: did you mean chains?" in capsys.readouterr().err
    assert run("policy", "show", "--toml", url=there.server.url) == 2
    assert "--toml shows one policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("policy",), 2, "requires an argument"),
        (("policy", "aply", "x.toml"), 2, "apply"),
        (("policy", "check"), 2, "`policy check` got 0 arguments"),
        (("policy", "apply", "a.toml", "b.toml"), 2, "`policy apply` got 2 arguments"),
        (("policy", "remove"), 2, "turnout policy remove mine"),
        (("policy", "check", "a.toml", "--toml"), 2, "--toml is for `policy show`"),
        (("policy", "show", "--by", "ada"), 2, "--by is for `policy apply`, `policy remove` and `policy use`"),
        (("policy", "apply", "no-such-file.toml"), 1, "no-such-file.toml: can't be read"),
        (("policy", "show"), 3, "no bus at nats://127.0.0.1:1"),
    ],
)
def test_wrong_usage_and_no_bus(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    assert said in capsys.readouterr().err


# use


def strategies(there: Live, capsys: pytest.CaptureFixture[str]) -> str:
    """What decides for ordinary work now."""
    assert run("decide", "Hello", "--task", "chat", "--output", "json", url=there.server.url) == 0
    return str(msgspec.json.decode(capsys.readouterr().out)["decided"]["plan"].get("strategy", "weighted_score"))


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("000", "expected_cost"), ("001", "expected_cost"), ("002", "weighted_score"), ("003", "adaptive"),
     ("004", "expected_cost")],
)  # fmt: skip
def test_a_set_speaks_until_all_do_again(
    there: Live, capsys: pytest.CaptureFixture[str], name: str, strategy: str
) -> None:
    url = there.server.url
    assert run("policy", "use", name, "--by", "kim", url=url) == 0
    try:
        assert "applied set, version" in capsys.readouterr().out
        assert strategies(there, capsys) == strategy
        assert run("policy", "show", url=url) == 0
        shown, said = capsys.readouterr()
        assert f"seed {name}" in shown
        assert "set aside by `policy use`" in said
        assert run("policy", "use", name, url=url) == 0
        assert "in force like this already" in capsys.readouterr().out
    finally:
        assert run("policy", "use", "default", url=url) == 0
    capsys.readouterr()
    assert strategies(there, capsys) == "expected_cost"
    assert run("policy", "use", "default", url=url) == 0
    assert "all shipped policies speak already" in capsys.readouterr().out


def test_a_set_keeps_what_people_applied(clean: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = clean.server.url
    mine = 'policy = "mine"\n[[rules]]\nname = "r"\nmatch = { task = ["chat"] }\nstrategy = "cost_first"\n'
    assert run("policy", "apply", written(tmp_path, mine), url=url) == 0
    assert run("policy", "use", "002", url=url) == 0
    try:
        capsys.readouterr()
        assert strategies(clean, capsys) == "cost_first"
    finally:
        run("policy", "use", "default", url=url)


def test_sets_are_listed_and_a_wrong_one_names_them(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "use") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("default", "000", "001", "002", "003", "004", "balancer"))
    assert run("policy", "use", "005", url=there.server.url) == 2
    assert "use one of default, 000, 001, 002, 003, 004" in capsys.readouterr().err


def test_a_policy_that_chooses_what_is_not_shipped_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("policy", "check", written(tmp_path, 'policy = "mine"\nshipped = ["balance"]\n')) == 1
    assert "no shipped policy is called balance. Did you mean balancer?" in capsys.readouterr().out


def test_the_seeds_example_comes_out_of_a_running_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seed 002: 88, 64 and 43 points, while one job runs on the GPU and two wait."""
    with live(tmp_path) as there:
        there.know(*of_002("image"), Load(backend="local", waiting=2, running=1, at=time.time()))
        assert run("policy", "use", "002", url=there.server.url) == 0
        capsys.readouterr()
        words = ("decide", "--asset", "image", "--prompt", "a landscape", "--output", "json")
        assert run(*words, url=there.server.url) == 0
        made = msgspec.json.decode(capsys.readouterr().out, type=PreviewIs).decided
        assert made is not None
        assert [(c.backend, round(c.score)) for c in made.ranking] == [("local", 88), ("cloud", 64), ("gemini", 43)]
