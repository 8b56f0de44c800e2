"""A machine and a pair of models of numbers: what rules that weigh costs are played in."""

from __future__ import annotations

import random

import torch

from foredraft.costs import Meter
from foredraft.gamma import GammaPolicy, Signal
from tests.doubles import judged_step


def sure(num_calls: int) -> Signal:
    return Signal(torch.tensor([8.0, 0.0]), num_calls=num_calls)


def doubtful(num_calls: int) -> Signal:
    return Signal(torch.tensor([0.1, 0.0]), num_calls=num_calls)


class World:
    """A machine and a pair of models: costs, and acceptance by margin."""

    def __init__(
        self,
        draft: float,
        token: float,
        *,
        step_at_three: float = 0.0,
        first: float = 0.0,
        at_once: bool = False,
        is_noise: bool = False,
        seed: int = 0,
    ) -> None:
        self.is_noise = is_noise
        self.draft, self.token, self.step_at_three = draft, token, step_at_three
        self.first, self.at_once = first, at_once
        self.random, self.meter = random.Random(seed), Meter()

    def step(self, policy: GammaPolicy) -> tuple[int, float]:
        """Play a step; return tokens emitted and seconds spent."""
        policy.meter = self.meter
        drafted, kept, alive, calls, paid = 0, 0, True, 0, 0
        budget = policy.budget
        while drafted < budget:
            if drafted >= paid:
                stride = min(policy.stride(drafted), budget - drafted if self.at_once else 1)
                if stride <= 0:
                    break
                calls, paid = calls + stride, drafted + stride
            is_sure = self.random.random() < 0.8
            signal = sure(calls) if is_sure else doubtful(calls)
            if not policy.before_token(signal, drafted):
                break
            drafted += 1
            chance = 0.0 if self.is_noise else 0.97 if is_sure else 0.3
            alive = alive and self.random.random() < chance
            kept += alive
            if not policy.after_token(0, signal, drafted):
                break
        verify = 1.0 + self.token * drafted + self.step_at_three * (drafted >= 3)
        outcome = judged_step(
            drafted,
            kept,
            draft_seconds=self.first * (calls > 0) + self.draft * calls,
            verify_seconds=verify,
            num_calls=calls,
        )
        for learner in (self.meter, policy):
            learner.update(outcome)
        return kept + 1, outcome.seconds

    def rate(self, policy: GammaPolicy, steps: int = 1500) -> float:
        """Return tokens per second, the first steps left out."""
        policy.start()
        for _ in range(100):
            self.step(policy)
        played = [self.step(policy) for _ in range(steps)]
        return sum(tokens for tokens, _ in played) / sum(seconds for _, seconds in played)
