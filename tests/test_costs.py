"""The Meter: what draft calls and passes cost, as steps tell it."""

from __future__ import annotations

import pytest

from foredraft.costs import PLAIN_KEPT, YOUNG, Meter
from foredraft.curves import Rate
from tests.doubles import judged_step


def test_costs_are_what_usually_is_and_a_line_beyond_them() -> None:
    costs = Meter()
    assert not costs.verify_seconds.is_known
    costs.update(judged_step(2, 0, draft_seconds=99, num_calls=2, num_read=40, verify_seconds=12))
    for k, seconds in ((0, 10.0), (2, 12.0), (4, 14.0)):
        for noise in (0.0, 0.0, 50.0):
            step = judged_step(
                k, 0, draft_seconds=3.0 * k, num_calls=k, verify_seconds=seconds + noise
            )
            assert step.is_typical
            costs.update(step)
    assert [costs.draft_seconds(k) for k in (0, 1, 2, 4, 6)] == pytest.approx([0, 3, 6, 12, 18])
    assert [costs.verify_seconds(k) for k in (0, 1, 8)] == pytest.approx([10, 11, 18])
    read = judged_step(0, 0, verify_seconds=500, fed=40)  # a prompt
    assert not read.is_typical
    costs.update(read)
    assert costs.verify_seconds(0) == pytest.approx(10)


def test_a_first_draft_call_may_cost_more_than_a_further_one() -> None:
    costs = Meter()
    costs.update(judged_step(1, 0, draft_seconds=99, num_calls=1, num_read=40))  # the prompt
    for calls in (1, 2, 4, 1, 2, 4):
        costs.update(judged_step(calls, 0, draft_seconds=5.0 + calls, num_calls=calls))
    assert [costs.draft_seconds(k) for k in (0, 1, 2, 3, 4, 8)] == pytest.approx(
        [0, 6, 7, 8, 9, 13]
    )
    costs.draft_seconds.catch_up()
    assert [costs.draft_seconds(k) for k in (0, 4)] == pytest.approx([0, 9]), "as before"
    costs.update(judged_step(2, 0, draft_seconds=3.5, num_calls=2))
    costs.draft_seconds.catch_up()
    found = [costs.draft_seconds(k) for k in (0, 1, 2, 3, 4, 8)]
    assert found == pytest.approx([0, 3, 3.5, 4, 4.5, 6.5]), "all is half as long as thought"


def test_drafts_far_longer_than_any_measured_one_are_not_foreseen() -> None:
    """The first drafts are slow: a longer one beside them looked as if it cost no more."""
    costs = Meter()
    for calls, seconds in ((2, 6.0), (4, 6.0)):
        costs.update(judged_step(calls, 0, draft_seconds=seconds, num_calls=calls))
    assert len(costs.prices(24).drafted) == 9, "twice as many calls as were measured"
    assert len(costs.prices(24).copied) == 25, "what is copied costs no call"
    costs.update(judged_step(8, 0, draft_seconds=20.0, num_calls=8))
    costs.steps = 400  # when prices are worked out anew
    assert len(costs.prices(24).drafted) == 17


def test_costs_never_fall_and_a_plain_pass_is_never_free() -> None:
    costs = Meter()
    assert costs.verify_seconds(3) == 0
    for k, seconds in ((1, 5.0), (4, 3.0)):
        costs.update(judged_step(k, 0, verify_seconds=seconds))
    assert [costs.verify_seconds(k) for k in (0, 1, 3, 4, 9)] == [3.0] * 5
    steep = Meter()
    for k, seconds in ((1, 1.0), (2, 100.0)):
        steep.update(judged_step(k, 0, verify_seconds=seconds))
    assert 0 < steep.verify_seconds(0) <= 1


def test_steps_in_what_a_pass_costs_are_kept() -> None:
    costs = Meter()
    for k, seconds in ((0, 10.0), (2, 10.5), (3, 18.0), (7, 18.0)):
        costs.update(judged_step(k, 0, verify_seconds=seconds))
    assert [costs.verify_seconds(k) for k in (0, 1, 2, 3, 5)] == [10, 10.25, 10.5, 18, 18]


