"""Strides: tokens that are drafted in one call are those that are asked for one by one."""

from __future__ import annotations

import pytest
import torch

from foredraft.core import Draft
from foredraft.drafting.base import Beginning
from foredraft.gamma import ConfidenceGamma, CostAwareGamma, FixedGamma, GammaPolicy
from foredraft.gamma.base import Signal
from foredraft.models import Context
from foredraft.sampling import GreedySampler, MultinomialSampler, Sampler, rng_for
from tests.doubles import CountingTable, ScriptedPolicy
from tests.drafting.test_draft_model import FIVE, PROMPT, VOCAB, counting, started


class Striding(ScriptedPolicy):
    """A scripted policy that lets tokens be drafted in threes before it is asked about them."""

    def stride(self, num_drafted: int) -> int:
        return 3


@pytest.mark.parametrize("stops_after", range(8))
def test_tokens_drafted_at_once_are_those_asked_for_one_by_one(stops_after: int) -> None:
    def draft(policy: GammaPolicy) -> tuple[Draft, CountingTable]:
        model = counting()
        drafter = started(GreedySampler(), model)
        found = drafter.propose(PROMPT, 7, policy)
        drafter.propose([*PROMPT, *found.tokens[:2], 4], 1, FIVE)  # one of them was rejected
        return found, model

    (asked, alone), (foreseen, at_once) = (
        draft(policy(before=stops_after)) for policy in (ScriptedPolicy, Striding)
    )
    assert foreseen.tokens == asked.tokens
    assert foreseen.stopped == asked.stopped
    assert at_once.held == alone.held, "what was drafted in vain is forgotten"
    assert asked.num_calls == min(stops_after + 1, 7)
    assert foreseen.num_calls == min(3 * (stops_after // 3 + 1), 7)


@pytest.mark.parametrize("stops_before", range(8))
def test_tokens_drawn_at_once_are_those_drawn_one_by_one(stops_before: int) -> None:
    for seed in range(20):
        asked, foreseen = started(seed=seed), started(seed=seed)
        one = asked.propose(PROMPT, 7, ScriptedPolicy(before=stops_before))
        all_three = foreseen.propose(PROMPT, 7, Striding(before=stops_before))
        assert all_three.tokens == one.tokens
        assert all_three.stopped == one.stopped
        assert one.num_calls == min(stops_before + 1, 7)
        assert all_three.num_calls == min(3 * (stops_before // 3 + 1), 7)
        assert foreseen._rng.ahead(3) == asked._rng.ahead(3), "what is not proposed uses nothing up"
        if one.tokens:
            like = torch.zeros(1, VOCAB, dtype=torch.float64)
            assert torch.equal(all_three.choices.dense(like), one.choices.dense(like))


@pytest.mark.parametrize("sampler", [GreedySampler(), MultinomialSampler()], ids=repr)
@pytest.mark.parametrize("gamma", [1, 4])
def test_a_policy_that_is_content_with_margins_asks_for_no_logits(
    sampler: Sampler, gamma: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafter = started(sampler)
    monkeypatch.setattr(Context, "extend", lambda *_: pytest.fail("logits were asked for"))
    assert len(drafter.propose(PROMPT, gamma, FixedGamma(gamma)).tokens) == gamma
    drafter.propose(PROMPT, 1, CostAwareGamma())
    with pytest.raises(pytest.fail.Exception, match="logits"):
        drafter.propose(PROMPT, 1, ConfidenceGamma())


def test_nobody_sees_a_drawn_token_before_it_is_kept() -> None:
    seen = []

    class Looking(Striding):
        def before_token(self, signal: Signal, num_drafted: int) -> bool:
            seen.append((signal.likeliest, [signal.probability(t) for t in range(VOCAB)]))
            return True

    started(seed=1).propose(PROMPT, 6, Looking())
    assert seen == [(-1, [0.0] * VOCAB)] * 6


def test_a_sampler_without_a_rule_and_keyed_noise_are_asked_one_by_one() -> None:
    class Own(MultinomialSampler):
        """May do anything."""

    drafter = started(Own())
    assert drafter.propose(PROMPT, 5, Striding(before=1)).num_calls == 2
    drafter = started()
    drafter.start(Beginning(PROMPT, rng_for(0, keyed=True)))
    assert drafter.propose(PROMPT, 5, Striding(before=1)).num_calls == 2
