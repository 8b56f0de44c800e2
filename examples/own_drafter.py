"""`--import examples/own_drafter.py --drafting "echo(period=3)"`: a drafter of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from foredraft.drafting import DRAFTERS, DraftParts, DraftSource, RetrievalDrafter
from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import Retrieved
from foredraft.ranges import Range


class EchoDrafter(RetrievalDrafter):
    """Says the last `period` tokens again, and again."""

    def __init__(self, period: int) -> None:
        self.period = period

    def start(self, text: Beginning) -> None:
        """Begin a generation; there is nothing to forget."""

    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        echo = ([*tokens, *drafted][-self.period :] * gamma)[:gamma]
        return Retrieved(echo, [0.5] * len(echo))  # what a policy is told of each token's chance


@DRAFTERS.register("echo")
@dataclass(frozen=True)
class Echo(DraftSource):
    """Parameters of `EchoDrafter`."""

    period: Annotated[int, Range(1, 64)] = 1
    retrieves = True  # it may come first in a hybrid

    def build(self, parts: DraftParts) -> EchoDrafter:
        return EchoDrafter(self.period)
