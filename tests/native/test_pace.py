"""Threads give way while other programs keep the processors busy, and come back."""

from __future__ import annotations

import pytest

from foredraft.loading.runtime import can_fuse
from foredraft.models import Recomputing
from foredraft.native import pace
from foredraft.native.fused import FusedModel
from foredraft.native.pace import GUESS, LAST_PAUSE, RECENT, TRIAL, Pace
from tests.texts import first_pass
from tests.tiny import build

QUICK, TEAM = 0.002, 4


class Clock:
    """A clock that passes move, and nothing else."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pace.time, "perf_counter", found)
    return found


def passes(one: Pace, clock: Clock, count: int, *, together: float, alone: float) -> list[int]:
    """Make passes that take so long with all threads or with one; return the threads of each."""
    taken = []
    for _ in range(count):
        taken.append(one.choose(TEAM))
        seconds = alone if taken[-1] == 1 else together
        clock.now += seconds
        one.passed(1, seconds, TEAM)
    return taken


def test_a_quiet_machine_gets_all_threads(clock: Clock) -> None:
    one = Pace()
    taken = passes(one, clock, 500, together=QUICK, alone=3 * QUICK)
    assert taken == [TEAM] * 500


def test_one_slow_pass_changes_nothing(clock: Clock) -> None:
    one = Pace()
    passes(one, clock, RECENT, together=QUICK, alone=3 * QUICK)
    passes(one, clock, 1, together=(GUESS + 1) * QUICK, alone=3 * QUICK)
    assert passes(one, clock, 50, together=QUICK, alone=3 * QUICK) == [TEAM] * 50


def test_one_thread_goes_on_beside_busy_programs_and_all_are_tried_ever_more_seldom(
    clock: Clock,
) -> None:
    one = Pace()
    passes(one, clock, 20, together=QUICK, alone=3 * QUICK)
    taken = passes(one, clock, 4000, together=20 * QUICK, alone=3 * QUICK)
    assert taken.count(1) > 0.9 * len(taken)
    last = taken[-int(1.5 * LAST_PAUSE / (3 * QUICK)) :]
    assert last.count(TEAM) <= 2 * TRIAL


def test_all_threads_come_back_when_the_others_are_done(clock: Clock) -> None:
    one = Pace()
    passes(one, clock, 20, together=QUICK, alone=3 * QUICK)
    passes(one, clock, 1000, together=20 * QUICK, alone=3 * QUICK)
    taken = passes(one, clock, 2000, together=QUICK, alone=3 * QUICK)
    assert taken[-1000:] == [TEAM] * 1000


def test_all_threads_stay_where_one_would_be_slower_still(clock: Clock) -> None:
    one = Pace()
    passes(one, clock, 20, together=QUICK, alone=3 * QUICK)
    taken = passes(one, clock, 3000, together=4 * QUICK, alone=12 * QUICK)
    assert taken.count(TEAM) > 0.8 * len(taken)


def test_passes_of_other_sizes_are_compared_with_their_like(clock: Clock) -> None:
    one = Pace()
    for _ in range(50):
        for rows, seconds in ((1, QUICK), (64, 50 * QUICK)):
            assert one.choose(TEAM) == TEAM
            one.passed(rows, seconds, TEAM)


@pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_choice_is_told(use_cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(self: Pace, most: int) -> int:
        self.threads = asked
        return asked

    monkeypatch.setattr(Pace, "choose", choose)
    model = FusedModel(build("llama"))
    assert model.pass_threads is None, "nothing was computed"
    outer = model if use_cache else Recomputing(model)
    for asked in (1, 3):
        first_pass(outer, [3, 4])
        assert outer.pass_threads == asked
