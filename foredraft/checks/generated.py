"""The referee of whole generations: anybody's `generate` on a tiny target, by the distribution test.

    def generate(prompt_ids, max_new_tokens, seed, target, drafter) -> list[int]

is called by these names, and may leave `drafter` out; `target` and `drafter` are Hugging Face
modules of one small vocabulary and no end token, the drafter near the target. Returned are the
`max_new_tokens` new tokens, at temperature 1 and unfiltered.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import torch

from foredraft.checks.distribution import Counted
from foredraft.checks.remembered import Remembered
from foredraft.checks.report import Finding, Progress
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.models.decoder_only import CausalLM
from foredraft.ranges import Checked, Count, Range, Seed
from foredraft.sampling import MultinomialSampler

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCAB = 8
PROMPTS = ((1, 2, 3, 1, 2), (5, 4, 5, 4, 5, 4), (7,))
NEAR = 0.3  # of the weights' own spread: noise of the drafter
NEEDED = ("prompt_ids", "max_new_tokens", "seed", "target")
GIVEN = (*NEEDED, "drafter")
PROTOCOL = "generate(prompt_ids, max_new_tokens, seed, target, drafter)"
REPORT_EVERY = 50  # samples

Generate = Callable[..., object]


class Generating(Checked):
    """How a whole generation is judged.

    Args:
        samples: generations.
        length: tokens of each.
        level: chance of a false alarm.
        seed: sample i is drawn with seed + i.
    """
