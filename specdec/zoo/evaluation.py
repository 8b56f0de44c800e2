"""How often a distilled drafter's tokens are accepted by its teacher, on held-out documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from specdec.core import StepRecord
from specdec.decoding import Sequence, Speculation, speculative_steps
from specdec.drafting import DraftModelDrafter
from specdec.gamma import FixedGamma
from specdec.models import DecoderOnlyModel
from specdec.sampling import GreedySampler, Rng
from specdec.tracing import Summary, summarize
from specdec.verification import RejectionVerifier
from specdec.zoo.corpus import Source, split

PROMPT_TOKENS = 32  # the beginning of a document that is given
NEW_TOKENS = 60
GAMMA = 4


def held_out_acceptance(
    teacher: Path,
    drafter: Any,
    tokenizer: PreTrainedTokenizerFast,
    source: Source,
    data_dir: Path,
    *,
    num_documents: int = 60,
) -> Summary:
    """Decode the beginnings of held-out documents greedily and return the statistics of all.

    Args:
        teacher: folder of the target.
        drafter: the trained draft model, a Hugging Face module.
        tokenizer: of both.
        source: where the documents come from.
        data_dir: the folder that holds it.
        num_documents: how many beginnings to continue.
    """
    network: Any = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32)
    target = DecoderOnlyModel(network.to(drafter.device))
    sampler = GreedySampler()
    parts = Speculation(
        target,
        DraftModelDrafter(DecoderOnlyModel(drafter), sampler),
        FixedGamma(GAMMA),
        RejectionVerifier(),
        sampler,
    )
    records: list[StepRecord] = []
    documents = split(source, data_dir, held_out=True)[:num_documents]
    for document in documents:
        prompt = tokenizer(document.text)["input_ids"][:PROMPT_TOKENS]
        sequence = Sequence(
            target.start(prompt),
            max_new_tokens=NEW_TOKENS,
            max_length=target.max_length,
            eos_token_ids=(tokenizer.eos_token_id,),
        )
        records += speculative_steps(parts, sequence, Rng(0))
    return summarize(records)
