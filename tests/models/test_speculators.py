"""Our forward pass of a head beside that of the `speculators` library, where it is installed.

In an environment of its own, since the library wants another torch:

    uv venv ENV && uv pip install --python ENV speculators pytest pytest-xdist -e .
    ENV/bin/python -m pytest tests/models/test_speculators.py
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.loading.head import load_head, read_head_folder
from foredraft.models import DecoderOnlyModel
from tests.heads import KINDS
from tests.tiny import VOCAB, build, random_tokens

core = pytest.importorskip("speculators.models.eagle3.core")
pytestmark = pytest.mark.filterwarnings("ignore")  # what the library calls is not ours
STEPS = 4  # of a draft
LENGTH = 129  # the library pads nothing, and its attention takes blocks of 128


def theirs(kind: str, *, norms_first: bool, seed: int) -> Any:
    """Return a random head of the library's own, for a target of 32 numbers and two layers."""
    from speculators.config import SpeculatorsConfig, VerifierConfig
    from speculators.models.eagle3 import Eagle3SpeculatorConfig
    from speculators.proposals.greedy import GreedyTokenProposalConfig

    layer = KINDS[kind](
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
    )
    settings = SpeculatorsConfig(
        algorithm="eagle3",
        proposal_methods=[GreedyTokenProposalConfig(speculative_tokens=STEPS)],
        default_proposal_method="greedy",
        verifier=VerifierConfig(name_or_path=None, architectures=[]),
    )
    config = Eagle3SpeculatorConfig(
        transformer_layer_config=layer,
        draft_vocab_size=VOCAB // 2,
        norm_before_residual=norms_first,
        eagle_aux_hidden_state_layer_ids=[0, 1, 2],
        speculators_config=settings,
    )
    torch.manual_seed(seed)
    head = core.Eagle3DraftModel(config)
    chosen = torch.zeros(VOCAB, dtype=torch.bool)
    chosen[torch.randperm(VOCAB)[: VOCAB // 2]] = True
    offsets = chosen.nonzero()[:, 0] - torch.arange(VOCAB // 2)
    head.load_vocab_mappings(chosen, offsets)
    with torch.no_grad():
        for weight in head.parameters():
            if weight.ndim == 2:
                weight.normal_(0, 0.25)
            else:
                weight.uniform_(0.5, 1.5)
    return head.eval()


@pytest.mark.parametrize("norms_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_drafts_and_logits_are_those_of_the_library(
    kind: str, norms_first: bool, tmp_path: Path
) -> None:
    """From places of a text on, behind four of its own states."""
    head = theirs(kind, norms_first=norms_first, seed=3)
    head.save_pretrained(tmp_path)
    target = DecoderOnlyModel(build("llama"))
    ours = load_head(read_head_folder(tmp_path), target, "tiny")
    tokens = random_tokens(random.Random(5), LENGTH)
    context = target.open(tokens)
    features = context.watch(ours.layers)
    context.extend(tokens)
    told = features.between(0, LENGTH - 1)

    logits: list[torch.Tensor] = []
    hook = head.lm_head.register_forward_hook(lambda _, __, made: logits.append(made[0]))
    with torch.no_grad():
        one_text = torch.zeros(1, LENGTH - 1, dtype=torch.long)
        drafts = head(told[None], torch.tensor([tokens[1:]]), one_text, ttt_steps=STEPS)
    hook.remove()
    ids = [step[0] + head.d2t[step[0]] for step in drafts]

    for place in range(0, LENGTH - STEPS, 9):
        read = ours.open(tokens)
        ours.skip_to(read, 1)
        ours.tell(read, told[: place + 1])
        fed = tokens[1 : place + 2]
        for step in range(STEPS):
            row = read.extend(fed)[0, ours.tokens]
            assert torch.allclose(row, logits[step][place], atol=1e-4, rtol=1e-4), (place, step)
            assert int(ours.tokens[row.argmax()]) == int(ids[step][place])
            fed = [
                tokens[place + 2 + step]
            ]  # the library goes on with the text, not with its guess
