"""What a network says: of one text's pass, and of a run that nobody was asked about."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foredraft.logits import Likeliest


@dataclass(frozen=True, slots=True)
class Output:
    """What a pass says of one text.

    Attributes:
        logits: after each of the last `keep` tokens, shape `[keep, vocab]`.
        likeliest: of them, where the pass has found it out; None: whoever wants it looks.
    """

    logits: Tensor
    likeliest: Likeliest | None = None


@dataclass(frozen=True, slots=True)
class Drafted:
    """A run of one text that nobody was asked about.

    Attributes:
        tokens: the likeliest or drawn, one after another; all but the last are held in memory.
        margins: how far the largest logit of each row is above the second: NaN where the row holds
            no number, and what follows means nothing; ∞ where no other token is possible.
        probs: what the tokens were drawn from, `[count, vocab]`; None: they are the likeliest.
    """

    tokens: list[int]
    margins: list[float]
    probs: Tensor | None = None
