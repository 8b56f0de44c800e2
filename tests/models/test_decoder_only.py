"""The Hugging Face adapter: padded vocabularies, context, and memories that cannot forget."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from foredraft.errors import ContextOverflow, ModelError, RollbackUnsupported
from foredraft.models import DecoderOnlyModel, Feed, Network, Recomputing, prune_cache
from foredraft.models.cache import cache_argument
from tests.texts import first_pass
from tests.tiny import MAX_LENGTH, SIZES, VOCAB, WINDOW, assert_same_logits, build, full_logits

PROMPT = [5, 6, 7, 8]


def test_a_drafter_with_fewer_ids_never_drafts_the_missing_ones() -> None:
    small = build("llama", 1, vocab_size=VOCAB - 8)
    model = DecoderOnlyModel(small, vocab_size=VOCAB)
    logits = first_pass(model, PROMPT, keep=3)
    assert logits.shape == (3, VOCAB)
    assert model.vocab_size == VOCAB
    assert torch.isneginf(logits[:, VOCAB - 8 :]).all()
    assert_same_logits(logits[:, : VOCAB - 8], full_logits(small, PROMPT)[-3:])


def test_a_drafter_with_more_ids_loses_the_surplus_ones() -> None:
    large = build("llama", 1, vocab_size=VOCAB + 8)
    logits = first_pass(DecoderOnlyModel(large, vocab_size=VOCAB), PROMPT, keep=2)
    assert logits.shape == (2, VOCAB)
    assert_same_logits(logits, full_logits(large, PROMPT)[-2:, :VOCAB])


@pytest.mark.parametrize("drafter_vocab", [VOCAB - 8, VOCAB + 8])
def test_texts_that_share_a_pass_get_the_wanted_vocabulary_too(drafter_vocab: int) -> None:
    model = DecoderOnlyModel(build("llama", 1, vocab_size=drafter_vocab), vocab_size=VOCAB)
    text = model.open(PROMPT)
    text.extend(PROMPT)
    outputs = model.forward([Feed(text, [1]), Feed(text.fork(), [2])])
    assert [output.logits.shape for output in outputs] == [(1, VOCAB)] * 2


def test_the_models_own_vocabulary_and_positions_are_the_default() -> None:
    model = DecoderOnlyModel(build("llama"))
    assert (model.vocab_size, model.max_length) == (VOCAB, MAX_LENGTH)
    assert model.open(PROMPT).length == 0


def test_a_prompt_that_fills_the_context_is_refused_with_the_numbers() -> None:
    model = DecoderOnlyModel(build("llama", max_position_embeddings=10))
    with pytest.raises(ContextOverflow, match=r"10 tokens .* 10 positions.* to 9 tokens"):
        model.open([3] * 10)
    assert model.open([3] * 9).begin == [3] * 9


def test_a_refused_prompt_leaves_the_memory_as_it_was() -> None:
    model = DecoderOnlyModel(build("llama", max_position_embeddings=10))
    text = model.open(PROMPT)
    text.extend(PROMPT)
    with pytest.raises(ContextOverflow):
        model.open([3] * 11)
    assert text.length == len(PROMPT)


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
def test_the_last_position_can_be_used(cached: bool) -> None:
    reference = build("gpt2", n_positions=10)
    adapter: Network = DecoderOnlyModel(reference)
    text = (adapter if cached else Recomputing(adapter)).open([3] * 9)
    text.extend(text.begin)
    assert_same_logits(text.extend([4]), full_logits(reference, [3] * 9 + [4])[-1:])


def test_a_model_in_training_mode_is_put_into_evaluation_mode() -> None:
    model = build("gpt2", 2)
    model.train()  # its dropout would make every pass different
    adapter = DecoderOnlyModel(model)
    assert torch.equal(first_pass(adapter, PROMPT), first_pass(adapter, PROMPT))


def test_logits_carry_no_graph() -> None:
    assert not first_pass(DecoderOnlyModel(build("llama")), PROMPT).requires_grad


RECURRENT: dict[str, dict[str, Any]] = {
    "MambaConfig": {"state_size": 8},
    "RecurrentGemmaConfig": {"lru_width": 32, "attention_window_size": 8},
    "Lfm2Config": {"layer_types": ["conv", "full_attention"]},
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_model_with_a_state_that_cannot_forget_is_refused_by_name(kind: str) -> None:
    config = getattr(transformers, kind)(**SIZES | RECURRENT[kind])
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(RollbackUnsupported, match=f"^{type(model).__name__} ") as caught:
        DecoderOnlyModel(model)
    assert "cannot forget" in str(caught.value)


def test_a_model_that_looks_ahead_is_refused() -> None:
    # With a cache its past would have to change with every new token.
    model = transformers.AutoModelForCausalLM.from_config(transformers.BertConfig(**SIZES))
    with pytest.raises(ModelError, match=f"^{type(model).__name__} "):
        DecoderOnlyModel(model)


def filled_cache(model: Any, tokens: list[int], cache: Any = None) -> Any:
    cache = DynamicCache() if cache is None else cache
    with torch.inference_mode():
        model(torch.tensor([tokens]), **{cache_argument(model): cache}, use_cache=True)
    return cache


def next_logits(model: Any, cache: Any, token: int) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(
            torch.tensor([[token]]), **{cache_argument(model): cache}
        ).logits[0]
    return logits


def test_pruning_nothing_changes_nothing() -> None:
    model = build("llama")
    cache = filled_cache(model, PROMPT)
    assert prune_cache(cache, 0) is cache
    assert cache.get_seq_length() == len(PROMPT)
    assert_same_logits(next_logits(model, cache, 9), full_logits(model, [*PROMPT, 9])[-1:])


@pytest.mark.parametrize("discarded", [1, 3])
def test_a_pruned_cache_continues_as_if_the_tokens_had_never_been(discarded: int) -> None:
    model = build("llama")
    cache = prune_cache(filled_cache(model, PROMPT), discarded)
    kept = PROMPT[:-discarded]
    assert cache.get_seq_length() == len(kept)
    assert_same_logits(next_logits(model, cache, 9), full_logits(model, [*kept, 9])[-1:])


def test_pruning_everything_empties_the_cache() -> None:
    cache = prune_cache(filled_cache(build("llama"), PROMPT), len(PROMPT))
    assert cache.get_seq_length() == 0


@pytest.mark.parametrize("discarded", [-1, 5])
def test_pruning_more_than_is_held_or_less_than_nothing_is_refused(discarded: int) -> None:
    cache = filled_cache(build("llama"), PROMPT)
    with pytest.raises(RollbackUnsupported, match=rf"{discarded} tokens .* 0 … 4"):
        prune_cache(cache, discarded)
    assert cache.get_seq_length() == len(PROMPT)


def test_pruning_keeps_the_encoders_part() -> None:
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    states = torch.zeros(1, 2, 5, 8)  # [batch, heads, time, head_dim]
    cache.self_attention_cache.update(states, states, 0)
    cache.cross_attention_cache.update(states, states, 0)
    assert prune_cache(cache, 2) is cache
    assert cache.self_attention_cache.get_seq_length() == 3
    assert cache.cross_attention_cache.get_seq_length() == 5


@pytest.mark.parametrize("name", ["mistral_sliding", "gemma3"])
def test_a_sliding_window_that_has_dropped_tokens_cannot_be_pruned(name: str) -> None:
    model = build(name)
    young = filled_cache(model, PROMPT, DynamicCache(config=model.config))
    assert prune_cache(young, 1).get_seq_length() == len(PROMPT) - 1
    old = filled_cache(model, [5] * (WINDOW + 4), DynamicCache(config=model.config))
    with pytest.raises(RollbackUnsupported, match="cannot forget"):
        prune_cache(old, 1)


def test_a_static_cache_is_pruned_rightly_or_not_at_all() -> None:
    model = build("llama")
    cache = filled_cache(model, PROMPT, StaticCache(config=model.config, max_cache_len=16))
    try:
        prune_cache(cache, 1)
    except RollbackUnsupported:  # before transformers 5.24
        return
    kept = PROMPT[:-1]
    assert_same_logits(next_logits(model, cache, 9), full_logits(model, [*kept, 9])[-1:])


def test_a_static_window_that_has_dropped_tokens_cannot_be_pruned() -> None:
    model = build("mistral_sliding")
    cache = StaticCache(config=model.config, max_cache_len=64)
    filled_cache(model, [5] * (WINDOW + 4), cache)
    with pytest.raises(RollbackUnsupported, match="cannot forget"):
        prune_cache(cache, 1)


@pytest.mark.parametrize("factors", ["longrope", "default"])
def test_a_text_never_crosses_the_length_at_which_its_rotation_changes(factors: str) -> None:
    rope: dict[str, Any] = {"rope_type": factors, "rope_theta": 10_000.0}
    if factors == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
        rope |= {"original_max_position_embeddings": 32}
    network = build_with_rope(rope)
    model = DecoderOnlyModel(network)
    assert model.max_length == (32 if factors == "longrope" else 128)
    tokens = [5] * (model.max_length - 1)
    text = model.open(tokens)
    assert text.begin == tokens
    text.extend(tokens[:-1])
    assert_same_logits(text.extend(tokens[-1:]), full_logits(network, tokens)[-1:])


def build_with_rope(rope: dict[str, Any]) -> Any:
    config = transformers.Phi3Config(
        **SIZES | {"max_position_embeddings": 128, "original_max_position_embeddings": 32},
        rope_parameters=rope,
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
