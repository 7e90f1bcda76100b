from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.actor import Heard, Later
from actors.analyzer.actor import INLINE_BYTES, Analyzer
from bus.topology import ANALYZER
from messages import (
    AnalysisRules,
    Analyzed,
    CatalogueEntry,
    DeadLetter,
    Done,
    Expired,
    JobSubmit,
    Model,
    NeedsAre,
    NeedsOf,
    Policy,
    Preference,
    Preset,
    Refused,
    Stats,
)
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, backend


def analyzer() -> Analyzer:
    made = Analyzer(default_deadline_seconds=600.0, longest_deadline_seconds=3600.0, strategies=("cost_first",))
    made.backend(backend("a", models=(Model(name="llama3.1:8b"),)), Heard(now=T0))
    return made


def heard(body: bytes = b'{"prompt":"hi"}', **changes: Any) -> Heard:
    given: dict[str, Any] = {
        "now": T0 + 1, "stream": "IN", "seq": 17, "stored_at": T0, "body": body, "subject": "job.submit.acme",
    }  # fmt: skip
    return Heard(**{**given, **changes})


def understood(body: bytes, **changes: Any) -> Analyzed:
    submit = msgspec.json.decode(body, type=JobSubmit)
    (said,) = analyzer().job_submit(submit, heard(body, **changes))
    assert isinstance(said, Analyzed)
    return said


def test_a_job_gets_an_id_needs_and_a_deadline() -> None:
    said = understood(b'{"prompt":"hi"}')
    assert (said.tenant, said.job) == ("acme", "in-17")
    assert said.rejected is None
    assert said.slip is not None
    assert (said.slip.submitted_at, said.slip.deadline_at, said.slip.input_seq) == (T0, T0 + 600, 17)
    assert bytes(said.slip.input) == b'{"prompt":"hi"}'


def test_the_clients_id_and_deadline_count() -> None:
    said = understood(b'{"prompt":"hi","id":"mine","deadline_seconds":5}')
    assert said.job == "mine"
    assert said.slip is not None
    assert said.slip.deadline_at == T0 + 5


def test_the_tenant_is_that_of_the_subject() -> None:
    assert understood(b'{"prompt":"hi"}', subject="job.submit.a%2Eb").tenant == "a.b"


def test_a_large_body_stays_where_it_is() -> None:
    body = msgspec.json.encode({"prompt": "x" * INLINE_BYTES})
    said = understood(body)
    assert said.slip is not None
    assert bytes(said.slip.input) == b"null"


@pytest.mark.parametrize(
    ("body", "field", "job"),
    [
        (b'{"prompt":""}', "prompt", "in-17"),
        (b'{"prompt":"","id":"mine"}', "prompt", "mine"),
        (b'{"prompt":"hi","tenant":"other","id":"mine"}', "tenant", "mine"),
        (b'{"prompt":"hi","id":"a\\u0000b"}', "id", "in-17"),
        (b'{"prompt":"hi","model":"llama3.1:8"}', "model", "in-17"),
        (b'{"prompt":"hi","deadline_seconds":3601}', "deadline_seconds", "in-17"),
    ],
)
def test_a_bad_job_is_rejected_under_a_usable_id(body: bytes, field: str, job: str) -> None:
    said = understood(body)
    assert said.slip is None
    assert said.rejected is not None
    assert (said.rejected.field, said.job) == (field, job)


def test_the_same_body_has_the_same_fingerprint() -> None:
    one, same = understood(b'{"prompt":"hi"}'), understood(b'{"prompt":"hi"}', seq=18, now=T0 + 9)
    other = understood(b'{"prompt":"ho"}')
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("body", "job"),
    [
        (b"{not json", "in-17"),
        (b'{"id":"mine","promt":"hi"}', "mine"),
        (b'{"id":"' + b"x" * 129 + b'"}', "in-17"),
        (b"\xff\xfe", "in-17"),
    ],
)
def test_what_cannot_be_decoded_is_rejected_and_kept(body: bytes, job: str) -> None:
    rejected, letter = analyzer().undecodable(heard(body, undecodable="Object contains unknown field `promt`"))
    assert isinstance(rejected, Analyzed)
    assert isinstance(letter, DeadLetter)
    assert rejected.job == letter.job == job
    assert rejected.rejected == letter.problem
    assert letter.problem.field == "promt"
    assert (letter.stream, letter.seq, letter.subject_heard) == ("IN", 17, "job.submit.acme")
    assert len(letter.head) <= 200


def test_an_accepted_job_gets_its_deadline_scheduled() -> None:
    stored = understood(b'{"prompt":"hi"}')
    assert analyzer().analyzed(stored, heard()) == [
        Later(Expired(tenant="acme", job="in-17", at=T0 + 600), at=T0 + 600)
    ]


def test_a_rejected_job_ends() -> None:
    stored = understood(b'{"prompt":""}')
    (said,) = analyzer().analyzed(stored, heard())
    assert isinstance(said, Done)
    assert (said.ending, said.problem, said.cost_microdollars) == ("rejected", stored.rejected, 0)


def test_the_same_submission_again_joins_the_job() -> None:
    stored = understood(b'{"prompt":"hi","id":"mine"}')
    again = understood(b'{"prompt":"hi","id":"mine"}', seq=18)
    (said,) = analyzer().analyzed(stored, heard(lost=again))
    assert isinstance(said, Later)


