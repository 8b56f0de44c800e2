"""PredictionDrafter: copies from a text that the output will resemble, such as a file to be edited.

One place is known at every moment: where output and prediction were last in step. Where they part,
the place is looked for again by the newest tokens of the output, ahead of the old one first: an
edit leaves something out, puts something in, or puts something else.

Derived in `docs/en/controls.md#predictions`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import LONGEST_COPY, HitRates, RetrievalDrafter, Retrieved

LONGEST_KEY, SHORTEST_KEY = 4, 2  # tokens that tell a place
LOST = 0  # tokens in step where nothing tells the place


class PredictionDrafter(RetrievalDrafter):
    """Drafts from the prediction of a text: from its beginning, then from where it is in step.

    How often a copied token was right is counted by the number of tokens in step before it, over
    all texts.
    """

    is_told = True

    def __init__(self) -> None:
        self.hit_rates = HitRates()

    @property
    def learns_from_logits(self) -> bool:
        return False

    def start(self, text: Beginning) -> None:
        self._prediction = list(text.prediction)
        self._places = _places_of(self._prediction)
        # What comes next there, and how many tokens before it were in step.
        self._place, self._run = 0, LONGEST_KEY

    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        place, run = self._place, self._run
        window = [*tokens[-LONGEST_KEY:], *drafted]
        for end in range(len(window) - len(drafted) + 1, len(window) + 1):
            place, run = self._after(window[max(end - LONGEST_KEY, 0) : end], place, run)
        found = self._prediction[place : place + min(gamma, LONGEST_COPY)]
        confidences = [self.hit_rates.confidence(run + i) for i in range(len(found))]
        return Retrieved(found, confidences, is_predicted=True)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        for end in range(len(tokens) - num_emitted + 1, len(tokens) + 1):
            if self._place < len(self._prediction):
                self.hit_rates.count(self._run, tokens[end - 1] == self._prediction[self._place])
            window = tokens[max(end - LONGEST_KEY, 0) : end]
            self._place, self._run = self._after(window, self._place, self._run)

    def _after(self, window: Sequence[int], place: int, run: int) -> tuple[int, int]:
        """Return place and run behind one token more, the last of `window`."""
        if self._prediction[place : place + 1] == [window[-1]]:
            return place + 1, run + 1
        for length in range(min(LONGEST_KEY, len(window)), SHORTEST_KEY - 1, -1):
            places = self._places.get(tuple(window[-length:]), ())
            if places:
                return places[bisect_left(places, place) % len(places)], length
        # Nothing tells where it is; perhaps one token stands for another, and all goes on.
        return min(place + 1, len(self._prediction)), LOST


def _places_of(prediction: Sequence[int]) -> dict[tuple[int, ...], list[int]]:
    """Return where in a text each few tokens of it end, rising."""
    places = defaultdict[tuple[int, ...], list[int]](list)
    for end in range(len(prediction) + 1):
        for length in range(SHORTEST_KEY, min(LONGEST_KEY, end) + 1):
            places[tuple(prediction[end - length : end])].append(end)
    return dict(places)
