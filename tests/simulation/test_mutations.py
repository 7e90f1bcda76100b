"""Each rule that guards correctness is switched off alone, and the simulation notices; what only saves work costs more."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from typing import Any, NamedTuple

import pytest

from messages import Analyzed, Attempted, Decided, Done, Granted, Retry, Started
from scenarios.simulation import quiet, simulate
from tests.simulation import directed as d
from tests.simulation import mutations as m
from tests.simulation.directed import Tale, Told


class Guard(NamedTuple):
    name: str
    mutation: m.Mutation
    tale: Tale
    seen: str
    """Part of the violation that shows."""


class Saving(NamedTuple):
    name: str
    mutation: m.Mutation
    tale: Tale
    cost: Callable[[Told], float]


ROOM = d.budget("requests", 9)
FROZEN = d.frozen()
FROZEN_ALONE = d.frozen(fleet=d.BOTH, length=20.0, freeze=30.0)
RAISES = d.run_raises()
CANCEL_IN_WAIT = d.cancel_in_wait()
HEARD_AGAIN = d.work_heard_again()

GUARDS = [
    Guard("1 acknowledge first", m.acknowledge_first, d.crash("front-1", "before publish", "decided"), "never ended"),
    Guard("1 ledger ids not from the cause", m.ledger_ids_not_from_the_cause,
          d.crash("front-1", "before publish", "granted", settings=ROOM), "counted twice"),
    Guard("2 analyzed not first-writer", m.not_first_writer(Analyzed), d.two_bodies(), "two analyzed"),
    Guard("2 decided not first-writer", m.not_first_writer(Decided),
          d.crash("front-1", "after publish", "decided"), "two decided"),
    Guard("2 granted not first-writer", m.not_first_writer(Granted), d.crash_and_cancel("after publish"), "two granted"),
    Guard("2 started not first-writer", m.not_first_writer(Started), FROZEN, "called twice for one n"),
    Guard("2 attempted not first-writer", m.not_first_writer(Attempted), FROZEN, "two attempted"),
    Guard("2 done not first-writer", m.not_first_writer(Done), d.cancel_after_end(), "two done"),
    Guard("2 claim does not name its writer", m.claim_does_not_name_its_writer, FROZEN, "called twice for one n"),
    Guard("3 drain without the claim", m.drain_without_the_claim, FROZEN_ALONE, "recorded as not started"),
    Guard("3 live owners are not respected", m.live_owners_are_not_respected, d.delivered_twice(), "given up as lost"),
    Guard("4 successor before attempted", m.successor_first, FROZEN, "succeeded without an attempt"),
    Guard("4 found attempts are not finished", m.found_attempts_are_not_finished,
          d.crash("x1", "after publish", "attempted"), "never ended"),
    Guard("4 no executor_lost", m.no_executor_lost, d.crash_in_call(), "retried without attempted"),
    Guard("5 nobody is woken", m.nobody_is_woken, d.comes_back(), "did not go on"),
    Guard("5 all are woken at once", m.all_are_woken_at_once, d.comes_back(20), "were woken at a time"),
    Guard("5 others go beside a trial call", m.others_go_beside_a_trial_call, d.one_tries(), "beside a trial call"),
    Guard("5 waits are not scheduled", m.waits_are_not_scheduled, d.comes_back(), "did not go on"),
    Guard("5 waits for the absent are counted", m.waits_for_the_absent_are_counted, d.comes_back(away=2000.0),
          "ended while its only backend was away"),
    Guard("7 unknown use of a cut call is nothing", m.unknown_use_is_nothing, d.unfinished_call("cut"), "backend counted"),
    Guard("7 unknown use of a silent call is nothing", m.unknown_use_is_nothing, d.unfinished_call("hang"), "settled"),
    Guard("7 unknown use of a cancelled call is nothing", m.unknown_use_is_nothing,
          d.unfinished_call("hang", cancel=2.0), "backend counted"),
    Guard("7 nobody looks for what was left", m.nobody_looks_for_what_was_left, d.left_at_work(), "began beside what"),
    Guard("7 nobody stops what a job left that ended", m.nobody_stops_what_was_left, d.left_at_work(cancel=True),
          "still at work"),
    Guard("7 nobody stops what a job left that moved", m.nobody_stops_what_was_left, d.left_at_work(again="Y"),
          "still at work"),
    Guard("7 what turns out to be right is not settled", m.nobody_settles_what_turned_out_to_be_right, d.left_at_work(),
          "was billed"),
    Guard("6 the executor does not look for done", m.does_not_look_for_done(m.Claimant), d.cancel_in_queue(),
          "called though done was there"),
    Guard("6 neither looks for done", m.does_not_look_for_done(m.Claimant, m.Guardrail), CANCEL_IN_WAIT,
          "a round decided on after done"),
    Guard("7 deaths are not known", m.deaths_are_not_known, d.crash_in_call(), "never ended"),
    Guard("7 nobody drains", m.nobody_drains, d.crash_in_call(fleet=d.BOTH), "never ended"),
    Guard("7 drained although served", m.drained_although_served, d.no_fault(jobs=4), "drained although"),
    Guard("8 executors create their queues", m.executors_create_their_queues, d.queue_before_backend(), "work is left"),
    Guard("budget: stored totals are not read", m.stored_totals_are_not_read,
          d.crash_over_budget(), "more than the limit"),
    Guard("budget: forgotten reservations are not looked up", m.forgotten_ids_are_not_looked_up,
          d.long_outage("before publish", "granted"), "counted twice: reserve"),
    Guard("budget: forgotten settlements are not looked up", m.forgotten_ids_are_not_looked_up,
          d.long_outage("before acknowledge", "ev.attempted", time=2), "counted twice: settle"),
    Guard("breaker: no through_seq", m.the_fold_forgets_its_place, d.failed_and_heard_again(), "failures of 1"),
    Guard("breaker: leases have no end", m.leases_have_no_end, d.forgotten_probe(), "never got to probe"),
    Guard("A1 only grants are written", m.only_grants_are_written, d.crash_and_cancel("after publish"),
          "granted without attempted for ever"),
    Guard("A2 losers do not finish", m.losers_do_not_finish, d.partitioned(), "never ended"),
    Guard("A3 claim does not name its run", m.claim_does_not_name_its_run, RAISES, "called twice for one n"),
    Guard("A4 running attempts are not looked at", m.running_attempts_are_not_looked_at, RAISES, "never ended"),
    Guard("A5 claims to drain are not open", m.claims_to_drain_are_not_open, d.drainer_dies(), "claimed only to drain"),
    Guard("A6 giving up is not decided", m.giving_up_is_not_decided, d.view_changes(), "failed while the granted"),
    Guard("A7 rejections are not analyzed", m.rejections_are_not_analyzed, d.two_bodies(bad=True),
          "an accepted job was rejected"),
    Guard("A9 the sweeper knows no verdicts", m.the_sweeper_knows_no_verdicts,
          d.crash_and_cancel("before publish", settings=ROOM), "was billed"),
    Guard("clock: time goes by the wall clock", m.time_goes_by_the_wall_clock, d.clocks_are_set(1200.0), "before its deadline"),
    Guard("clock: time goes by a wall clock that was set back", m.time_goes_by_the_wall_clock, d.clocks_are_set(-1200.0),
          "after the time it bears"),
]  # fmt: skip

SAVINGS = [
    Saving("2 retry not first-writer", m.not_first_writer(Retry), HEARD_AGAIN, lambda told: told.events),
    Saving("5 the retry itself is scheduled", m.the_retry_itself_is_scheduled, HEARD_AGAIN, lambda told: told.wasted),
    Saving("6 the guardrail does not look for done", m.does_not_look_for_done(m.Guardrail), CANCEL_IN_WAIT,
           lambda told: told.rounds),
    Saving("6 calls are not aborted", m.calls_are_not_aborted, d.cancel(1.0, length=15.0),
           lambda told: told.call_seconds),
    Saving("7 work is not held", m.work_is_not_held, d.no_fault(length=19.0), lambda told: told.delivered),
    Saving("7 silence of the server counts", m.silence_of_the_server_counts, d.server_gone(), lambda told: told.calls),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Generator[None, None, None]:
    with quiet():
        yield


@cache
def unmutated(number: int) -> Told:
    return d.play(([*GUARDS, *SAVINGS])[number].tale)


def cases(kinds: list[Any], offset: int) -> Any:
    return [pytest.param(offset + i, case, id=case.name.replace(" ", "-")) for i, case in enumerate(kinds)]


@pytest.mark.parametrize(("number", "guard"), cases(GUARDS, 0))
def test_a_rule_that_guards_correctness_is_missed(number: int, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unmutated(number).violations == []
    guard.mutation(monkeypatch)
    told = d.play(guard.tale)
    assert any(guard.seen in violation for violation in told.violations), told


@pytest.mark.parametrize(("number", "saving"), cases(SAVINGS, len(GUARDS)))
def test_a_rule_that_saves_work_is_missed(number: int, saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    before = unmutated(number)
    assert before.violations == []
    saving.mutation(monkeypatch)
    told = d.play(saving.tale)
    assert [violation for violation in told.violations if not violation.startswith("two retry")] == []
    assert saving.cost(told) > saving.cost(before)


@pytest.mark.soak
def test_chance_alone_finds_most_of_the_holes() -> None:
    found: list[str] = []
    for guard in GUARDS:
        with pytest.MonkeyPatch.context() as patch:
            guard.mutation(patch)
            if any(simulate(seed).violations for seed in range(1, 41)):
                found.append(guard.name)
    print(f"{len(found)} of {len(GUARDS)}: {', '.join(found)}")
    assert len(found) >= 0.7 * len(GUARDS)
