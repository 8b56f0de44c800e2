"""`plain`: proposes nothing; what any drafter must be worth more than."""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.core import Draft, Prompt
from foredraft.drafting.base import DRAFTERS, Drafter, DraftParts, DraftSource
from foredraft.gamma.base import GammaPolicy
from foredraft.sampling.rng import Rng


class PlainDrafter(Drafter):
    """Leaves every token to the target."""

    def start(self, prompt: Prompt, rng: Rng) -> None:
        pass

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        return Draft([])


@DRAFTERS.register("plain")
@dataclass(frozen=True)
class Plain(DraftSource):
    """No drafts: plain decoding."""

    def build(self, parts: DraftParts) -> PlainDrafter:
        return PlainDrafter()
