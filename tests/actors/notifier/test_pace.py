from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from actors.notifier.pace import (
    LONGEST_ASKED_SECONDS,
    LONGEST_WAIT_SECONDS,
    MINUTE_SECONDS,
    MOST_TRIES,
    Pace,
    wait_before,
)


@given(st.integers(1, 100), st.text(max_size=20))
def test_waits_double_up_to_a_longest_one(tries: int, salt: str) -> None:
    wait, base = wait_before(tries, salt), min(2.0 * 2 ** (tries - 1), LONGEST_WAIT_SECONDS)
    assert 0.9 * base <= wait <= 1.1 * base
    assert wait == wait_before(tries, salt)


@given(st.integers(1, MOST_TRIES), st.floats(0, 1e9))
def test_what_the_server_asks_for_is_kept_within_reason(tries: int, asked: float) -> None:
    wait = wait_before(tries, "a", asked)
    assert wait >= min(asked, LONGEST_ASKED_SECONDS)
    assert wait <= max(LONGEST_ASKED_SECONDS, 1.1 * LONGEST_WAIT_SECONDS)


@given(st.integers(1, 5), st.lists(st.tuples(st.floats(0, 400), st.sampled_from("ab")), max_size=60))
def test_no_minute_has_more_than_it_may_and_nothing_goes_uncounted(
    per_minute: int, calls: list[tuple[float, str]]
) -> None:
    pace, through = Pace(per_minute), Counter[int]()
    let = 0
    for now, kind in sorted(calls):
        if pace.lets(kind, now):
            let += 1
            through[int(now // 60)] += 1
    assert all(number <= per_minute for number in through.values())
    assert let + sum(pace.left_out().values()) == len(calls)
    assert pace.left_out() == {}


Post = tuple[float, bool, bool]
"""When, whether it is urgent, and whether it is another try."""


@given(st.integers(1, 40), st.lists(st.tuples(st.floats(0, 200), st.booleans(), st.booleans()), max_size=200))
def test_warnings_and_further_tries_leave_room_for_new_alerts(per_minute: int, posts: list[Post]) -> None:
    pace = Pace(per_minute)
    through, warnings, tries = Counter[int](), Counter[int](), Counter[int]()
    for now, urgent, again in sorted(posts):
        minute = int(now // MINUTE_SECONDS)
        if again:
            wait = pace.lets_again(now, urgent=urgent)
            assert wait == 0 or now + wait >= (minute + 1) * MINUTE_SECONDS
            let = not wait
            tries[minute] += let
        else:
            let = pace.lets("a", now, urgent=urgent)
            if urgent and not let:
                alerts = through[minute] - warnings[minute]
                assert alerts >= max(1, round(per_minute / 4)), "only alerts keep an alert out"
        through[minute] += let
        warnings[minute] += let and not urgent
    assert all(number <= per_minute for number in through.values())
    assert all(number <= max(1, round(per_minute / 2)) for number in tries.values())
    assert all(number <= per_minute - max(1, round(per_minute / 4)) for number in warnings.values())


def test_a_single_post_a_minute_is_for_alerts() -> None:
    pace = Pace(1)
    assert not pace.lets("budget_soft", 1.0, urgent=False)
    assert pace.lets("budget_hard", 2.0)
    assert pace.left_out() == {"budget_soft": 1}


def test_a_try_that_has_to_wait_is_not_counted_as_left_out() -> None:
    pace = Pace(4)
    assert [pace.lets_again(30.0) for _ in range(4)] == [0.0, 0.0, 30.0, 30.0]
    assert pace.left_out() == {}


def test_a_clock_that_goes_back_opens_no_new_minute() -> None:
    pace = Pace(1)
    assert pace.lets("a", 120.0)
    assert not pace.lets("a", 30.0)
    assert pace.lets("a", 180.0)


def test_what_could_not_be_told_is_told_with_the_next() -> None:
    pace = Pace(1)
    assert [pace.lets("a", 1.0) for _ in range(3)] == [True, False, False]
    pace.put_back(pace.left_out())
    assert not pace.lets("b", 2.0)
    assert pace.left_out() == {"a": 2, "b": 1}