@pytest.mark.parametrize(("body", "field"), [(b'{"prompt":"ho","id":"mine"}', "id"), (b'{"id":"mine"}', "prompt")])
def test_another_body_under_a_used_id_is_refused(body: bytes, field: str) -> None:
    stored = understood(b'{"prompt":"hi","id":"mine"}')
    (said,) = analyzer().analyzed(stored, heard(lost=understood(body, seq=18)))
    assert isinstance(said, Refused)
    assert (said.job, said.problem.field) == ("mine", field)


def test_everybody_whose_body_is_refused_is_told() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room_of(analyzer, ANALYZER))
        for prompt in ("hi", "ho", "hi", "hu"):
            await rig.submit(id="mine", prompt=prompt)
        await rig.submit(id="mine", prompt="")
        await rig.settle()
        refused = rig.stored(Refused)
        assert [one.problem.field for one in refused] == ["id", "id", "prompt"]
        assert len(rig.stored(Analyzed)) == 1
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_a_job_whatever_its_body_ends_or_goes_on() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room_of(analyzer, ANALYZER))
        bodies = [b"", b"[]", b"{}", b"\xff", b'{"prompt":"hi"}', b'{"prompt":7}', b'{"id":"x","nope":1}']
        for body in bodies:
            await rig.raw("job.submit.acme", body)
        await rig.settle()
        done = {one.job for one in rig.stored(Done)}
        assert done == {"in-1", "in-2", "in-3", "in-4", "in-6", "x"}
        assert {one.job for one in rig.stored(Analyzed)} == done | {"in-5"}
        assert len(rig.stored(DeadLetter)) == 5, "of all that could not be decoded"

    play(story)


def test_needs_are_told_without_running_anything() -> None:
    answer = analyzer().needs_of(NeedsOf(submit=JobSubmit(prompt="write a python function")), heard())
    assert answer.problem is None
    assert answer.needs is not None
    assert answer.needs.task == "code"


def test_a_question_about_a_bad_job_says_what_is_wrong() -> None:
    answer = analyzer().needs_of(NeedsOf(submit=JobSubmit(tenant="acme")), heard())
    assert answer == NeedsAre(problem=answer.problem)
    assert answer.problem is not None
    assert answer.problem.field == "prompt"


def test_policies_are_heard_and_take_the_place_of_shipped_ones() -> None:
    shipped = Policy(
        policy="presets", order=50, presets={"standard": Preset(max_output_tokens=77)},
        models={"light-1": CatalogueEntry(model="x")},
    )  # fmt: skip
    room = Analyzer(default_deadline_seconds=600.0, longest_deadline_seconds=3600.0, strategies=(), policies=(shipped,))
    room.backend(backend("a"), Heard(now=T0))

    def cap() -> int:
        answer = room.needs_of(NeedsOf(submit=JobSubmit(prompt="hi", model="light-1")), heard())
        assert answer.needs is not None, answer.problem
        return answer.needs.max_output_tokens

    assert cap() == 77
    room.policy(Policy(policy="mine", presets={"standard": Preset(max_output_tokens=55)}), Heard(now=T0))
    assert cap() == 55
    room.policy(Policy(policy="mine", removed=True), Heard(now=T0))
    assert cap() == 77
    room.policy(msgspec.structs.replace(shipped, removed=True), Heard(now=T0))
    answer = room.needs_of(NeedsOf(submit=JobSubmit(prompt="hi", model="light-1")), heard())
    assert answer.problem is not None
    assert answer.problem.field == "model", "its stable id went with the policy"


def test_the_answer_is_what_a_job_would_get() -> None:
    room = analyzer()
    room.policy(Policy(policy="mine", analysis=AnalysisRules(simple_below=1)), Heard(now=T0))
    room.preference(
        Preference(tenant="acme", scope="tenant", quality="draft", preferred_backend="gpu-1"), Heard(now=T0)
    )
    room.stats(
        Stats(backend="a", model="llama3.1:8b", scope="-", attempts=1, successes=1, latency_seconds=2.0, at=T0),
        Heard(now=T0),
    )
    body = b'{"prompt":"hi","tenant":"acme"}'
    (said,) = room.job_submit(msgspec.json.decode(body, type=JobSubmit), heard(body))
    assert isinstance(said, Analyzed)
    assert said.slip is not None
    needs = said.slip.needs
    assert (needs.quality, needs.preferred_backend, needs.complexity) == ("draft", "gpu-1", "medium")
    assert needs.seconds is not None
    assert needs.seconds.low == 2.0
    answer = room.needs_of(NeedsOf(submit=JobSubmit(prompt="hi", tenant="acme")), heard())
    assert answer.needs == needs


def test_preferences_reach_the_room_as_facts() -> None:
    async def story(rig: Rig) -> None:
        await rig.publish(Preference(tenant="acme", scope="user:ada", quality="final"))
        await rig.host(room_of(analyzer, ANALYZER))
        await rig.settle()
        await rig.submit(user="ada")
        await rig.submit(user="bob")
        await rig.submit("other", user="ada")
        await rig.settle()
        qualities = {
            (one.tenant, one.slip.needs.user): one.slip.needs.quality for one in rig.stored(Analyzed) if one.slip
        }
        assert qualities == {("acme", "ada"): "final", ("acme", "bob"): "standard", ("other", "ada"): "standard"}

    play(story)
