"""Tokens that the compiled pass draws: those that are drawn one by one, whoever shares the pass."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence

import pytest
import torch

from foredraft.choices import Drawing
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DraftModelDrafter
from foredraft.gamma import EntropyGamma, FixedGamma, GammaPolicy, HeuristicGamma
from foredraft.models import Drafted, Feed, Network
from foredraft.native.fused import FusedModel
from foredraft.native.passes import PASS_ROWS
from foredraft.sampling import MultinomialSampler, NucleusSampler, Rng, Sampler, TopKSampler
from foredraft.verification import VERIFIERS
from tests.native.test_fused import needs_a_compiler, processor
from tests.tiny import VOCAB, build, noisy, random_tokens

assert processor  # a fixture


@needs_a_compiler
@pytest.mark.parametrize("vocab_size", [VOCAB - 10, VOCAB, VOCAB + 10])
@pytest.mark.parametrize(
    "sampler", [MultinomialSampler(0.7), TopKSampler(1.3, 9), NucleusSampler(0.8, 0.9)]
)
def test_tokens_drawn_in_one_call_are_those_drawn_token_by_token(
    sampler: Sampler, vocab_size: int, processor: str
) -> None:
    source = random.Random(vocab_size)
    model = FusedModel(build("llama"), vocab_size=vocab_size)
    for length in (1, 3, PASS_ROWS + 2):
        tokens = [*random_tokens(source, length - 1), vocab_size - 1]
        drawing = sampler.drawing([source.random() for _ in range(6)])
        assert drawing is not None
        text, alone = model.open(tokens), model.open(tokens)
        [one_by_one] = Network.draw(model, [Feed(alone, tokens)], 6, [drawing])
        drafted = text.draw(tokens, 6, drawing)
        assert drafted.tokens == one_by_one.tokens
        assert drafted.margins == pytest.approx(one_by_one.margins, abs=1e-5)
        assert drafted.probs is not None
        torch.testing.assert_close(drafted.probs, one_by_one.probs, rtol=0, atol=1e-6)
        assert text.length == alone.length == length + 5
        assert len(set(drafted.tokens)) > 1


@needs_a_compiler
def test_several_texts_draw_as_each_alone() -> None:
    model, source = FusedModel(build("llama")), random.Random(0)
    samplers = (MultinomialSampler(), TopKSampler(0.5, 3), NucleusSampler(1.2, 0.6))
    drawings = [s.drawing([source.random() for _ in range(4)]) for s in samplers]
    texts = [model.open(random_tokens(source, length)) for length in (5, PASS_ROWS, 1)]
    alone = [model.open(t.begin).draw(t.begin, 4, d) for t, d in zip(texts, drawings, strict=True)]
    together = model.draw([Feed(text, text.begin) for text in texts], 4, drawings)
    for one, other in zip(together, alone, strict=True):
        assert (one.tokens, one.margins) == (other.tokens, other.margins)
        assert torch.equal(one.probs, other.probs)


@needs_a_compiler
def test_a_row_without_a_number_says_so_where_tokens_are_drawn() -> None:
    network = copy.deepcopy(build("llama"))
    with torch.no_grad():
        network.lm_head.weight[5] = torch.nan
    for draw in (FusedModel.draw, Network.draw):
        model = FusedModel(network)
        feeds = [Feed(model.open([1, 2]), [1, 2])]
        [drafted] = draw(model, feeds, 3, [MultinomialSampler().drawing([0.5] * 3)])
        assert all(map(math.isnan, drafted.margins))


class OneByOne(FusedModel):
    """Draws through Python, token by token."""

    def draw(self, feeds: Sequence[Feed], count: int, drawings: Sequence[Drawing]) -> list[Drafted]:
        return Network.draw(self, feeds, count, drawings)


class Asking(FusedModel):
    """Does not draw at all: its drafter asks for each token."""


@needs_a_compiler
@pytest.mark.parametrize("verifier", ["rejection", "block", "exact_match"])
@pytest.mark.parametrize("policy", [FixedGamma(4), HeuristicGamma(3), EntropyGamma(1, 4)], ids=str)
def test_a_seed_gives_the_same_text_whichever_path_draws(
    policy: GammaPolicy, verifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = NucleusSampler(0.9, 0.95)
    texts: list[list[list[int]]] = []
    for kind in (FusedModel, OneByOne, Asking):
        if kind is Asking:
            monkeypatch.setattr(type(policy), "stride", lambda self, num_drafted: 1)
        draft_model = kind(noisy("llama", noise=0.3))
        drafter = DraftModelDrafter(draft_model, sampler)
        target = FusedModel(build("llama"))
        rule = VERIFIERS.create(verifier)
        parts = Speculation(target, drafter, policy, rule, sampler, False)
        texts.append([])
        for seed in range(6):
            request = Request(target.open([3, 1, 4]), Rng(seed), max_new_tokens=24)
            for _ in speculative_steps(parts, request):
                pass
            texts[-1].append(request.output)
    assert texts[0] == texts[1] == texts[2]
