"""`plain`: proposes nothing; what any drafter must be worth more than."""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.core import Draft
from foredraft.drafting.base import DRAFTERS, Beginning, Drafter, DraftParts, DraftSource
from foredraft.gamma.base import GammaPolicy


class PlainDrafter(Drafter):
    """Leaves every token to the target."""

    def start(self, text: Beginning) -> None:
        pass

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        return Draft([])


@DRAFTERS.register("plain")
@dataclass(frozen=True)
class Plain(DraftSource):
    """No drafts: plain decoding."""

    def build(self, parts: DraftParts) -> PlainDrafter:
        return PlainDrafter()
