"""`entropy(gamma_min, gamma_max, ema)`: EGAG, gamma from the entropy of the drafter.

Before drafting, from the drafter's logits at temperature 1 and before filters (so that the signal
does not move with the sampler):

    H = −Σ p ln p        H_norm = H / ln V        γ_raw = (1 − H_norm) · γ_max
    γ̃ = μ·γ̃_previous + (1 − μ)·γ_raw            (first step: γ̃ = γ_raw)
    γ = clip(⌊γ̃⌋, γ_min, γ_max)

On large vocabularies H_norm is small whenever the drafter is of any use (0.25 nats at V = 152k give
0.02), so the rule stays near its upper bound there.

Derived in `docs/en/06-tricks-and-optimizations.md#egag-the-length-from-the-drafters-entropy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from foredraft.core import StepOutcome
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.ranges import LONGEST_DRAFT, DraftLength, Range

Ema = Annotated[float, Range(0, 1, open_high=True)]  # 1 would never move


@GAMMA_POLICIES.register("entropy")
@dataclass
class EntropyGamma(GammaPolicy):
    """Entropy-adaptive gamma (EGAG).

    Attributes:
        gamma_min: lower bound.
        gamma_max: upper bound, ≥ gamma_min.
        ema: weight of the past in the moving average; 0 means no smoothing.
    """

    gamma_min: DraftLength = 1
    gamma_max: DraftLength = 4
    ema: Ema = 0.0
    _smoothed: float | None = field(init=False, default=None)
    _entropy: float | None = field(init=False, default=None)
    _raw: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        Range(self.gamma_min, LONGEST_DRAFT).check("gamma_max", self.gamma_max)

    def start(self) -> None:
        self._smoothed = self._entropy = self._raw = None

    @property
    def budget(self) -> int:
        return self.gamma_max

    @property
    def gamma(self) -> int:
        """The length decided for this step: clip(⌊γ̃⌋, γ_min, γ_max)."""
        smoothed = self.gamma_max if self._smoothed is None else self._smoothed
        return min(max(math.floor(smoothed), self.gamma_min), self.gamma_max)

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        if num_drafted == 0:
            self._entropy = signal.normalized_entropy
            self._raw = (1 - self._entropy) * self.gamma_max
            before = self._raw if self._smoothed is None else self._smoothed
            # μ·before + (1 − μ)·raw, in the form that leaves a constant signal constant.
            self._smoothed = before + (1 - self.ema) * (self._raw - before)
        return True

    def stride(self, num_drafted: int) -> int:
        return max(self.gamma - num_drafted, 1) if num_drafted else 1  # the first decides

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        return num_drafted < self.gamma

    def update(self, outcome: StepOutcome) -> None:
        self._entropy = self._raw = None

    @property
    def normalized_entropy(self) -> float | None:
        return self._entropy

    @property
    def raw_gamma(self) -> float | None:
        return self._raw
