"""The documented functions for encoder–decoder models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import foredraft
from foredraft import (
    EncoderDecoderModel,
    MultinomialProcessor,
    NGramStorage,
    autoregressive_generate_encoder_decoder,
    beam_search_generate_encoder_decoder,
    ngram_assisted_speculative_generate_encoder_decoder,
    speculative_generate_encoder_decoder,
)
from foredraft.errors import ModelError, RequestError
from tests.readers import plain, prompt_of
from tests.tiny import SEQ2SEQ, VOCAB, build, noisy

EVERYTHING: dict[str, Any] = {"max_gen_len": 24, "eos_tokens_id": ()}


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no_cache"])
@pytest.mark.parametrize("name", SEQ2SEQ)
def test_all_four_say_the_same_greedily(name: str, use_cache: bool) -> None:
    prompt: Any = prompt_of(name, 4)
    settings = EVERYTHING | {"use_cache": use_cache, "runtime": build(name).runtime.name}
    expected = plain(name, prompt)
    assert autoregressive_generate_encoder_decoder(prompt, build(name), **settings) == expected
    one = {"num_beams": 1, "top_k": 1}
    assert beam_search_generate_encoder_decoder(prompt, build(name), **one, **settings) == expected
    drafter = noisy(name, noise=0.08)
    for more in ({}, {"use_egag": True}, {"verifier": "block"}, {"first_target": False}):
        text, rate = speculative_generate_encoder_decoder(
            prompt, drafter, build(name), **more, **settings
        )
        assert text == expected
        assert 0 <= rate <= 1
    text, _ = ngram_assisted_speculative_generate_encoder_decoder(
        prompt, NGramStorage(3, VOCAB), build(name), **settings
    )
    assert text == expected


def test_the_ordinary_functions_take_an_encoder_decoder_as_well() -> None:
    prompt: Any = prompt_of("bart")
    expected = plain("bart", prompt)
    assert foredraft.autoregressive_generate(prompt, build("bart"), **EVERYTHING) == expected
    itself = foredraft.speculative_generate(prompt, build("bart"), build("bart"), **EVERYTHING)
    assert itself == (expected, 1.0)


def test_a_start_token_of_ones_own_begins_the_sequence() -> None:
    prompt: Any = prompt_of("t5")
    usual = autoregressive_generate_encoder_decoder(prompt, build("t5"), **EVERYTHING)
    for start in (9, [9, 11]):
        other = autoregressive_generate_encoder_decoder(
            prompt, build("t5"), decoder_start_token_id=start, **EVERYTHING
        )
        adapter = EncoderDecoderModel(build("t5"), decoder_start=[start] if start == 9 else start)
        assert other == foredraft.autoregressive_generate(prompt, adapter, **EVERYTHING) != usual
        spoken, _ = speculative_generate_encoder_decoder(
            prompt, noisy("t5"), build("t5"), decoder_start_token_id=start, **EVERYTHING
        )
        assert spoken == other


def test_an_output_ends_with_its_end_token_and_never_holds_the_start() -> None:
    prompt: Any = prompt_of("mbart", 2)
    text = plain("mbart", prompt)
    eos = text[3]
    cut, _ = speculative_generate_encoder_decoder(
        prompt, build("mbart"), build("mbart"), eos_tokens_id=eos, max_gen_len=24
    )
    assert cut == text[: text.index(eos) + 1]


def test_coupled_sampling_does_not_depend_on_the_drafter() -> None:
    prompt: Any = prompt_of("whisper")
    settings = EVERYTHING | {
        "verifier": "coupled",
        "logits_processor": MultinomialProcessor(1.2),
        "seed": 5,
    }
    expected = autoregressive_generate_encoder_decoder(prompt, build("whisper"), **settings)
    text, _ = speculative_generate_encoder_decoder(
        prompt, noisy("whisper"), build("whisper"), **settings
    )
    assert text == expected


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM is not an encoder–decoder model"):
        autoregressive_generate_encoder_decoder([5, 6], build("llama"))
    with pytest.raises(ModelError, match="has its start tokens already"):
        autoregressive_generate_encoder_decoder(
            [5, 6], EncoderDecoderModel(build("t5")), decoder_start_token_id=3
        )
    with pytest.raises(RequestError, match="token 64 is outside the vocabulary 0 … 63"):
        autoregressive_generate_encoder_decoder([5, 64], build("t5"))
    with pytest.raises(RequestError, match="reads token ids"):
        autoregressive_generate_encoder_decoder(torch.zeros(8, 40), build("t5"))


def test_an_unknown_keyword_is_refused_by_the_function_that_was_called() -> None:
    for alias, others in (
        (autoregressive_generate_encoder_decoder, ()),
        (beam_search_generate_encoder_decoder, ()),
        (speculative_generate_encoder_decoder, (build("t5"),)),
        (ngram_assisted_speculative_generate_encoder_decoder, (build("t5"),)),
    ):
        call: Any = alias
        with pytest.raises(TypeError, match=rf"^{alias.__name__}\(\) got an .* 'nonsense'"):
            call([5], build("t5"), *others, nonsense=1)
