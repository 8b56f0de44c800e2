"""A text's first pass, in one line."""

from __future__ import annotations

from torch import Tensor

from foredraft.core import Prompt
from foredraft.models import Network


def first_pass(network: Network, prompt: Prompt, keep: int = 1) -> Tensor:
    """Return the logits after the last `keep` of the tokens that a text begins with."""
    text = network.open(prompt)
    return text.extend(text.begin, keep)
