"""Which adapter a network gets, and which draft model goes with which target."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import transformers

from foredraft.decoding import (
    Speculation,
    speculative_steps,
)
from foredraft.drafting import DraftModelDrafter
from foredraft.errors import ModelError
from foredraft.gamma import FixedGamma
from foredraft.loading import fit_drafter, fit_target
from foredraft.loading.runtime import is_native
from foredraft.models import DecoderOnlyModel
from foredraft.tracing import summarize
from foredraft.verification import VERIFIERS
from tests.readers import GREEDY, begun, plain, prompt_of
from tests.tiny import assert_same_logits, build, full_logits, noisy


def counted(model: Any, calls: list[str], name: str) -> Any:
    """Return a copy of a model whose encoder notes its passes."""
    model = copy.deepcopy(model)
    model.get_encoder().register_forward_hook(lambda *_: calls.append(name))
    return model


def with_the_encoder_of(model: Any, donor: Any) -> Any:
    model = copy.deepcopy(model)
    model.get_encoder().load_state_dict(donor.get_encoder().state_dict())
    return model


@pytest.mark.parametrize("same", [True, False], ids=["same_encoder", "own_encoder"])
@pytest.mark.parametrize("name", ["t5", "t5:native", "bart", "whisper"])
def test_a_drafter_with_the_targets_encoder_does_not_encode_again(name: str, same: bool) -> None:
    calls: list[str] = []
    runtime = build(name).runtime
    whole, draft = build(name), noisy(name, noise=0.08)
    draft = with_the_encoder_of(draft, whole) if same else draft
    target = fit_target(counted(whole, calls, "target"), runtime)
    draft_model = fit_drafter(counted(draft, calls, "drafter"), target, runtime)
    assert is_native(target) == is_native(draft_model) == name.endswith("native")
    drafter = DraftModelDrafter(draft_model, GREEDY)
    prompt = prompt_of(name)
    request = begun(target, prompt)
    rule = VERIFIERS.create("rejection")
    parts = Speculation(target, drafter, FixedGamma(4), rule, GREEDY)
    records = list(speculative_steps(parts, request))
    assert request.output == plain(name, prompt)
    assert calls == (["target"] if same else ["target", "drafter"])
    assert summarize(records).num_drafted_tokens > 0


@pytest.mark.parametrize("name", ["bart", "mbart", "marian", "whisper"])
def test_a_decoder_alone_reads_what_the_targets_encoder_made(name: str) -> None:
    whole = noisy(name, noise=0.08)
    kind = type(whole).__name__.split("For")[0].removesuffix("MTModel") + "ForCausalLM"
    decoder = getattr(transformers, kind)(copy.deepcopy(whole.config)).eval()
    decoder.model.decoder.load_state_dict(whole.get_decoder().state_dict())
    decoder.get_output_embeddings().load_state_dict(whole.get_output_embeddings().state_dict())
    prompt = prompt_of(name)
    target = fit_target(build(name))
    draft_model = fit_drafter(decoder, target)
    begin, text = target.open(prompt).begin, draft_model.open(prompt)
    assert text.begin == begin
    tokens = [*begin, 11, 12, 13]
    joined = with_the_encoder_of(whole, build(name))
    alone = text.extend(tokens, keep=len(tokens))
    assert_same_logits(alone, full_logits(joined, tokens, prompt))
    drafter = DraftModelDrafter(draft_model, GREEDY)
    request = begun(target, prompt)
    rule = VERIFIERS.create("rejection")
    parts = Speculation(target, drafter, FixedGamma(4), rule, GREEDY)
    records = list(speculative_steps(parts, request))
    assert request.output == plain(name, prompt)
    assert (summarize(records).acceptance_rate or 0) > 0


def test_models_that_cannot_draft_for_each_other_are_refused() -> None:
    whole = fit_target(build("bart"))
    with pytest.raises(ModelError, match="LlamaForCausalLM is decoder-only and cannot see"):
        fit_drafter(build("llama"), whole)
    with pytest.raises(ModelError, match="cannot draft for a decoder-only target"):
        fit_drafter(build("bart"), DecoderOnlyModel(build("llama")))
    small = transformers.BartForCausalLM(build("bart", d_model=16).config)
    with pytest.raises(ModelError, match=r"hidden size 16 and cannot read .* hidden size 32"):
        fit_drafter(small, whole)
    with pytest.raises(ModelError, match="decoder without its encoder"):
        fit_target(small)