def test_a_rate_follows_the_newest_steps() -> None:
    rate = Rate(memory=4)
    assert rate.per_second is None
    for _ in range(50):
        rate.add(3, 1.0)
    assert rate.per_second == pytest.approx(3)
    for _ in range(50):
        rate.add(1, 1.0)
    assert rate.per_second == pytest.approx(1, abs=1e-3)


def test_prices_of_a_pass_that_texts_share_are_worked_out_anew() -> None:
    meter = Meter()
    meter.texts, meter.company = 4, 3
    found = []
    for seconds in (1.0, 9.0):
        for _ in range(80):
            outcome = judged_step(2, 1, verify_seconds=seconds, is_shared=True)
            meter.update(outcome)
            meter.update_shared([outcome] * 4, seconds * (1 + meter.company))
            meter.update_shared([judged_step(0, 0, is_shared=True)] * 4, 1.0)
        found.append(meter.prices(4).verify[4])
    assert found[1] > 2 * found[0]


def test_the_usual_length_is_that_of_the_newest_texts_however_they_were_decoded() -> None:
    meter = Meter()
    assert meter.usual_length > 1e6, "nobody knows"
    for _ in range(8):
        meter.begin_text()
        meter.update(judged_step(0, 0))
        meter.update(judged_step(3, 2))
        meter.rests = [1.0] * 6
    meter.begin_text()
    assert meter.usual_length == pytest.approx(10)
    for _ in range(30):  # eight at once, of four tokens each
        for _ in range(8):
            meter.begin_text()
        for _ in range(32):
            meter.update(judged_step(0, 0))
    assert meter.usual_length == pytest.approx(4, abs=0.5)


def test_a_cold_start_says_nothing_of_what_reading_takes() -> None:
    meter = Meter()
    for seconds in (9.0, 1.0, 3.0, 0.5):
        meter.update(judged_step(1, 0, draft_seconds=seconds, num_calls=1, num_read=100))
    assert 0.004 < meter.read_seconds <= 0.01


def test_a_trial_that_was_quick_tells_of_drafts_that_are_not_made_now() -> None:
    """But the first call costs most: one call takes at least its share of several."""
    meter = Meter()
    for calls, seconds in ((1, 5.0), (4, 8.0), (2, 7.0), (3, 3.0)):
        meter.update(judged_step(calls, 0, draft_seconds=seconds, num_calls=calls))
    meter.catch_up()
    found = [meter.draft_seconds(calls) for calls in (1, 2, 3, 4)]
    assert found == pytest.approx([2.0, 2.8, 3.0, 3.2], abs=0.01)
    Meter().catch_up()  # nothing is known yet


def test_a_quick_draft_among_the_first_ones_tells_of_all() -> None:
    """Caches are cold; later a quick one is luck, and says nothing of drafts of other lengths."""
    meter = Meter()
    for calls, seconds in ((4, 8.0), (2, 6.0), (4, 5.0)):
        meter.update(judged_step(calls, 0, draft_seconds=seconds, num_calls=calls))
    early = meter.draft_seconds(2)
    assert early == pytest.approx(6 * 5 / 8)
    meter.steps = YOUNG
    meter.update(judged_step(4, 0, draft_seconds=4.0, num_calls=4))
    assert meter.draft_seconds(2) == early


def test_plain_decoding_that_has_become_quicker_is_believed_at_once() -> None:
    """It is seldom timed beside drafts; a slower one may be chance, and is believed by and by."""
    meter = Meter()
    meter.begin_text()

    def timed(seconds: float) -> float:
        meter.rests = [seconds]
        meter.begin_text()
        return meter.pass_seconds(0)

    for _ in range(PLAIN_KEPT):
        timed(1.0)
    assert timed(2.0) == pytest.approx(1.0)
    assert timed(0.95) == pytest.approx(1.0)
    assert timed(0.5) == pytest.approx(0.5, rel=0.1)
