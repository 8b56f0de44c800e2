"""Draft margin → chance of acceptance, fitted as the labels come in.

A logistic curve a = σ(w·margin + b), by Newton steps on its 2 × 2 information matrix.

Derived in `docs/en/06b-draft-lengths.md#from-a-margin-to-a-chance-calibration`.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from foredraft.chances import Mean
from foredraft.core import StepOutcome

FIRST_BIAS = 1.5  # before anything is known: acceptance 0.82 whatever the margin
RIDGE = 1e-3  # on the distance from the last fit
NEWTON_STEPS = 4
LEAST, MOST = 0.02, 0.98
LARGEST = 500.0
FIRST_MEAN, FIRST_WEIGHT = 0.75, 4  # that many labels are thought to have been seen
MEAN_MEMORY = 256  # labels in the mean of all texts


class Calibration:
    """The curve and the newest labels it is fitted to.

    Args:
        window: labels kept.
        refit: labels between two fits, at first: then half of those that are kept.

    Attributes:
        average: of the newest labels.
    """

    def __init__(self, *, window: int = 512, refit: int = 48) -> None:
        self._labels: deque[tuple[float, float]] = deque(maxlen=window)
        self._refit, self._unfitted = refit, 0
        self.weight, self.bias = 0.0, FIRST_BIAS
        self.average = Mean(FIRST_MEAN, FIRST_WEIGHT, MEAN_MEMORY)

    @property
    def mean(self) -> float:
        """ā, the mean of the newest labels."""
        return self.average.value

    def of_text(self) -> Mean:
        """Return the mean of a new text: what is known of others, until it has labels enough."""
        return self.average.of_text()

    def acceptance(self, margin: float) -> float:
        """Return the chance that a token of this margin is accepted, in [0.02, 0.98]."""
        return min(max(_sigmoid(self.weight * margin + self.bias), LEAST), MOST)

    def add(self, margin: float, label: float) -> None:
        """Learn that a tested token of this margin was accepted with probability `label`."""
        self._labels.append((margin, label))
        self.average.add(label)
        self._unfitted += 1
        if self._unfitted >= max(self._refit, len(self._labels) // 2):
            self._unfitted = 0
            self._fit()

    def _fit(self) -> None:
        x, y = np.array(self._labels).T  # [labels], [labels]
        features = np.stack((x, np.ones_like(x)))  # [2, labels]
        start = np.array([self.weight, self.bias])
        curve = start.copy()
        for _ in range(NEWTON_STEPS):
            odds = (curve @ features).clip(-LARGEST, LARGEST)  # e^odds is a number
            a = 1 / (1 + np.exp(-odds))  # [labels]
            slope = features @ (y - a) - RIDGE * (curve - start)
            information = (features * (a * (1 - a))) @ features.T + RIDGE * np.eye(2)
            curve += np.linalg.solve(information, slope).clip(-2, 2)
        weight, bias = curve.tolist()
        # A wider margin is never a worse sign: a falling curve is chance, and becomes a constant.
        self.weight, self.bias = (weight, bias) if weight > 0 else (0.0, _log_odds(float(y.mean())))


def num_tested(outcome: StepOutcome) -> int:
    """Return how many tokens were tested: those kept and the first rejected."""
    tested = min(outcome.verdict.num_accepted + 1, len(outcome.draft.tokens))
    return min(tested, outcome.num_emitted)  # an end token may cut the block


def acceptance_labels(outcome: StepOutcome) -> list[float]:
    """Return the acceptance of each token that was tested: those kept and the first rejected.

    What comes after a rejection was never tested. Where a token is kept with probability
    Σ min(p, q), that number is the label: of the same mean as the outcome, and of less variance. A
    token that was not drawn is kept with probability p.
    """
    draft, tested = outcome.draft, num_tested(outcome)
    if not tested:
        return []
    if draft.drawn_from is None or outcome.accepts_overlap:
        return outcome.choices.overlaps(draft.choices, tested)
    return [float(i < outcome.verdict.num_accepted) for i in range(tested)]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _log_odds(share: float) -> float:
    share = min(max(share, LEAST), MOST)
    return math.log(share / (1 - share))
