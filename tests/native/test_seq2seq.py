"""The native runtime of T5's decoder computes what transformers computes, and is chosen for it."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from typing import Any

import pytest
import torch
import transformers

from foredraft.errors import ConfigError, ModelError
from foredraft.loading import fit_drafter, fit_target
from foredraft.loading.runtime import Runtime, can_fuse, is_native
from foredraft.models import EncoderDecoderModel, Feed, Recomputing
from foredraft.native.network import BLOCK, CHUNK, prove_equal
from foredraft.native.seq2seq import CompiledSeq2Seq, CompiledT5, NativeSeq2Seq
from foredraft.native.t5 import T5
from foredraft.native.t5_weights import T5Weights, is_t5
from tests.native.test_fused import processor
from tests.native.test_graphs_on_gpu import needs_gpu
from tests.readers import prompt_of
from tests.tiny import VOCAB, Witness, assert_same_logits, build, full_logits, random_tokens, walk

__all__ = ["processor"]

SIZES: dict[str, Any] = {
    **{"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4},
    **{"num_layers": 2, "num_decoder_layers": 3, "decoder_start_token_id": 2},
}
GATED = {"feed_forward_proj": "gated-gelu"}
# name → model type, changes, whether the head has weights of its own
FAMILY: dict[str, tuple[str, dict[str, Any], bool]] = {
    "t5": ("t5", {}, False),
    "t5_own_head": ("t5", {}, True),
    "v1_1": ("t5", GATED | {"tie_word_embeddings": False}, True),
    "v1_1_tied": ("t5", GATED | {"tie_word_embeddings": False}, False),
    "gated_silu": ("t5", {"feed_forward_proj": "gated-silu"}, True),
    "gelu": ("t5", {"feed_forward_proj": "gelu"}, False),
    "mt5": ("mt5", {}, True),
    "mt5_tied": ("mt5", {}, False),
    "one_layer": ("t5", {"num_decoder_layers": 1}, False),
    "one_head": ("t5", {"num_heads": 1, "d_kv": 5}, False),
    "wide_heads": ("t5", {"d_kv": 24, "num_heads": 3}, False),
    "odd_sizes": ("t5", {"d_model": 39, "d_ff": 51, "d_kv": 7, "num_heads": 3}, True),
    "few_buckets": ("t5", {"relative_attention_num_buckets": 6}, False),
    "near_buckets": ("mt5", {"relative_attention_max_distance": 20}, True),
    "coarse_norm": ("t5", {"layer_norm_epsilon": 0.3}, False),
}
UNCOMPILED = ("gelu",)  # the exact one, which no known model has
every_member = pytest.mark.parametrize("member", FAMILY)


def by_torch(model: Any, **settings: Any) -> NativeSeq2Seq:
    return NativeSeq2Seq(model, T5(T5Weights(model, model.dtype)), **settings)


def by_c(model: Any, **settings: Any) -> CompiledSeq2Seq:
    columns = settings.get("vocab_size") or VOCAB
    return CompiledSeq2Seq(model, CompiledT5(model, columns), **settings)


needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
both_kinds = pytest.mark.parametrize("kind", [by_torch, pytest.param(by_c, marks=needs_a_compiler)])
MEMBERS = [
    pytest.param(kind, member, marks=needs_a_compiler if kind is by_c else ())
    for kind in (by_torch, by_c)
    for member in FAMILY
    if kind is by_torch or member not in UNCOMPILED
]
every_member_of_both_kinds = pytest.mark.parametrize(("kind", "member"), MEMBERS)


def network(member: str, seed: int = 0) -> Any:
    """Return a random module whose weights are wide enough for the argmax to vary."""
    kind, changes, has_head = FAMILY[member]
    config = transformers.AutoConfig.for_model(kind, **SIZES | changes)
    torch.manual_seed(seed)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=2.0 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 0.5)
        if has_head:
            model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, config.d_model) / 4)
    return model


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
@every_member_of_both_kinds
def test_logits_are_those_of_transformers_after_any_extend_and_rollback(
    kind: Any, member: str, cached: bool
) -> None:
    source, reference = random.Random(member), network(member)
    inner = kind(reference)
    model = Witness(reference, inner if cached else Recomputing(inner))
    for length in (1, 7, 40):
        text = model.open(random_tokens(source, length))
        text.extend(text.begin)
        walk(text, source, 12)


@every_member_of_both_kinds
def test_forks_equal_independent_full_passes(kind: Any, member: str) -> None:
    source, reference = random.Random(member), network(member)
    model, prompt = kind(reference), random_tokens(source, 8)
    texts = [model.open(prompt)]
    held = [list(texts[0].begin)]
    texts[0].extend(texts[0].begin)
    for width in (3, 4, 2, 3):
        parents = [source.randrange(len(held)) for _ in range(width)]
        tokens = random_tokens(source, width)
        texts = [texts[p].fork() for p in parents]
        held = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
        outputs = model.forward([Feed(c, [t]) for c, t in zip(texts, tokens, strict=True)])
        rows = [full_logits(reference, tokens, prompt)[-1] for tokens in held]
        assert_same_logits(torch.cat([o.logits for o in outputs]), torch.stack(rows))


@both_kinds
@pytest.mark.parametrize("member", ["t5", "near_buckets"])
def test_long_texts_are_fed_in_chunks_and_the_memory_grows(member: str, kind: Any) -> None:
    source, reference = random.Random(member), network(member)
    model = Witness(reference, kind(reference))
    text = model.open(random_tokens(source, 30))
    text.extend(random_tokens(source, BLOCK - 1), keep=3)
    text.extend(random_tokens(source, 3), keep=2)
    other = model.open(random_tokens(source, 300))
    other.extend(random_tokens(source, CHUNK + 5), keep=CHUNK + 3)
    text.extend(random_tokens(source, 2), keep=2)  # what all texts share has grown meanwhile
    other.rollback_to(7)
    other.extend([9])


@both_kinds
def test_a_closed_texts_memory_does_not_remember_what_was_read(kind: Any) -> None:
    reference = network("t5")
    model = Witness(reference, kind(reference))
    for seed in range(3):
        text = model.open(prompt_of("t5", seed, length=5 + 7 * seed))
        text.extend(text.begin)
        text.close()


@both_kinds
def test_weights_that_were_laid_out_are_not_held_twice(kind: Any) -> None:
    model = network("t5")
    decoder = weakref.ref(model.decoder.block[0])
    native = kind(model)
    del model
    gc.collect()
    assert decoder() is None
    text = native.open([5, 6])
    text.extend([2] * 300)  # more positions than were known of


@both_kinds
@pytest.mark.parametrize("vocab_size", [VOCAB - 10, VOCAB + 10])
def test_a_drafter_gets_the_targets_columns(vocab_size: int, kind: Any) -> None:
    ours = kind(network("v1_1"), vocab_size=vocab_size)
    theirs = EncoderDecoderModel(network("v1_1"), vocab_size=vocab_size)
    tokens = [2, 3, vocab_size - 1]
    logits = [model.open([3, 4]).extend(tokens, keep=2) for model in (ours, theirs)]
    assert_same_logits(*logits)


@both_kinds
def test_what_must_not_be_said_is_not_said(kind: Any) -> None:
    reference = network("t5")
    reference.generation_config.suppress_tokens = [12]
    reference.generation_config.begin_suppress_tokens = [13]
    model = kind(reference)
    text = model.open([5])
    never = text.extend([2, 20], 2).isneginf().nonzero().tolist()
    assert never == [[0, 12], [0, 13], [1, 12]]
    likeliest = text.draft([9], 1).tokens
    reference.generation_config.suppress_tokens = [12, *likeliest]
    again = kind(reference).open([5])
    again.extend([2, 20])
    assert again.draft([9], 1).tokens != likeliest
    assert prove_equal(model, reference) <= 1e-4


# --- precision ------------------------------------------------------------------------------------


@every_member_of_both_kinds
def test_bfloat16_is_as_near_as_its_rounding(kind: Any, member: str) -> None:
    source = random.Random(member)
    half = network(member).bfloat16()
    exact, prompt = copy.deepcopy(half).float(), random_tokens(source, 9)
    tokens = [2, *random_tokens(source, 20)]
    expected = full_logits(exact, tokens, prompt)
    text = kind(half).open(prompt)
    parts = [
        text.extend(tokens[:9], keep=9),
        text.extend(tokens[9:10]),
        text.extend(tokens[10:], 11),
    ]
    gap = (torch.cat(parts).float() - expected).abs().max()
    assert gap <= 2 * (full_logits(half, tokens, prompt).float() - expected).abs().max()


@needs_a_compiler
@pytest.mark.parametrize("member", ["t5", "v1_1", "odd_sizes"])
def test_compiled_logits_do_not_depend_to_the_bit_on_what_shares_the_pass(member: str) -> None:
    source = random.Random(member)
    model = fit_target(network(member), Runtime("native", invariant=True))
    tokens, prompts = [2, *random_tokens(source, 40)], ([5, 6, 7], random_tokens(source, 20))
    alone = model.open(prompts[0])
    expected = torch.cat([alone.extend([token]) for token in tokens])
    text, other = (model.open(prompt) for prompt in prompts)
    while text.length < len(tokens):
        begin = text.length
        part = tokens[begin : begin + source.randint(1, 9)]
        beside = Feed(other, random_tokens(source, source.randint(1, 5)))
        outputs = model.forward([beside, Feed(text, part, len(part))])
        assert torch.equal(outputs[1].logits, expected[begin : begin + len(part)])
    drafted = alone.draft([9], 5)
    text.extend([9])
    assert text.draft([drafted.tokens[0]], 4).tokens == drafted.tokens[1:]


@needs_a_compiler
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("member", ["odd_sizes", "v1_1", "gated_silu"])
def test_every_processor_computes_the_logits_of_transformers(member: str) -> None:
    source, reference = random.Random(member), network(member)
    text = Witness(reference, by_c(reference)).open(random_tokens(source, 21))
    text.extend(text.begin)
    walk(text, source, 8)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@every_member
def test_gpu_logits_are_as_near_as_their_rounding(member: str, precision: torch.dtype) -> None:
    source, rounded = random.Random(member), network(member).to(precision)
    prompt, tokens = random_tokens(source, 9), [2, *random_tokens(source, 20)]
    expected = full_logits(copy.deepcopy(rounded).double(), tokens, prompt)
    text = fit_target(rounded.cuda(), Runtime("native")).open(prompt)
    parts = [(tokens[:9], 9), (tokens[9:10], 1), (tokens[10:], 11)]
    ours = torch.cat([text.extend(part, keep) for part, keep in parts]).cpu().double()
    legal = 1e-4 if precision == torch.float32 else 0.08  # 0.061 was seen on an H200
    assert (ours - expected).abs().max() <= legal * expected.abs().max()


# --- which one runs -------------------------------------------------------------------------------


@every_member
def test_auto_picks_it_and_proves_it(member: str) -> None:
    model = fit_target(network(member), Runtime("auto", check=True))
    compiled = can_fuse() and member not in UNCOMPILED
    assert type(model) is (CompiledSeq2Seq if compiled else NativeSeq2Seq)
    assert type(fit_target(network(member), Runtime("transformers"))) is EncoderDecoderModel


@pytest.mark.parametrize("name", ["bart", "whisper", "switch"])
def test_others_stay_with_transformers_and_are_refused_by_name(name: str) -> None:
    assert type(fit_target(build(name), Runtime("auto"))) is EncoderDecoderModel
    with pytest.raises(ModelError, match=rf"not know {type(build(name)).__name__}.*--runtime auto"):
        fit_target(build(name), Runtime("native"))


def test_precisions_that_are_mixed_or_overflow_are_not_its_own() -> None:
    mixed = network("v1_1").bfloat16()
    mixed.decoder.block[0].layer[2].DenseReluDense.wo.float()
    for odd in (mixed, network("t5").half()):
        assert type(fit_target(odd, Runtime("auto"))) is EncoderDecoderModel
        with pytest.raises(ModelError, match="does not know T5ForConditionalGeneration"):
            fit_target(odd, Runtime("native"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("dense_act_fn", "tanh"),
        ("model_type", "umt5"),
        ("is_encoder_decoder", False),
        ("quantization_config", {"quant_method": "torchao"}),
    ],
)
def test_a_setting_it_does_not_compute_is_not_its_own(setting: str, value: Any) -> None:
    config = network("t5").config
    assert is_t5(config)
    config.__dict__[setting] = value
    if setting == "model_type":
        config = transformers.UMT5Config()
    assert not is_t5(config)


def test_weights_that_do_not_fit_are_refused() -> None:
    odd = network("t5")
    odd.decoder.block[1].layer[1].EncDecAttention.k.weight = torch.nn.Parameter(torch.ones(3, 32))
    with pytest.raises(ModelError, match=r"EncDecAttention\.k\.weight has shape \[3, 32\]; legal"):
        fit_target(odd, Runtime("auto"))
    odd = network("t5")
    del odd.decoder.final_layer_norm
    with pytest.raises(ModelError, match=r"has no decoder\.final_layer_norm\.weight; legal"):
        fit_target(odd, Runtime("native"))


def test_a_runtime_that_differs_is_found_before_it_is_used() -> None:
    model = by_torch(network("t5"))
    model.decoder.layers.pop()
    with pytest.raises(ModelError, match="the native runtime differs from transformers by"):
        prove_equal(model, network("t5"))


def test_what_it_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--compile needs the native runtime"):
        fit_target(network("t5"), Runtime("native", compile=True))
    with pytest.raises(ConfigError, match=r"--invariant needs the native .* not know Bart"):
        fit_target(build("bart"), Runtime("auto", invariant=True))
    monkeypatch.setattr("foredraft.loading.runtime.can_fuse", lambda: False)
    assert type(fit_target(network("t5"), Runtime("auto"))) is NativeSeq2Seq
    with pytest.raises(ConfigError, match="--invariant needs the compiled pass"):
        fit_target(network("t5"), Runtime("auto", invariant=True))


def test_either_of_a_pair_may_have_another_runtime() -> None:
    native, theirs = Runtime("native"), Runtime("transformers")
    for first, second in ((native, theirs), (theirs, native)):
        target = fit_target(network("t5"), first)
        drafter = fit_drafter(network("t5"), target, second)
        assert is_native(target) is not is_native(drafter)
        assert drafter.encoder is target.encoder  # type: ignore[attr-defined]
        texts = [model.open([5, 6, 7]) for model in (target, drafter)]
        assert_same_logits(*(text.extend(text.begin) for text in texts))
