"""HybridDrafter: who drafts when, what mixed drafts carry, and a cache that catches up."""

from __future__ import annotations

import random

import pytest
import torch

from foredraft.arms import Arms
from foredraft.core import Draft, DraftStop, StepOutcome, Verdict
from foredraft.decoding import Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import (
    BanditDrafter,
    Drafter,
    DraftModelDrafter,
    HybridDrafter,
    PromptLookupDrafter,
    SuffixDrafter,
)
from foredraft.drafting.base import Beginning
from foredraft.gamma import FixedGamma, GammaPolicy
from foredraft.models import DecoderOnlyModel, TableModel
from foredraft.sampling import GreedySampler, MultinomialSampler, Rng, Sampler
from foredraft.verification import RejectionVerifier
from tests.doubles import ScriptedPolicy, probs_of, random_table
from tests.readers import begun
from tests.texts import first_pass
from tests.tiny import VOCAB, Witness, build, noisy

GREEDY = GreedySampler()


def outcome(draft: Draft, accepted: int, seconds: float) -> StepOutcome:
    """Return a step that took `seconds`, all of it verification."""
    return StepOutcome(
        draft,
        Verdict(accepted, 0),
        torch.zeros(1, 1),
        accepted + 1,
        len(draft.tokens) + 1,
        0.0,
        seconds,
    )


def hybrid(sampler: Sampler = GREEDY, vocab: int = 6) -> HybridDrafter:
    neural = DraftModelDrafter(TableModel(random_table(vocab, seed=1)), sampler)
    return HybridDrafter(PromptLookupDrafter(vocab), neural)


def told(drafter: HybridDrafter, tokens: list[int], accepted: int, seconds: float) -> None:
    """Let the fallback draft some steps that kept so much in so many seconds."""
    for _ in range(12):
        draft = drafter.propose(tokens, 2, FixedGamma(2))
        drafter.observe([*tokens, 0], 1, torch.zeros(1, 1))
        for learner in (drafter.meter, drafter):
            learner.update(outcome(draft, accepted, seconds))


NOVEL = [0, 1, 2, 3, 4, 5]
REPEATED = [1, 2, 3, 1, 2]


def test_before_rates_are_known_only_a_sure_match_is_copied() -> None:
    drafter = hybrid()
    drafter.start(Beginning(NOVEL, Rng(0)))
    assert drafter.propose(NOVEL, 3, FixedGamma(3)).num_calls == 3
    drafter.start(Beginning(REPEATED, Rng(0)))
    assert drafter.propose(REPEATED, 3, FixedGamma(3)).num_calls == 3  # 2 tokens: ⅔
    for _ in range(20):
        drafter.first.hit_rates.count(2, True)  # type: ignore[attr-defined]
    assert drafter.propose(REPEATED, 3, FixedGamma(3)).tokens == [3, 1, 2]


@pytest.mark.parametrize(("accepted", "copies"), [(0, True), (2, False)])
def test_copies_are_used_where_they_promise_more_than_the_model_gives(
    accepted: int, copies: bool
) -> None:
    # A match of two is trusted ⅔, then ¾: 1 + ⅔ + ½ tokens a step. The model gives 1, or 3.
    drafter = hybrid()
    drafter.start(Beginning(NOVEL, Rng(0)))
    told(drafter, NOVEL, accepted, seconds=1.0)
    drafter.start(Beginning(REPEATED, Rng(0)))
    draft = drafter.propose(REPEATED, 2, FixedGamma(2))
    assert (draft.num_calls == 0) is copies
    assert (draft.tokens == [3, 1]) is copies


def test_a_long_copy_is_cut_where_another_token_costs_more_than_it_brings() -> None:
    drafter = hybrid()
    drafter.start(Beginning(NOVEL, Rng(0)))
    told(drafter, NOVEL, 0, seconds=2.0)
    for k, seconds in ((0, 1.0), (1, 1.0), (4, 9.0)):
        for _ in range(40):
            drafter.meter.update(outcome(Draft([0] * k), 0, seconds))
    drafter.start(Beginning(REPEATED, Rng(0)))
    assert 1 <= len(drafter.propose(REPEATED, 4, FixedGamma(4)).tokens) < 4


