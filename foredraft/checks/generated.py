"""The referee of whole generations: anybody's `generate` on a tiny target, by counted texts.

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch

from foredraft.checks.distribution import REPORT_EVERY, Counted
from foredraft.checks.referee import FIX
from foredraft.checks.remembered import Remembered
from foredraft.checks.report import Finding, Progress
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.models.decoder_only import DecoderOnlyModel
from foredraft.ranges import Checked, Count, Range, Seed
from foredraft.sampling import MultinomialSampler

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TINY_VOCAB = 8
BEGINNINGS = ((1, 2, 3, 1, 2), (5, 4, 5, 4, 5, 4), (7,))
NEAR = 0.3  # of the weights' own spread: noise of the drafter
NEEDED = ("prompt_ids", "max_new_tokens", "seed", "target")
GIVEN = (*NEEDED, "drafter")
PROTOCOL = "generate(prompt_ids, max_new_tokens, seed, target, drafter)"


@dataclass(frozen=True)
class Trial(Checked):
    """How a whole generation is judged."""

    samples: Count = 6000  # generations
    length: Annotated[int, Range(1, 16)] = 4  # tokens of each
    level: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 1e-3
    seed: Seed = 42  # sample i is drawn with seed + i

    def judge(
        self,
        generate: Callable[..., object],
        subject: str,
        progress: Progress = lambda what, done, total: None,
    ) -> Finding:
        """Judge a generation by the distribution test.

        Raises:
            ConfigError: it takes other parameters, it raises, or what it returns are no tokens.
        """
        target, drafter = tiny_pair()
        settings: dict[str, object] = {"target": target, "drafter": drafter}
        wanted = _wanted(generate, subject)
        counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in BEGINNINGS]
        for i in range(self.samples):
            if i % REPORT_EVERY == 0:
                progress(f"generating with {subject}", i, self.samples)
            which = i % len(BEGINNINGS)
            asked = {
                "prompt_ids": list(BEGINNINGS[which]),
                "max_new_tokens": self.length,
                "seed": self.seed + i,
            }
            given = asked | settings
            with foreign(f"{subject}, sample {i},", FIX, ConfigError):
                out = generate(**{name: given[name] for name in wanted})
            counts[which][self._tokens(out, BEGINNINGS[which], subject)] += 1
        remembered = Remembered(DecoderOnlyModel(target))
        counted = Counted(remembered, MultinomialSampler(), self.length, str)
        for prompt, texts in zip(BEGINNINGS, counts, strict=True):
            counted.add(str(list(prompt)), list(prompt), texts, 1)  # what it drafts is its own
        return counted.finding(subject, self.level)

    def _tokens(self, out: object, prompt: tuple[int, ...], subject: str) -> tuple[int, ...]:
        flat = out.flatten().tolist() if hasattr(out, "flatten") else out
        tokens = tuple(flat) if isinstance(flat, list | tuple) else ()
        legal = all(type(token) is int and 0 <= token < TINY_VOCAB for token in tokens)
        if legal and len(tokens) == self.length:
            return tokens
        with_prompt = tokens[: len(prompt)] == prompt and len(tokens) > self.length
        remedy = "leave the prompt out" if with_prompt else FIX
        raise ConfigError(
            f"{subject}, after {list(prompt)}, returned {quoted(out)}; a generation returns its "
            f"{self.length} new tokens, integers of 0 … {TINY_VOCAB - 1}, and nothing "
            f"else; {remedy}"
        )


def _wanted(generate: Callable[..., object], subject: str) -> list[str]:
    """Return the names that a function is called with."""
    parameters = inspect.signature(generate).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    lacking = [name for name in NEEDED if name not in parameters and not takes_all]
    if lacking or not set(needed) <= set(GIVEN):
        raise ConfigError(
            f"{subject} takes ({', '.join(parameters)}); it is called as {PROTOCOL}, of which only "
            "drafter may lack"
        )
    return [name for name in GIVEN if takes_all or name in parameters]


def tiny_pair() -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return a target of a few hundred random weights, and a drafter: the target with noise."""
    import transformers  # takes seconds

    config = transformers.LlamaConfig(
        vocab_size=TINY_VOCAB,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,  # wide enough for some tokens to be likelier
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        target = transformers.LlamaForCausalLM(config).eval()
        drafter = copy.deepcopy(target)
        for weight in drafter.parameters():
            weight += NEAR * weight.std(unbiased=False) * torch.randn_like(weight)
    return target, drafter
