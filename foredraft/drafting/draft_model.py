"""The neural drafter: a small language model that draws its draft token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from foredraft.core import Draft, DraftStop, Prompt
from foredraft.drafting.base import Drafter
from foredraft.errors import ContextOverflow
from foredraft.gamma.base import GammaPolicy, Signal
from foredraft.models.base import LanguageModel
from foredraft.sampling.base import Sampler
from foredraft.sampling.rng import Rng


class DraftModelDrafter(Drafter):
    """Draws from a draft model with the target's sampler.

    Args:
        draft_model: shares the target's vocabulary.
        sampler: decides the distributions drawn from; greedy drafts carry no probabilities, since
            one-hot is what None means.
    """

    def __init__(self, draft_model: LanguageModel, sampler: Sampler) -> None:
        self.draft_model = draft_model
        self.sampler = sampler

    def start(self, prompt: Prompt, rng: Rng) -> None:
        self._rng = rng
        self._begin, self._drafted = 0, list[int]()  # the newest draft, and where it began
        # A prompt too long for the draft model is no reason to refuse: the target decodes plainly.
        try:
            self.draft_model.start(prompt)
            self._fits = True
        except ContextOverflow:
            self._fits = False

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        model = self.draft_model
        if not self._fits:
            return Draft([], stopped=DraftStop.CONTEXT)
        self._forget_rejected(tokens)
        room = model.max_length - len(tokens) + 1  # the last draft is never fed
        stopped = DraftStop.CONTEXT if room < gamma else None
        most = min(gamma, room)
        drafted = list[int]()
        probs: list[Tensor] = []
        calls = 0
        if most > 0 and self.sampler.is_greedy and not policy.asks:  # nothing between the tokens
            drafted = model.draft_greedily(tokens[model.length :], most)
            calls = most
        going_on = True
        while going_on and len(drafted) < most:
            unseen = (tokens + drafted)[model.length :]
            ahead = policy.foresee(len(drafted)) if self.sampler.is_greedy else 0
            if ahead:
                ahead = min(ahead, most - len(drafted))
                signals = list(map(Signal.drafted, *model.draft_with_margins(unseen, ahead)))
            else:
                signals = [Signal(model.extend(unseen, keep=1)[0])]
            calls += max(ahead, 1)
            for signal in signals:
                if not policy.before_token(signal, len(drafted)):
                    stopped, going_on = DraftStop.POLICY, False
                    break
                drafted.append(self._draw(signal, probs, len(tokens) + len(drafted)))
                if not policy.after_token(drafted[-1], signal, len(drafted)):
                    going_on = False
                    if len(drafted) < gamma:  # at its bound it would have ended anyway
                        stopped = DraftStop.POLICY
                    break
        self._begin, self._drafted = len(tokens), drafted
        return Draft(
            drafted,
            torch.stack(probs) if probs else None,  # [drafted, vocab]
            num_calls=calls,
            normalized_entropy=policy.normalized_entropy if calls else None,
            raw_gamma=policy.raw_gamma if calls else None,
            stopped=stopped,
        )

    def _forget_rejected(self, tokens: list[int]) -> None:
        """Roll back to what the newest draft shares with the tokens, however long ago it was."""
        emitted = tokens[self._begin :]
        pairs = zip(self._drafted, emitted, strict=False)
        kept = next((i for i, (a, b) in enumerate(pairs) if a != b), len(self._drafted))
        model = self.draft_model
        model.rollback_to(min(model.length, self._begin + kept, len(tokens) - 1))

    def _draw(self, signal: Signal, probs: list[Tensor], position: int) -> int:
        if self.sampler.is_greedy:
            return signal.likeliest
        assert signal.logits is not None
        probs.append(self.sampler.probs(signal.logits))
        return self._rng.categorical(probs[-1], position)
