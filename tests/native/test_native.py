"""The native runtime computes what transformers computes, and chooses itself where it can.

Both of its kinds: torch's operations one by one, and one C function a pass.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from foredraft.errors import ConfigError, ModelError
from foredraft.loading.runtime import Runtime, can_fuse
from foredraft.models import DecoderOnlyModel, Feed, Recomputing
from foredraft.native.fused import FusedModel
from foredraft.native.network import BLOCK, CHUNK, KEYS, ROWS, NativeModel, prove_equal
from foredraft.native.weights import is_in_family, is_plain
from tests.texts import first_pass
from tests.tiny import (
    ARCHITECTURES,
    MAX_LENGTH,
    NATIVE,
    VOCAB,
    Witness,
    assert_same_logits,
    build,
    full_logits,
    random_tokens,
    walk,
)

FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama_biased": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama_tied": ("llama", {"tie_word_embeddings": True}),
    "llama_ungrouped": ("llama", {"num_key_value_heads": 4}),
    "llama_one_key": ("llama", {"num_key_value_heads": 1}),
    "llama_wide_heads": ("llama", {"head_dim": 16}),
    "mistral": ("mistral", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}
ROPES: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 10.0, "original_max_position_embeddings": 64},
}
every_member = pytest.mark.parametrize("member", FAMILY)
both_kinds = pytest.mark.parametrize(
    "kind",
    [
        NativeModel,
        pytest.param(
            FusedModel, marks=pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
        ),
    ],
)


def network(member: str) -> Any:
    name, changes = FAMILY[member]
    return build(name, **changes)


@pytest.mark.parametrize("settings", [{}, {"invariant": True}], ids=["free", "invariant"])
@both_kinds
@every_member
def test_logits_are_those_of_transformers_after_any_extend_and_rollback(
    member: str, kind: Any, settings: dict[str, Any]
) -> None:
    if kind is FusedModel and settings:
        pytest.skip("always invariant")
    source = random.Random(member)
    model = Witness(network(member), kind(network(member), **settings))
    for prompt_length in (1, 7, 40):
        text = model.open(random_tokens(source, prompt_length))
        text.extend(text.begin, keep=prompt_length)
        walk(text, source, 12)


@both_kinds
@pytest.mark.parametrize("rope", ROPES)
def test_stretched_rotations_are_those_of_transformers(rope: str, kind: Any) -> None:
    parameters = ROPES[rope] | {"rope_theta": 10_000.0}
    model = build_with_rope(parameters)
    tokens = random_tokens(random.Random(rope), 100)
    assert_same_logits(first_pass(kind(model), tokens, keep=100), full_logits(model, tokens))


def build_with_rope(parameters: dict[str, Any]) -> Any:
    import transformers

    from tests.tiny import SIZES

    config = transformers.LlamaConfig(**SIZES, rope_parameters=parameters)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@both_kinds
@pytest.mark.parametrize("member", ["llama", "llama_ungrouped"])
def test_prompts_are_fed_in_chunks_and_the_memory_grows(member: str, kind: Any) -> None:
    assert MAX_LENGTH > CHUNK > BLOCK
    source = random.Random(member)
    model = Witness(network(member), kind(network(member)))
    first, second = (model.open(random_tokens(source, n)) for n in (BLOCK - 2, CHUNK + 9))
    first.extend(first.begin, keep=3)
    first.extend(random_tokens(source, 5), keep=5)
    second.extend(second.begin, keep=CHUNK + 3)
    second.extend(random_tokens(source, MAX_LENGTH - CHUNK - 9))
    first.extend(random_tokens(source, 2), keep=2)  # what all texts share has grown meanwhile


@both_kinds
@every_member
def test_forks_equal_independent_full_passes(member: str, kind: Any) -> None:
    source, reference = random.Random(member), network(member)
    model = kind(reference)
    prompt = random_tokens(source, 8)
    texts, held = [model.open(prompt)], [prompt]
    texts[0].extend(prompt)
    for width in (3, 4, 2, 3, 1, 2):
        parents = [source.randrange(len(held)) for _ in range(width)]
        tokens = random_tokens(source, width)
        texts = [texts[p].fork() for p in parents]
        held = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
        outputs = model.forward([Feed(c, [t]) for c, t in zip(texts, tokens, strict=True)])
        rows = [full_logits(reference, tokens)[-1] for tokens in held]
        assert_same_logits(torch.cat([o.logits for o in outputs]), torch.stack(rows))
    after = Witness(reference, model).open(random_tokens(source, 5))
    after.extend(after.begin, keep=2)


@both_kinds
def test_without_a_cache_it_says_the_same(kind: Any) -> None:
    text = Witness(build("qwen3"), Recomputing(kind(build("qwen3")))).open([5, 6, 7])
    text.extend(text.begin)
    text.extend([8, 9], keep=2)


@both_kinds
@pytest.mark.parametrize("vocab_size", [VOCAB - 10, VOCAB + 10])
def test_a_drafter_gets_the_targets_columns(vocab_size: int, kind: Any) -> None:
    ours = kind(build("llama"), vocab_size=vocab_size)
    theirs = DecoderOnlyModel(build("llama"), vocab_size=vocab_size)
    tokens = [3, vocab_size - 1]
    assert_same_logits(*(model.open([3, 4]).extend(tokens) for model in (ours, theirs)))


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n not in NATIVE])
def test_auto_picks_it_where_it_is_exact_and_nowhere_else(name: str) -> None:
    model = Runtime("auto", check=True).adapt(build(name))
    plain = name in ("llama", "qwen2", "qwen3", "mistral")
    known = plain or name in ("mistral_sliding", "gemma3", "phi3")
    assert is_in_family(build(name).config) is known
    assert is_plain(build(name).config) is plain
    native = FusedModel if can_fuse() else NativeModel if plain else DecoderOnlyModel
    assert type(model) is (native if known else DecoderOnlyModel)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden_act", "gelu"),
        ("layer_types", ["chunked_attention", "full_attention"]),
        ("rope_parameters", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}),
    ],
)
def test_a_setting_it_does_not_compute_is_not_its_own(setting: str, value: Any) -> None:
    config = build("mistral").config.__class__(**build("mistral").config.to_dict())
    assert is_in_family(config)
    setattr(config, setting, value)
    assert not is_in_family(config)


def test_what_it_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"does not know GPT2LMHeadModel.*--runtime auto"):
        Runtime("native").adapt(build("gpt2"))
    with pytest.raises(ConfigError, match="which does not know GPT2LMHeadModel"):
        Runtime("auto", invariant=True).adapt(build("gpt2"))
    with pytest.raises(ConfigError, match="--invariant needs the native runtime"):
        Runtime("transformers", invariant=True)
    with pytest.raises(ConfigError, match="unknown runtime 'fast'; legal: auto, native"):
        Runtime("fast")


def test_a_runtime_that_differs_is_found_before_it_is_used() -> None:
    model = NativeModel(build("llama"))
    assert prove_equal(model, build("llama")) <= 1e-4
    model.llama.layers.pop()
    with pytest.raises(ModelError, match="the native runtime differs from transformers by"):
        prove_equal(model, build("llama"))


# --- bfloat16 and invariance ----------------------------------------------------------------


def half(name: str) -> Any:
    import copy

    return copy.deepcopy(build(name)).bfloat16()


def test_bfloat16_is_as_near_as_its_rounding() -> None:
    tokens = random_tokens(random.Random(0), 30)
    model = NativeModel(half("llama"))
    exact = full_logits(half("llama").float(), tokens)
    gap = (first_pass(model, tokens, keep=30).float() - exact).abs().max()
    theirs = (full_logits(half("llama"), tokens).float() - exact).abs().max()
    assert gap <= 2 * theirs


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("member", ["llama", "llama_ungrouped", "qwen3"])
def test_invariant_logits_do_not_depend_on_the_size_of_the_pass(
    member: str, precision: str
) -> None:
    model = network(member) if precision == "float32" else half(FAMILY[member][0])
    source = random.Random(member)
    tokens = random_tokens(source, KEYS + 60)
    text = NativeModel(model, invariant=True).open(tokens)
    prompt = 9
    text.extend(tokens[:prompt])
    plain = [text.extend([t])[0] for t in tokens[prompt:]]
    text.rollback_to(prompt)
    while text.length < len(tokens):
        begin = text.length
        count = min(source.randint(1, ROWS + 3), len(tokens) - begin)
        rows = text.extend(tokens[begin : begin + count], keep=count)
        for i, row in enumerate(rows):
            assert torch.equal(row, plain[begin - prompt + i])
        text.rollback_to(begin + source.randint(1, count))


def test_invariance_does_not_depend_on_what_is_fed_with_the_prompt() -> None:
    native = NativeModel(half("llama"), invariant=True)
    prompt = [5, 6, 7, 8]
    alone = first_pass(native, prompt)
    with_draft = native.open(prompt).extend([*prompt, 9, 10], keep=3)
    assert torch.equal(alone[0], with_draft[0])


def test_attention_may_leave_what_it_read_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's kernels leave heads innermost, and read a mask from aligned addresses alone."""
    plain = torch.nn.functional.scaled_dot_product_attention

    def turned(*arguments: Any, attn_mask: torch.Tensor | None, **settings: Any) -> Any:
        assert attn_mask is None or (attn_mask.is_contiguous() and not attn_mask.storage_offset())
        read = plain(*arguments, attn_mask=attn_mask, **settings)
        return read.transpose(1, 2).contiguous().transpose(1, 2)

    for member in FAMILY:
        tokens = random_tokens(random.Random(member), 20)
        expected = walked(member, tokens)
        with monkeypatch.context() as patched:
            patched.setattr(torch.nn.functional, "scaled_dot_product_attention", turned)
            assert_same_logits(walked(member, tokens), expected)


def walked(member: str, tokens: list[int]) -> torch.Tensor:
    """Return the logits of a text that is read in a few passes."""
    text = NativeModel(network(member)).open(tokens)
    parts = [text.extend(tokens[:9], keep=9), text.extend(tokens[9:10], keep=1)]
    return torch.cat([*parts, text.extend(tokens[10:], keep=10)])
