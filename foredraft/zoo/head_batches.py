"""A target's answers to many prompts in one batch: on an accelerator hundreds cost little more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList

from foredraft.models import DecoderOnlyModel
from foredraft.zoo.head_texts import SAMPLERS, Text

TEXTS_AT_ONCE = 1024
READ_AT_ONCE = 64  # texts of a pass that takes states down


class InTurn(LogitsProcessor):
    """Lets each row be drawn by the sampler whose turn it is."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chances = torch.empty_like(scores)
        for place, sampler in enumerate(SAMPLERS):
            chances[place :: len(SAMPLERS)] = sampler.probs(scores[place :: len(SAMPLERS)])
        return chances.log()


def answers_at_once(
    network: DecoderOnlyModel,
    prompts: Sequence[list[int]],
    layers: Sequence[int],
    *,
    length: int,
    ends: Sequence[int],
    seed: int,
) -> Iterator[Text]:
    """Yield prompts with a network's answers; arguments and what is left out as for `answers`."""
    fitting = [prompt for prompt in prompts if len(prompt) < network.max_length]
    if not fitting:
        return
    length = min(length, network.max_length - max(map(len, fitting)))
    try:
        drawn = _generated(network, fitting, length, ends, seed)
    except torch.OutOfMemoryError:
        if len(fitting) == 1:
            raise
        half = len(fitting) // 2
        for some in (fitting[:half], fitting[half:]):
            yield from answers_at_once(network, some, layers, length=length, ends=ends, seed=seed)
        return
    texts = [
        torch.tensor(prompt + _until_end(answer, ends), dtype=torch.int32)
        for prompt, answer in zip(fitting, drawn, strict=True)
    ]
    for first in range(0, len(texts), READ_AT_ONCE):
        part = texts[first : first + READ_AT_ONCE]
        # What fills the shorter ones up stands behind them, so they do not see it.
        ids = pad_sequence(part, batch_first=True).long().to(network.device)
        states = network.states_of(ids, layers).bfloat16().cpu()
        for text, prompt, made in zip(part, fitting[first:], states, strict=False):
            if len(text) > len(prompt) + 1:
                yield Text(text, len(prompt), made[: len(text) - 1].clone())


def _generated(
    network: DecoderOnlyModel,
    prompts: Sequence[list[int]],
    length: int,
    ends: Sequence[int],
    seed: int,
) -> list[list[int]]:
    """Return answers with whatever stands behind their ends."""
    assert isinstance(network.model, GenerationMixin)
    device, longest = network.device, max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    seeded = [device] if device.type == "cuda" else []
    plain = GenerationConfig(
        do_sample=True,  # of what the processor has left
        **{"temperature": 1.0, "top_k": 0, "top_p": 1.0},
        max_new_tokens=length,
        eos_token_id=list(ends) or None,
        pad_token_id=0,
    )
    with torch.random.fork_rng(seeded), _own_settings(network.model, plain):
        torch.manual_seed(seed)
        whole: Tensor = network.model.generate(
            input_ids=ids,
            attention_mask=mask,
            logits_processor=LogitsProcessorList([InTurn()]),
        )
    return [row[longest:] for row in whole.tolist()]


@contextmanager
def _own_settings(model: GenerationMixin, config: GenerationConfig) -> Iterator[None]:
    """Let a model decode by these settings alone: its folder's may hold penalties, which bend."""
    before, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = before


def _until_end(answer: list[int], ends: Sequence[int]) -> list[int]:
    """Return an answer up to its first end token, with it."""
    for place, token in enumerate(answer):
        if token in ends:
            return answer[: place + 1]
    return answer
