"""What `benchmarks/policies.py` makes of what it measured: who is compared with whom, and how."""

from __future__ import annotations

import policies
import pytest
from side_by_side import Measured, Sample

from foredraft.bench.prompt_sets import PromptItem

PROMPTS = [PromptItem(f"{kind}-{i}", kind, "text", 10) for kind in ("a", "b") for i in range(8)]
CONTEST = policies.Contest(
    {"one": policies.FIXED_MODEL["model 1"], "two": policies.FIXED_MODEL["model 2"]},
    {policies.AUTO: policies.RULES_OF_COPIES[policies.AUTO]},
)


def measured(speeds: dict[str, list[float]]) -> Measured:
    """Return generations of ten tokens at given speeds, the same under each sampler."""
    samples = {
        f"{sampler}/{name}": [Sample([1] * 10, 10 / speed, 0.1, 1) for speed in of]
        for sampler in policies.SAMPLERS
        for name, of in speeds.items()
    }
    return Measured(PROMPTS, samples)


def speeds_of(speeds: dict[str, list[float]]) -> policies.Speeds:
    return policies.Speeds(measured(speeds), CONTEST, "greedy")


def test_the_best_fixed_choice_is_chosen_on_other_prompts() -> None:
    """`one` is quickest on the even prompts of kind a, so it is what the odd ones are judged by."""
    found = speeds_of(
        {
            policies.PLAIN: [1.0] * 16,
            "one": [3.0, 1.0] * 4 + [1.0] * 8,
            "two": [2.0, 2.0] * 4 + [2.0] * 8,
            policies.AUTO: [2.0] * 16,
        }
    )
    ids = [one.id for one in PROMPTS[:8]]
    best, names = found.chosen_elsewhere(ids)
    assert names == ["two", "one"]
    assert [best[key] for key in ids] == pytest.approx([2.0, 1.0] * 4)
    assert [found.oracle(ids)[key] for key in ids] == pytest.approx([3.0, 2.0] * 4)


def test_claims_are_ratios_by_kind_and_of_all() -> None:
    found = speeds_of(
        {
            policies.PLAIN: [1.0] * 16,
            "one": [2.0] * 8 + [0.5] * 8,
            "two": [1.0] * 8 + [4.0] * 8,
            policies.AUTO: [1.9] * 8 + [3.8] * 8,
        }
    )
    claims = policies.claims_of(found, "greedy")
    assert [row["prompts"] for row in claims] == ["a (8)", "b (8)", "all (16)"]
    assert [row["that is"] for row in claims] == ["one", "two", "of each kind"]
    assert [row["auto / plain"]["median"] for row in claims[:2]] == pytest.approx([1.9, 3.8])
    fixed = [row["auto / best fixed"]["median"] for row in claims]
    assert fixed == pytest.approx([0.95] * 3)
    assert [row["regret"] for row in claims] == pytest.approx([0.05] * 3)
    rows = policies.rows_of(found)
    assert [row["method"] for row in rows] == ["one", "two", policies.AUTO]


def test_a_text_that_is_not_plain_decodings_is_told() -> None:
    one = measured({policies.PLAIN: [1.0] * 16, policies.AUTO: [1.0] * 16})
    assert policies.unequal(one) == []
    one.samples["greedy/auto"][3] = Sample([2] * 10, 1.0, 0.1, 1)
    one.samples["nucleus/auto"][3] = Sample([2] * 10, 1.0, 0.1, 1)
    assert policies.unequal(one) == ["greedy/auto"]