class Thrifty(ScriptedPolicy):
    """Stops drawing after two tokens, for what another would cost."""

    stops_for_cost = True


def test_a_draft_stopped_for_its_cost_is_extended_with_one_hot_rows() -> None:
    sampler = MultinomialSampler()
    neural = DraftModelDrafter(TableModel(lambda tokens: [0.0, 0.5, 0.5]), sampler)
    drafter = HybridDrafter(PromptLookupDrafter(3, max_ngram=1), neural)
    prompt = [1, 2, 1, 1, 2, 2, 1, 2]
    drafter.start(Beginning(prompt, Rng(0)))
    draft = drafter.propose(prompt, 6, Thrifty(6, after=2))
    assert draft.num_calls == 2
    assert probs_of(draft).shape == (len(draft.tokens), 3)
    assert len(draft.tokens) > 2
    assert probs_of(draft)[:2].tolist() == [[0.0, 0.5, 0.5]] * 2
    copied = draft.tokens[2:]
    assert probs_of(draft)[2:].tolist() == [[float(i == t) for i in range(3)] for t in copied]


def test_a_doubtful_draft_is_not_extended() -> None:
    drafter = hybrid()
    prompt = [1, 2, 1, 1, 2, 2, 1, 2]
    drafter.start(Beginning(prompt, Rng(0)))
    draft = drafter.propose(prompt, 6, ScriptedPolicy(6, after=2))
    assert (len(draft.tokens), draft.stopped) == (2, DraftStop.POLICY)


def test_where_the_draft_model_has_no_position_left_copies_go_on() -> None:
    model = TableModel(random_table(6, seed=1), max_length=4)
    drafter = HybridDrafter(SuffixDrafter(6), DraftModelDrafter(model, GREEDY))
    prompt = [1, 2, 3, 1, 2]
    drafter.start(Beginning(prompt, Rng(0)))
    assert drafter.propose(prompt, 2, FixedGamma(2)).tokens == [3, 1]


class Coin(HybridDrafter):
    """Copies or draws by a coin instead of by promise: any mixture there can be."""

    coin = random.Random(3)

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        heads = self.coin.random() < 0.5
        drafter: Drafter = self.first if heads else self.fallback
        return drafter.propose(tokens, gamma, policy)


class Arbitrary(BanditDrafter):
    """Plays an arm at random."""

    coin = random.Random(4)

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        self._arm = self.coin.randrange(len(self.drafters))
        return super().propose(tokens, gamma, policy)


@pytest.mark.parametrize("kind", ["coin", "bandit"])
def test_a_draft_model_that_rested_holds_what_an_uncached_pass_gives(kind: str) -> None:
    """After every drawn draft the cached logits equal those of the whole prefix, computed anew."""
    target, draft_model = DecoderOnlyModel(build("llama")), Witness(noisy("llama"))
    fresh = DecoderOnlyModel(noisy("llama"))
    neural = DraftModelDrafter(draft_model, GREEDY)
    suffix = SuffixDrafter(VOCAB)
    drafter: Drafter = Coin(suffix, neural)
    if kind == "bandit":
        drafter = Arbitrary([neural, suffix, Coin(SuffixDrafter(VOCAB), neural)], Arms(3, 0.1, 1))
    parts = Speculation(target, drafter, FixedGamma(3), RejectionVerifier(), GREEDY)
    request = begun(target, [5, 6, 7, 5, 6], 40)
    checked = 0
    for record in speculative_steps(parts, request):
        if record.num_draft_calls:
            text = draft_model.text
            before = request.tokens[: request.length - len(record.emitted)]
            held = [*before, *record.drafted][: text.length]
            assert text.length == len(before) + len(record.drafted) - 1
            whole = first_pass(fresh, [*held, 9])
            cached = text.extend([9])
            text.rollback_to(len(held))
            assert torch.allclose(cached, whole, atol=1e-4)
            checked += 1
    assert checked > 3
    plain = begun(target, [5, 6, 7, 5, 6], 40)
    list(autoregressive_steps(plain, GREEDY))
    assert request.output == plain.output
