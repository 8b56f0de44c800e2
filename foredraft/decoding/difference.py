"""Where one greedy output leaves another, and whether rounding explains it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from foredraft.models.base import Network
from foredraft.sampling.controls import Controls


@dataclass(frozen=True)
class Difference:
    """The first difference of two greedy outputs.

    Attributes:
        position: index of the first differing token, or of the first missing one.
        logit_margin: how far the baseline's token was ahead there; None where one output ends.
        near_tie_below: margin up to which rounding may decide: each of the two logits may move by
            `Network.rounding`.
    """

    position: int
    logit_margin: float | None
    near_tie_below: float

    @property
    def is_near_tie(self) -> bool:
        """Whether rounding explains the difference; else it is a bug."""
        return self.logit_margin is not None and abs(self.logit_margin) <= self.near_tie_below

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values, ready for JSON: a margin that is no finite number becomes None."""
        finite = self.logit_margin is not None and math.isfinite(self.logit_margin)
        return asdict(self) | {
            "logit_margin": self.logit_margin if finite else None,
            "is_near_tie": self.is_near_tie,
        }


def first_difference(
    model: Network,
    prompt: list[int],
    ours: list[int],
    baseline: list[int],
    controls: Controls | None = None,
) -> Difference | None:
    """Compare two greedy outputs of one prompt; None means they are equal.

    Args:
        model: the target.
        prompt: its tokens.
        ours: output to judge.
        baseline: output of plain decoding.
        controls: that both were bent by, at the beginning of the text.
    """
    if ours == baseline:
        return None
    pairs = zip(ours, baseline, strict=False)
    shortest = min(len(ours), len(baseline))
    shared = next((i for i, (a, b) in enumerate(pairs) if a != b), shortest)
    if shared == shortest:
        return Difference(shared, None, 0.0)
    context = model.open(prompt)
    logits = context.extend([*context.begin, *baseline[:shared]])[0].float()  # [vocab]
    context.close()
    if controls is not None:
        logits = controls.applied(logits[None], baseline, shared)[0]
    margin = float(logits[baseline[shared]] - logits[ours[shared]])
    return Difference(shared, margin, 2 * model.rounding(logits))
