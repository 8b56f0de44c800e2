"""Every formula of the statistics, worked out by hand on a few records."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from foredraft.core import Draft, StepRecord, Verdict
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import Drafter
from foredraft.gamma import FixedGamma, GammaPolicy
from foredraft.models import TableModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.tracing import summarize
from foredraft.verification import Verifier
from tests.doubles import ScriptedDrafter, step

PROMPT_STEP = step([], 0, [9], verify_seconds=10.0)
REJECTED = step([1, 2, 3], 1, [1, 7], 0.3, 1.0, draft_calls=3, entropy=0.2, raw_gamma=3.2)
ALL_KEPT = step([4, 5], 2, [4, 5, 6], 0.4, 1.1, draft_calls=2, entropy=0.4, raw_gamma=2.4)
CUT = step([1, 8, 3, 3], 2, [1, 8], 0.8, 1.2, draft_calls=4)  # 8 ended the text inside the draft
RECORDS = [PROMPT_STEP, REJECTED, ALL_KEPT, CUT]


def test_counts_are_sums_over_the_steps() -> None:
    s = summarize(RECORDS)
    assert s.num_steps == 4
    assert s.num_target_calls == 4
    assert s.num_draft_calls == 3 + 2 + 4
    assert s.num_drafted_tokens == 3 + 2 + 4
    assert s.num_accepted_tokens == 1 + 2 + 2
    assert s.num_emitted_tokens == 1 + 2 + 3 + 2


def test_trap_the_acceptance_rate_is_per_drafted_token_not_per_gamma_and_round() -> None:
    # The longest draft had 4 tokens and there were 4 rounds: 5/16 is the wrong answer.
    assert summarize(RECORDS).acceptance_rate == pytest.approx(5 / 9)


def test_the_conditional_rate_counts_only_tokens_that_were_judged() -> None:
    # One rejection; the tokens behind it and those cut by the end token were never judged.
    assert summarize(RECORDS).conditional_acceptance_rate == pytest.approx(5 / (5 + 1))


def test_acceptance_by_position_counts_the_steps_that_drafted_it() -> None:
    # Kept of drafted at positions 0 … 3: 3 of 3, 2 of 3, 0 of 2, 0 of 1.
    assert summarize(RECORDS).acceptance_by_position == pytest.approx((1, 2 / 3, 0, 0))


def test_means_are_per_step() -> None:
    s = summarize(RECORDS)
    assert s.mean_accepted_tokens == pytest.approx(5 / 4)
    assert s.mean_acceptance_length == pytest.approx(8 / 4)


def test_trap_undrafted_steps_are_no_drafts() -> None:
    s = summarize(RECORDS)
    assert s.mean_gamma == pytest.approx((3 + 2 + 4) / 3)
    assert s.undrafted_step_share == pytest.approx(1 / 4)
    assert summarize([REJECTED] + [PROMPT_STEP] * 5).acceptance_rate == pytest.approx(1 / 3)


def test_entropy_is_averaged_over_the_steps_that_measured_it() -> None:
    assert summarize(RECORDS).mean_normalized_entropy == pytest.approx((0.2 + 0.4) / 2)


def test_trap_speed_counts_tokens_and_leaves_the_prompts_step_out_on_both_sides() -> None:
    s = summarize(RECORDS)
    assert s.tokens_per_second == pytest.approx((2 + 3 + 2) / (1.3 + 1.5 + 2.0))
    assert s.time_to_first_token_seconds == pytest.approx(10)
    assert s.total_seconds == pytest.approx(10 + 1.3 + 1.5 + 2.0)


def test_seconds_per_token_is_the_median_over_later_steps() -> None:
    # 1.3/2 = 0.65, 1.5/3 = 0.5, 2.0/2 = 1.0
    assert summarize(RECORDS).seconds_per_token == pytest.approx(0.65)


def test_the_draft_cost_ratio_is_seconds_a_draft_call_over_seconds_a_target_call() -> None:
    # Draft calls 0.1, 0.2, 0.2, target calls 1.0, 1.1, 1.2 seconds; medians 0.2 and 1.1.
    assert summarize(RECORDS).draft_cost_ratio == pytest.approx(0.2 / 1.1)


def test_one_slow_step_does_not_move_the_medians() -> None:
    slow = step([1], 0, [7], 50.0, 70.0, draft_calls=1)
    s = summarize([*RECORDS, REJECTED, slow])
    assert s.draft_cost_ratio == pytest.approx(0.2 / 1.1)
    assert s.seconds_per_token == pytest.approx(0.65)


def test_plain_decoding_has_acceptance_length_one_and_no_acceptance_rate() -> None:
    s = summarize([step([], 0, [t], verify_seconds=0.5) for t in range(4)])
    assert s.mean_acceptance_length == 1
    assert s.undrafted_step_share == 1
    assert s.tokens_per_second == pytest.approx(2)
    assert s.seconds_per_token == pytest.approx(0.5)
    assert s.acceptance_by_position == ()
    for missing in (
        s.acceptance_rate,
        s.conditional_acceptance_rate,
        s.mean_gamma,
        s.mean_normalized_entropy,
        s.draft_cost_ratio,
    ):
        assert missing is None


def test_a_rate_of_zero_is_a_number_and_not_a_missing_one() -> None:
    s = summarize([step([1, 2], 0, [7], 0.1, 0.1, draft_calls=2)])
    assert s.acceptance_rate == 0
    assert s.conditional_acceptance_rate == 0
    assert s.mean_accepted_tokens == 0


def test_a_single_step_has_no_speed() -> None:
    s = summarize([REJECTED])
    assert s.tokens_per_second is None
    assert s.seconds_per_token is None
    assert s.draft_cost_ratio is None
    assert s.time_to_first_token_seconds == pytest.approx(1.3)


def test_no_steps_give_no_numbers_and_no_error() -> None:
    values = summarize([]).to_dict()
    counts = {k: v for k, v in values.items() if k.startswith("num_")}
    assert set(counts.values()) == {0}
    assert values["acceptance_by_position"] == []
    assert all(v is None for k, v in values.items() if not k.startswith(("num_", "acceptance_by")))


def test_a_draft_without_a_draft_model_costs_no_draft_calls() -> None:
    ngram = step([1, 2], 2, [1, 2, 3], 0.01, 1.0)
    s = summarize([PROMPT_STEP, ngram])
    assert s.num_draft_calls == 0
    assert s.draft_cost_ratio is None
    assert s.mean_gamma == 2


def test_threads_are_those_of_later_passes_where_the_runtime_chooses_them() -> None:
    def ran(threads: int | None) -> StepRecord:
        return replace(step([], 0, [1]), num_threads=threads)

    assert summarize([ran(8), ran(2), ran(1), ran(2), ran(1)]).mean_threads == pytest.approx(1.5)
    assert summarize([ran(None), ran(None)]).mean_threads is None


def test_a_summary_survives_json() -> None:
    values = summarize(RECORDS).to_dict()
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize(
    ("record", "extra", "rejection"),
    [(PROMPT_STEP, 9, False), (REJECTED, 7, True), (ALL_KEPT, 6, False), (CUT, None, False)],
    ids=["undrafted", "rejected", "all-kept", "cut"],
)
def test_a_record_knows_its_extra_token_and_whether_it_was_a_rejection(
    record: StepRecord, extra: int | None, rejection: bool
) -> None:
    assert record.extra_token == extra
    assert record.is_rejection == rejection
    assert record.gamma == len(record.drafted)


def records_of(
    drafter: Drafter, verifier: Verifier, end: int, policy: GammaPolicy
) -> list[StepRecord]:
    """Return the records of a target that counts 1, 2, 3, … with `end` as end token."""
    target = TableModel(lambda tokens: [float(t == len(tokens)) for t in range(12)])
    parts = Speculation(target, drafter, policy, verifier, GreedySampler(), first_target=False)
    request = Request(target.open([0]), Rng(0), max_new_tokens=8, eos_token_ids=[end])
    return list(speculative_steps(parts, request))


class Believer(Verifier):
    """Keeps every draft."""

    def judge(self, draft: Draft, target_probs: object, rng: object, position: int) -> Verdict:
        return Verdict(len(draft.tokens), 11)


def test_tokens_accepted_behind_an_end_token_do_not_count_as_accepted() -> None:
    drafter = ScriptedDrafter([1, 2, 3, 4, 5, 6, 7, 8])
    (record,) = records_of(drafter, Believer(), end=2, policy=FixedGamma(5))
    assert record.emitted == [1, 2]
    assert record.num_accepted == 2
    assert record.drafted == [1, 2, 3, 4, 5]
    assert not record.is_rejection
    assert summarize([record]).conditional_acceptance_rate == 1
