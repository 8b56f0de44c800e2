"""Whatever a signature says, a network is exact in our cache, recomputed or refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

import foredraft
from foredraft.errors import ModelError
from foredraft.loading import fit_target
from foredraft.models.cache import check_layers_can_roll_back
from tests.architectures import PROMPT, check, tiny
from tests.texts import first_pass
from tests.tiny import Witness

CAUSAL = {kind.model_type: kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING.keys()}  # noqa: SIM118
SEQ2SEQ = {kind.model_type: kind for kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING.keys()}  # noqa: SIM118
USUAL = (
    *("gpt2", "gpt_neo", "gptj", "opt", "bloom", "mpt", "falcon", "codegen", "openai-gpt", "xlnet"),
    *("ctrl", "biogpt", "phi", "phi3", "gemma2", "cohere", "starcoder2", "mixtral", "deepseek_v3"),
    *("gpt_oss", "stablelm", "reformer", "roberta", "xlm", "qwen3_moe", "olmo2", "cpmant", "xglm"),
)
# What cannot be built small here: other settings must fit each other, or a package is missing.
UNBUILT = (
    *("blt", "cohere_compass_text", "dbrx", "dots3_note", "gemma3n", "gemma3n_text"),
    *("gemma4_assistant", "longcat_flash", "musicgen", "musicgen_melody", "t5gemma", "t5gemma2"),
    *("audioflamingo3", "glmasr", "granite_speech", "granite_speech_plus", "musicflamingo"),
    *("nemo_speechlm", "omniasr", "qwen2_audio", "qwen3_asr", "vibevoice_asr", "voxtral"),
    "voxtral_realtime",
)
RECOMPUTED = ("openai-gpt", "reformer")


def network_of(kind: Any) -> Any:
    """Return a small network; none for what is refused without one."""
    mapped: Any = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING)
    loader = next((mapping[kind] for mapping in mapped if kind in mapping), None)
    loader = loader[0] if isinstance(loader, list | tuple) else loader
    if getattr(loader, "_is_stateful", False):
        with pytest.raises(ModelError, match=loader.__name__):
            check_layers_can_roll_back(loader, kind())
        return None
    return tiny(kind)


def exact_or_refused(kind: Any) -> None:
    network = network_of(kind)
    if network is None:
        return
    memory, said = None, ""
    try:
        memory = check(network)
    except ModelError as refused:
        said = str(refused)
    if memory is None:
        assert type(network).__name__ in said
    else:
        assert (memory == "TokenMemory") == (kind.model_type in RECOMPUTED)


@pytest.mark.parametrize("name", [name for name in USUAL if name in CAUSAL])
def test_a_usual_architecture_is_exact_or_refused(name: str) -> None:
    exact_or_refused(CAUSAL[name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CAUSAL.keys() - set(USUAL) - set(UNBUILT)))
def test_every_causal_architecture_is_exact_or_refused(name: str) -> None:
    exact_or_refused(CAUSAL[name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(SEQ2SEQ.keys() - set(UNBUILT)))
def test_every_encoder_decoder_is_exact_or_refused(name: str) -> None:
    exact_or_refused(SEQ2SEQ[name])


def test_a_network_that_looks_ahead_is_refused() -> None:
    model = fit_target(tiny(CAUSAL["xlnet"]))
    with pytest.raises(ModelError, match=r"XLNetLMHeadModel looks ahead"):
        first_pass(model, PROMPT)


@pytest.mark.parametrize("name", ["openai-gpt", "reformer", "gpt2"])
def test_speculative_text_is_the_plain_text(name: str) -> None:
    network = tiny(CAUSAL[name])
    drafter = copy.deepcopy(network)
    with torch.no_grad():
        for weight in drafter.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    plain = foredraft.autoregressive_generate(PROMPT, network, max_gen_len=12, eos_tokens_id=[])
    said, rate = foredraft.speculative_generate(
        PROMPT, drafter, network, max_gen_len=12, eos_tokens_id=[]
    )
    assert said == plain
    assert rate > 0


def test_beams_of_a_network_that_takes_no_cache() -> None:
    network = tiny(CAUSAL["openai-gpt"])
    text = fit_target(network).open(PROMPT)
    text.extend(PROMPT)
    other = text.fork()
    text.extend([3]), other.extend([4])
    for beam, last, tokens in ((other, 5, [*PROMPT, 4, 5]), (text, 6, [*PROMPT, 3, 6])):
        reference = network(torch.tensor([tokens])).logits[0, -1]
        torch.testing.assert_close(beam.extend([last])[0], reference)


class Lossy(torch.nn.Module):
    """A network that takes our cache, and forgets a token of every later pass."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config
        self.device, self.dtype = inner.device, inner.dtype

    def forward(self, input_ids: Any, use_cache: bool, **swallowed: Any) -> Any:
        kept = next(iter(swallowed.values()), None)
        out = self.inner(input_ids, use_cache=use_cache, **swallowed)
        if kept is not None and kept.length > input_ids.shape[1]:
            kept.rollback_to(kept.length - 1)
        return out


def test_a_cache_that_does_not_hold_what_was_fed_is_refused() -> None:
    inner = tiny(transformers.GPT2Config)
    network = Lossy(inner)
    text = fit_target(network).open(PROMPT)
    text.extend(PROMPT)
    with pytest.raises(ModelError, match=r"Lossy was fed 7 tokens and remembers 6"):
        text.extend([3])


def test_a_witness_sees_a_wrong_cache() -> None:
    network = tiny(transformers.GPT2Config)
    witness = Witness(network, fit_target(network))
    text = witness.open(PROMPT)
    text.extend(PROMPT)
    text.memory.context.rollback_to(3)
    with pytest.raises(AssertionError):
        text.extend([4])
