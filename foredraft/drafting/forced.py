"""ForcedDrafter: where a structure leaves one way on, its tokens are a draft that costs no call."""

from __future__ import annotations

from collections.abc import Sequence

from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import CERTAIN, LONGEST_COPY, RetrievalDrafter, Retrieved


class ForcedDrafter(RetrievalDrafter):
    """Drafts what the controls of a text say must come."""

    is_told = True

    @property
    def learns_from_logits(self) -> bool:
        return False

    def start(self, text: Beginning) -> None:
        self._controls = text.controls

    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        if self._controls is None:
            return Retrieved()
        forced = self._controls.forced(drafted)[: min(gamma, LONGEST_COPY)]
        return Retrieved(forced, [CERTAIN] * len(forced))
