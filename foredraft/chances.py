"""Chances of guesses, learned as the answers come in: means, and how a text differs from others.

Knows numbers only; drafters and policies share it.
"""

from __future__ import annotations

TEXT_WEIGHT, TEXT_MEMORY = 16, 64  # of what is known of others in a text's mean, and of its own
TEXT_PRIOR, TEXT_FADING = 3.0, 1 / 32  # hits taken for granted; what a guess takes from older ones


class Mean:
    """A mean that follows the newest labels.

    Args:
        value: before any label.
        weight: labels that this counts for.
        memory: labels after which an older one counts 1/e.
    """

    __slots__ = ("memory", "value", "weight")

    def __init__(self, value: float, weight: float, memory: float) -> None:
        self.value, self.weight, self.memory = value, weight, memory

    def add(self, label: float, times: int = 1) -> None:
        """Learn a label, or the same one several times."""
        while times and self.weight < self.memory:
            self.weight = min(self.weight + 1, self.memory)
            self.value += (label - self.value) / self.weight
            times -= 1
        if times:
            self.value = label + (self.value - label) * (1 - 1 / self.memory) ** times

    def of_text(self) -> Mean:
        """Return the mean of a new text: what is known of others, until it has labels enough."""
        return Mean(self.value, min(self.weight, TEXT_WEIGHT), TEXT_MEMORY)


class Luck:
    """How much better, or worse, guesses hold in one text than elsewhere: a factor of chances."""

    __slots__ = ("_hits", "_hoped")

    def __init__(self) -> None:
        self._hits = self._hoped = TEXT_PRIOR

    @property
    def factor(self) -> float:
        """What a chance is multiplied by."""
        return self._hits / self._hoped

    def count(self, chance: float, hit: float) -> None:
        """Learn what became of a guess of this chance."""
        self._hoped += chance - TEXT_FADING * (self._hoped - TEXT_PRIOR)
        self._hits += hit - TEXT_FADING * (self._hits - TEXT_PRIOR)
