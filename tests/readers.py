"""What the tests of encoder–decoder models share: prompts, sequences, outputs of plain decoding."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.decoding import Request, autoregressive_steps
from foredraft.loading import fit_target
from foredraft.models import Network
from foredraft.sampling import GreedySampler, Rng, Sampler
from tests.tiny import VOCAB, build

GREEDY = GreedySampler()
LENGTH = 24


def prompt_of(name: str, seed: int = 0, length: int = 9) -> Prompt:
    """Return what this architecture's encoder reads."""
    if name == "whisper":
        features: Tensor = torch.randn(8, 40, generator=torch.Generator().manual_seed(seed))
        return features
    source = random.Random(seed)
    return [source.randrange(8, VOCAB) for _ in range(length)]


# Token 0 pads: M2M100 counts no position for it, so no test says it.


def begun(model: Network, prompt: Prompt, length: int = LENGTH, rng: Rng | None = None) -> Request:
    return Request(model.open(prompt), rng or Rng(0), max_new_tokens=length)


def plain(
    name: str, prompt: Prompt, sampler: Sampler = GREEDY, rng: Rng | None = None
) -> list[int]:
    """Return the output of plain decoding."""
    model = fit_target(build(name), build(name).runtime)
    request = begun(model, prompt, rng=rng)
    for _ in autoregressive_steps(request, sampler):
        pass
    return request.output
