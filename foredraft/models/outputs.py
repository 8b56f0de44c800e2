"""What a network says: of one text's pass, and of a run that nobody was asked about."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foredraft.logits import Likeliest


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass returns for one text.

    Attributes:
        logits: after each of the last `keep` tokens, shape `[keep, vocab]`.
        likeliest: the likeliest tokens, where the pass has looked for them; else None.
    """

    logits: Tensor
    likeliest: Likeliest | None = None


@dataclass(frozen=True, slots=True)
class Drafted:
    """Tokens that a network has drafted in one go.

    Attributes:
        tokens: the likeliest or the drawn ones; all but the last are held in memory.
        margins: distance of the two largest logits at each place: NaN where they are no numbers,
            so that what follows means nothing; ∞ where no other token is possible.
        probs: what the tokens were drawn from, `[count, vocab]`; None: they are the likeliest.
    """

    tokens: list[int]
    margins: list[float]
    probs: Tensor | None = None
