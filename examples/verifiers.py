"""`foredraft referee examples/verifiers.py:rejection`: verifiers, right and wrong, to be judged."""

from typing import Any

import torch
from torch import Tensor

from foredraft.choices import Randomness


def rejection(
    draft_tokens: list[int], draft_probs: Tensor, target_probs: Tensor, rng: Randomness
) -> list[int]:
    """Token rejection, written down once more: keep x with min(1, p / q), else draw from p − q."""
    for place, token in enumerate(draft_tokens):
        p, q = target_probs[place], draft_probs[place]
        if not rng.accepts(min(1.0, float(p[token] / q[token]))):
            residual = (p - q).clamp(min=0)
            return [*draft_tokens[:place], rng.categorical(residual, place)]
    return [*draft_tokens, rng.categorical(target_probs[-1], len(draft_tokens))]


def no_residual(
    draft_tokens: list[int], draft_probs: Tensor, target_probs: Tensor, rng: Randomness
) -> list[int]:
    """A wrong one: after a rejection it draws from p. What the drafter likes comes too often."""
    for place, token in enumerate(draft_tokens):
        p, q = target_probs[place], draft_probs[place]
        if torch.rand(()) >= p[token] / q[token]:
            return [*draft_tokens[:place], int(torch.multinomial(p, 1))]
    return [*draft_tokens, int(torch.multinomial(target_probs[-1], 1))]


def rejection_random_sample_pytorch(
    output_token_ids: Tensor,  # [batch, drafted + 1], written to
    cu_num_draft_tokens: Tensor,  # [batch], running sum
    draft_token_ids: Tensor,  # [drafted], of all texts
    draft_probs: Tensor | None,  # [drafted, vocab]; None where drafts are looked up
    target_probs: Tensor,  # [drafted, vocab]
    bonus_token_ids: Tensor,  # [batch, 1]
    recovered_token_ids: Tensor,  # [drafted]
    uniform_probs: Tensor,  # [drafted]
    is_greedy: Tensor | None,  # [batch]
    no_draft_probs: bool = False,
) -> None:
    """The interface of vLLM's rejection sampler in its PyTorch form, for where there is no vLLM."""
    begin = 0
    for text, end in enumerate(cu_num_draft_tokens.tolist()):
        rows = torch.arange(begin, end)
        tokens = draft_token_ids[rows]
        q = torch.ones(len(rows)) if draft_probs is None else draft_probs[rows, tokens]
        kept = int((target_probs[rows, tokens] / q >= uniform_probs[rows]).int().cumprod(0).sum())
        output_token_ids[text, :kept] = tokens[:kept]
        rejected = kept < len(rows)
        after = recovered_token_ids[begin + kept] if rejected else bonus_token_ids[text, 0]
        output_token_ids[text, kept] = after
        begin = end


def sample_recovered_tokens_pytorch(
    output_token_ids: Tensor,  # [drafted], written to
    cu_num_draft_tokens: Tensor,  # [batch], running sum
    draft_token_ids: Tensor,  # [drafted]
    draft_probs: Tensor | None,  # [drafted, vocab]
    target_probs: Tensor,  # [drafted, vocab]
    inv_q: Tensor,  # [batch, vocab], 1 / exponential numbers: all rows of a text share them
    no_draft_probs: bool = False,
) -> None:
    """What vLLM draws with after a rejection: a race, whose winner has the residual's law."""
    counts = torch.diff(cu_num_draft_tokens, prepend=torch.zeros(1, dtype=torch.int32))
    if draft_probs is None:
        residual = target_probs.scatter(1, draft_token_ids[:, None], 0.0)
    else:
        residual = (target_probs - draft_probs).clamp(min=0)
    output_token_ids[:] = (residual * inv_q.repeat_interleave(counts, 0)).argmax(-1)


def assisted(
    prompt_ids: list[int], max_new_tokens: int, seed: int, target: Any, drafter: Any
) -> list[int]:
    """Whole generations, for `--generate`: transformers' assisted generation."""
    torch.manual_seed(seed)
    prompt = torch.tensor([prompt_ids])
    settings = {"do_sample": True, "top_k": 0, "max_new_tokens": max_new_tokens}
    found = target.generate(
        prompt, attention_mask=torch.ones_like(prompt), assistant_model=drafter, **settings
    )
    return [int(token) for token in found[0, len(prompt_ids) :]]


def impatient(prompt_ids: list[int], max_new_tokens: int, seed: int, target: Any) -> list[int]:
    """A wrong one for `--generate`: at a temperature of its own."""
    torch.manual_seed(seed)
    tokens = list(prompt_ids)
    for _ in range(max_new_tokens):
        logits = target(torch.tensor([tokens])).logits[0, -1]
        tokens.append(int(torch.multinomial(torch.softmax(logits / 0.7, -1), 1)))
    return tokens[len(prompt_ids) :]
