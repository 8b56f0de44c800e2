"""Real files through the compiled pass: transformers' logits, and the same bits in any pass."""

from __future__ import annotations

import pytest
import torch

from foredraft.loading import LoadedModel, LoadOptions, load
from tests.native.test_fused import needs_a_compiler
from tests.real_files import each_real_model, real_file
from tests.texts import first_pass

pytestmark = [pytest.mark.real, needs_a_compiler]
TEXT = (
    "The quick brown fox jumps over the lazy dog. In 1998 the company was founded by two engineers "
    "who had met at a conference on compilers; 27 years later it had offices in 14 countries."
)


def loaded(name: str, **options: str) -> LoadedModel:
    return load(str(real_file(name)), "target", LoadOptions(device="cpu", **options))  # type: ignore[arg-type]


@each_real_model
def test_activations_in_float32_give_the_logits_of_transformers(name: str) -> None:
    theirs, exact = loaded(name, runtime="transformers"), loaded(name, activations="float32")
    tokens = theirs.tokenizer.encode(TEXT)
    reference = first_pass(theirs.model, tokens, keep=len(tokens)).float()
    ours = first_pass(exact.model, tokens, keep=len(tokens))
    assert (ours - reference).norm() <= 1e-3 * reference.norm()
    rounded = first_pass(loaded(name).model, tokens, keep=len(tokens))
    likely = torch.log_softmax(reference, -1)
    gap = (likely.exp() * (likely - torch.log_softmax(rounded, -1))).sum(-1).mean()
    assert gap < 0.05  # nats a token; 8 bits are no 24


@each_real_model
def test_logits_are_the_same_to_the_bit_for_1_to_16_tokens_a_pass(name: str) -> None:
    model = loaded(name).model
    tokens = loaded(name).tokenizer.encode(TEXT)[:40]
    whole = first_pass(model, tokens, keep=len(tokens))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for count in range(1, 17):
                text = model.open(tokens)
                text.extend(tokens[:20])
                logits = text.extend(tokens[20 : 20 + count], keep=count)
                assert torch.equal(logits, whole[20 : 20 + count])
    finally:
        torch.set_num_threads(before)
