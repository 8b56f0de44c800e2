"""NgramDrafter (NASD): what it proposes, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from foredraft.core import Draft
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import NgramDrafter, NGramStorage
from foredraft.drafting.base import Beginning
from foredraft.errors import ConfigError
from foredraft.gamma import FixedGamma
from foredraft.models import TableModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.verification import RejectionVerifier

VOCAB = 8


class RecordingStorage(NGramStorage):
    """Remembers what it was told to count since the prompt."""

    def initialize(self, tokens: Sequence[int]) -> None:
        super().initialize(tokens)
        self.counted: list[tuple[list[int], int]] = []

    def update(self, context: Sequence[int], next_token: int) -> None:
        super().update(context, next_token)
        if hasattr(self, "counted"):
            self.counted.append((list(context), next_token))


def started(prompt: list[int], n: int = 3, **options: Any) -> NgramDrafter:
    """Return a drafter that has begun a generation."""
    drafter = NgramDrafter(NGramStorage(n, VOCAB), **options)
    drafter.start(Beginning(prompt, Rng(0)))
    return drafter


def observed(
    prompt: list[int], emitted: list[int], logits: Tensor, filler_top_k: int
) -> list[tuple[list[int], int]]:
    """Return what is counted, in order, when `emitted` follows `prompt`."""
    storage = RecordingStorage(3, VOCAB)
    drafter = NgramDrafter(storage, filler_top_k=filler_top_k)
    drafter.start(Beginning(prompt, Rng(0)))
    drafter.observe(prompt + emitted, len(emitted), logits)
    return storage.counted


def proposed(drafter: NgramDrafter, tokens: list[int], gamma: int = 4) -> list[int]:
    return drafter.propose(tokens, gamma, FixedGamma()).tokens


def likeliest(*rows: list[int]) -> Tensor:
    """Return logits whose likeliest tokens are those of each row, in that order."""
    logits = torch.full((len(rows), VOCAB), -9.0)
    for i, row in enumerate(rows):
        for rank, token in enumerate(row):
            logits[i, token] = -float(rank)
    return logits


def test_a_repeated_prompt_is_proposed_onwards() -> None:
    prompt = [1, 2, 3, 4, 5, 1, 2]
    assert proposed(started(prompt), prompt) == [3, 4, 5, 1]


def test_each_proposed_token_is_context_for_the_next() -> None:
    assert proposed(started([1, 2, 1, 2, 1]), [1, 2, 1, 2, 1], gamma=5) == [2, 1, 2, 1, 2]


def test_bigrams_are_proposed_from_the_last_token_alone() -> None:
    assert proposed(started([3, 4, 5, 3], n=2), [3, 4, 5, 3], gamma=3) == [4, 5, 3]


def test_never_more_than_gamma_tokens() -> None:
    prompt = [1, 1, 1, 1]
    for gamma in range(5):
        assert len(proposed(started(prompt), prompt, gamma)) == gamma


def test_trap_a_draft_that_was_not_drawn_carries_no_probabilities() -> None:
    draft = started([1, 1, 1]).propose([1, 1, 1], 3, FixedGamma(3))
    assert draft == Draft([1, 1, 1], drawn_from=None, num_calls=0)


def test_the_tokens_so_far_are_not_edited() -> None:
    tokens = [1, 2, 1, 2]
    proposed(started(tokens), tokens)
    assert tokens == [1, 2, 1, 2]


def test_stop_if_unknown_ends_the_draft_at_the_first_unknown_context() -> None:
    drafter = started([1, 2, 3], stop_if_unknown=True)
    assert proposed(drafter, [0, 1]) == [2, 3]  # nothing is known to follow 3
    assert proposed(drafter, [6]) == []


def test_without_it_the_rest_is_guessed() -> None:
    draft = proposed(started([1, 2, 3], stop_if_unknown=False), [0, 1])
    assert draft[:2] == [2, 3]
    assert len(draft) == 4
    assert all(0 <= token < VOCAB for token in draft)


def test_guesses_repeat_from_one_generation_to_the_next() -> None:
    drafter = started([], stop_if_unknown=False)
    first = proposed(drafter, [7], gamma=20)
    drafter.start(Beginning([], Rng(99)))
    assert proposed(drafter, [7], gamma=20) == first


def test_filler_one_counts_the_emitted_tokens_alone() -> None:
    logits = likeliest([5, 6], [5, 6])
    assert observed([0, 1], [2, 3], logits, 1) == [([0, 1], 2), ([1, 2], 3)]


def test_the_filler_counts_what_the_target_nearly_said_at_each_emitted_position() -> None:
    # The third row follows a rejected draft: it belongs to no emitted token.
    counted = observed([0], [1, 2], likeliest([5, 6, 7], [2, 3, 4], [1, 1, 1]), 2)
    assert counted == [([0], 1), ([0], 5), ([0], 6), ([0, 1], 2), ([0, 1], 2), ([0, 1], 3)]


def test_an_emitted_token_leads_its_fillers() -> None:
    drafter = started([0], filler_top_k=3)
    drafter.observe([0, 7], 1, likeliest([4, 5, 6]))
    assert drafter.storage.next_token([0]) == (7, True)


def test_a_filler_larger_than_the_vocabulary_counts_all_of_it() -> None:
    counted = observed([0], [1], likeliest([1, 2, 3]), 99)
    assert sorted(token for _, token in counted) == sorted([1, *range(VOCAB)])


def test_a_context_is_never_longer_than_the_storage_reads() -> None:
    counted = observed([0, 1, 2, 3, 4], [5], likeliest([6]), 1)
    assert counted == [([3, 4], 5)]


def test_observing_reaches_every_level_of_the_storage() -> None:
    drafter = started([], filler_top_k=1)
    drafter.observe([3, 4, 5], 1, likeliest([0]))
    assert drafter.storage.has_gram([4])
    assert drafter.storage.has_gram([3, 4])
    assert not drafter.storage.has_gram([3])  # it was the prompt's, not emitted


@pytest.mark.parametrize(("reset_in_between", "remembered"), [(True, False), (False, True)])
def test_reset_in_between_decides_what_the_next_prompt_finds(
    reset_in_between: bool, remembered: bool
) -> None:
    drafter = started([1, 2, 3], reset_in_between=reset_in_between)
    drafter.observe([1, 2, 3, 4], 1, likeliest([0, 0]))
    drafter.start(Beginning([5, 6], Rng(0)))
    assert drafter.storage.has_gram([1, 2]) == remembered
    assert drafter.storage.has_gram([2, 3]) == remembered
    assert drafter.storage.has_gram([5])


@pytest.mark.parametrize("bad", [0, -1])
def test_a_filler_below_one_is_refused(bad: int) -> None:
    with pytest.raises(ConfigError, match=rf"filler_top_k must lie in \[1, 1024\], not {bad}"):
        NgramDrafter(NGramStorage(3, VOCAB), filler_top_k=bad)


def test_a_loop_over_a_cycle_is_soon_drafted_whole() -> None:
    cycle = TableModel(lambda tokens: [float(t == (sum(tokens[-1:]) + 1) % 4) for t in range(4)])
    drafter = NgramDrafter(NGramStorage(3, 4), filler_top_k=1, stop_if_unknown=True)
    sampler = GreedySampler()
    parts = Speculation(cycle, drafter, FixedGamma(4), RejectionVerifier(), sampler)
    request = Request(cycle.open([0]), Rng(0), max_new_tokens=20)
    records = list(speculative_steps(parts, request))
    assert request.output == [(i + 1) % 4 for i in range(20)]
    # Four steps learn the cycle, then five tokens a step; the last step has one token to give.
    assert [len(r.emitted) for r in records] == [1, 1, 1, 1, 5, 5, 5, 1]
