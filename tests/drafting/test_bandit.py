"""BanditDrafter: plain decoding is among its arms, and who rests reads nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from torch import Tensor

from foredraft.core import StepRecord
from foredraft.costs import Meter
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DRAFTERS, BanditDrafter, Drafter, DraftModelDrafter, DraftParts
from foredraft.drafting.base import Beginning
from foredraft.gamma import FixedGamma, GammaPolicy, PlainGamma
from foredraft.models import Context, Drafted, Feed, TableModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.verification import RejectionVerifier
from tests.doubles import judged_step

VOCAB, PROMPT = 50, [1, 2, 3] * 10
GREEDY = GreedySampler()


class Dice(TableModel):
    """Says anything, always the same after as many tokens; each pass and draft token takes time."""

    def __init__(self, seed: int, seconds: float, clock: list[float]) -> None:
        self.seed, self.seconds, self.clock, self.num_read = seed, seconds, clock, 0
        super().__init__(self.row, max_length=8192)

    def row(self, tokens: tuple[int, ...]) -> list[float]:
        said = random.Random(f"{self.seed} {len(tokens)}").randrange(VOCAB)
        return [float(token == said) for token in range(VOCAB)]

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        self.num_read += len(tokens)
        self.clock[0] += self.seconds
        return super().logits(context, tokens, keep)

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self.num_read += len(feeds[0].tokens)
        return super().draft(feeds, count)


class World:
    """A target and a draft model that have nothing in common."""

    def __init__(self, draft_seconds: float = 0.2) -> None:
        self.clock = [0.0]
        self.target = Dice(1, 1.0, self.clock)
        self.draft_model = Dice(2, draft_seconds, self.clock)

    def drafter(self, spec: str) -> Drafter:
        neural = DraftModelDrafter(self.draft_model, GREEDY)
        return DRAFTERS.create(spec).build(DraftParts(VOCAB, neural))

    def run(self, drafter: Drafter, policy: GammaPolicy, tokens: int) -> list[StepRecord]:
        parts = Speculation(
            self.target, drafter, policy, RejectionVerifier(), GREEDY, clock=lambda: self.clock[0]
        )
        request = Request(self.target.open(PROMPT), Rng(0), max_new_tokens=tokens)
        return list(speculative_steps(parts, request))


@pytest.mark.parametrize("draft_seconds", [0.02, 0.2, 0.6])
def test_beside_a_drafter_of_noise_a_bandit_is_hardly_slower_than_plain_decoding(
    draft_seconds: float,
) -> None:
    world = World(draft_seconds)
    world.run(world.drafter("bandit"), FixedGamma(4), 2000)
    assert 2000 / world.clock[0] >= 0.97


def test_plain_is_plain_decoding() -> None:
    world = World()
    records = world.run(world.drafter("plain"), FixedGamma(4), 50)
    assert [(r.drafted, len(r.emitted)) for r in records] == [([], 1)] * 50
    assert world.draft_model.num_read == 0


def test_a_draft_model_that_never_drafts_reads_nothing() -> None:
    world = World()
    drafter = world.drafter("bandit(plain, model, hold=60)")
    world.run(drafter, FixedGamma(4), 50)  # the first turn of plain
    assert world.draft_model.num_read == 0
    world.run(world.drafter("model"), PlainGamma(), 50)
    assert world.draft_model.num_read == 0


def test_a_draft_model_that_rests_reads_nothing_of_the_next_text() -> None:
    world = World()
    drafter = world.drafter("bandit(plain, model)")
    assert isinstance(drafter, BanditDrafter)
    world.run(drafter, FixedGamma(4), 60)
    read = world.draft_model.num_read
    assert read > 0, "it had its first turn"
    world.run(drafter, FixedGamma(4), 40)
    assert drafter.scores.current == 0
    assert world.draft_model.num_read == read


def test_texts_in_one_pass_are_scored_each_for_the_arm_that_drafted() -> None:
    shared = World().drafter("bandit(plain, suffix, hold=1)")
    assert isinstance(shared, BanditDrafter)
    one, other = shared.for_text(Meter()), shared.for_text(Meter())
    for text in (one, other):
        text.start(Beginning(PROMPT, Rng(0)))
    for text in (one, other):  # both have drafted nothing, with the first arm
        text.update(judged_step(0, 0, verify_seconds=1.0))
    assert [rate.count for rate in shared.scores.rates] == [2, 0]
    assert one.propose(PROMPT, 2, FixedGamma(2)).tokens == [1, 2]
