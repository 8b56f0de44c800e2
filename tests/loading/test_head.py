"""Folders with heads: read, refused with a reason, and found by themselves."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.assembly import Assembly
from foredraft.config import DecodingConfig
from foredraft.errors import ConfigError, ModelError
from foredraft.loading import (
    LoadedModel,
    LoadOptions,
    drafter_for,
    find_drafter,
    fit_target,
    load,
    load_drafter,
)
from foredraft.loading import drafter as drafters
from foredraft.loading.head import (
    FINGERPRINT,
    MOST_DIFFERENT,
    fingerprint_of,
    is_head,
    laid_out,
    load_head,
    read_head_folder,
)
from foredraft.loading.runtime import can_fuse
from foredraft.method import Method
from foredraft.models import DecoderOnlyModel, HeadModel, Network
from foredraft.models.head import TorchHead
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from tests.heads import module_for, told, write_head
from tests.tiny import TEXT_VOCAB, VOCAB, build, random_tokens, tokenizer

TOKENS = random_tokens(random.Random(3), 20)


def loaded(target: Network | None = None) -> LoadedModel:
    network = target or NativeModel(build("llama", vocab_size=TEXT_VOCAB))
    return LoadedModel("tiny", network, tokenizer(), (1,))


def head_in(folder: Path, target: Network, **given: Any) -> HeadModel:
    write_head(folder, module_for(target), **given)
    return load_head(read_head_folder(folder), target, "tiny")


def rows_of(head: HeadModel, target: Network) -> torch.Tensor:
    read, _ = told(target, head, TOKENS)
    return torch.as_tensor(read.extend(TOKENS[1:], 3))


@pytest.mark.parametrize("runtime", [NativeModel, *([FusedModel] if can_fuse() else [])])
def test_a_head_is_the_same_from_its_folder(runtime: type[Network], tmp_path: Path) -> None:
    """With an output layer of its own, or the target's rows; whatever order its tokens lie in."""
    target = runtime(build("llama"))  # type: ignore[call-arg]
    expected = rows_of(laid_out(module_for(target), target), target)
    whole = head_in(tmp_path / "whole", target)
    without = head_in(tmp_path / "without", target, lm_head__weight=None)
    module = module_for(target)
    order = torch.randperm(len(module.tokens), generator=torch.Generator().manual_seed(1))
    shuffled = head_in(
        tmp_path / "shuffled",
        target,
        d2t=module.tokens[order] - torch.arange(len(order)),
        lm_head__weight=module.output[order],
    )
    for head in (whole, without, shuffled):
        assert torch.equal(rows_of(head, target), expected)


@pytest.mark.parametrize("runtime", [NativeModel, *([FusedModel] if can_fuse() else [])])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_layers_with_biases_are_read(runtime: type[Network], kind: str, tmp_path: Path) -> None:
    target = runtime(build("llama"))  # type: ignore[call-arg]
    module = module_for(target, kind, attention_bias=True)
    assert module.layer.self_attn.o_proj.bias is not None
    write_head(tmp_path, module)
    head = load_head(read_head_folder(tmp_path), target, "tiny")
    expected = rows_of(laid_out(module, target), target)
    assert torch.equal(rows_of(head, target), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_angles_stay_in_float32_beside_a_target_in_16_bits(dtype: torch.dtype) -> None:
    target = DecoderOnlyModel(copy.deepcopy(build("llama")).to(dtype))
    head = laid_out(module_for(target), target)
    assert isinstance(head, TorchHead)
    assert head.dtype == dtype
    assert head.module.rotary_emb.inv_freq.dtype == torch.float32


def test_a_head_may_have_an_embedding_of_its_own(tmp_path: Path) -> None:
    target = NativeModel(build("llama"))
    words = target.embedding()
    same = head_in(tmp_path / "same", target, embed_tokens__weight=words.clone())
    other = head_in(tmp_path / "other", target, embed_tokens__weight=words.flip(0).contiguous())
    expected = rows_of(laid_out(module_for(target), target), target)
    assert torch.equal(rows_of(same, target), expected)
    assert not torch.equal(rows_of(other, target), expected)
    if can_fuse():
        compiled = FusedModel(build("llama"))
        ours = load_head(read_head_folder(tmp_path / "other"), compiled, "tiny")
        finite = expected.isfinite()
        gap = rows_of(ours, compiled)[finite] - rows_of(other, target)[finite]
        assert float(gap.abs().max()) < 1e-3


def test_layers_that_nobody_chose_are_those_of_the_library(tmp_path: Path) -> None:
    target = NativeModel(build("llama", num_hidden_layers=6))
    module = module_for(target, layers=(2, 3, 3))
    write_head(tmp_path, module, fields={"eagle_aux_hidden_state_layer_ids": None})
    assert load_head(read_head_folder(tmp_path), target, "tiny").layers == (2, 3, 3)


ODD_FIELDS: dict[str, Any] = {
    "speculators_model_type": "medusa",
    "transformer_layer_config": {"model_type": "gpt2"},
    "norm_before_fc": True,
    "fc_norm": True,
    "norm_output": True,
    "draft_vocab_size": 0,
    "target_hidden_size": "many",
    "eagle_aux_hidden_state_layer_ids": [0, 3],
    "norm_before_residual": "x",
}
ODD_LAYERS: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_act": "gelu",
    "hidden_size": -1,
    "head_dim": 7,
    "num_attention_heads": 3,
    "intermediate_size": 1 << 24,
    "layer_types": ["sliding_attention"],
    "num_key_value_heads": 0,
    "max_position_embeddings": -5,
    "rms_norm_eps": float("nan"),
    "rope_parameters": {"rope_type": "nope", "rope_theta": 1e4},
}


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "nope"])
def test_rotary_embeddings_that_are_not_computed_are_refused(kind: str, tmp_path: Path) -> None:
    target = NativeModel(build("llama"))
    module = module_for(target)
    rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0, "short_factor": [1.0] * 6}
    layer = module.config.layer.to_dict() | {"rope_parameters": rope | {"long_factor": [1.0] * 6}}
    write_head(tmp_path, module, fields={"transformer_layer_config": layer})
    with pytest.raises(ModelError, match=r"config\.json"):
        read_head_folder(tmp_path)


@pytest.mark.parametrize("without", ["lm_head", "both"])
@pytest.mark.parametrize("runtime", [NativeModel, *([FusedModel] if can_fuse() else [])])
def test_a_head_of_another_width_needs_ends_of_its_own(
    runtime: type[Network], without: str, tmp_path: Path
) -> None:
    target = runtime(build("llama"))  # type: ignore[call-arg]
    narrow = module_for(target, hidden_size=16)
    embedding = None if without == "both" else torch.zeros(VOCAB, 16)
    write_head(tmp_path, narrow, lm_head__weight=None, embed_tokens__weight=embedding)
    with pytest.raises(ModelError, match="hidden_size is 16; legal: 32"):
        load_head(read_head_folder(tmp_path), target, "tiny")


@pytest.mark.parametrize("name", [*ODD_FIELDS, *ODD_LAYERS])
def test_an_odd_field_is_refused_by_name(name: str, tmp_path: Path) -> None:
    target = NativeModel(build("llama"))
    module = module_for(target)
    if name in ODD_FIELDS:
        fields = {name: ODD_FIELDS[name]}
    else:
        layer = module.config.layer.to_dict() | {name: ODD_LAYERS[name]}
        fields = {"transformer_layer_config": layer}
    write_head(tmp_path, module, fields=fields)
    with pytest.raises(ModelError) as raised:
        load_head(read_head_folder(tmp_path), target, "tiny")
    assert "config.json" in str(raised.value)


ODD_TENSORS: dict[str, Any] = {
    "d2t": torch.zeros(24, dtype=torch.int64) + VOCAB,
    "lm_head__weight": torch.zeros(3, 32),
    "fc__weight": torch.zeros(32, 33),
    "norm__weight": None,
    "layers__0__mlp__up_proj__weight": torch.full((40, 32), float("nan")),
    "embed_tokens__weight": torch.zeros(VOCAB, 31),
    "norm__weight ": torch.full((32,), 1, dtype=torch.int32),
}
ODD_TENSORS["embed_tokens__weight "] = torch.full((VOCAB, 32), float("nan"))


@pytest.mark.parametrize("name", ODD_TENSORS)
def test_an_odd_tensor_is_refused_and_its_file_named(name: str, tmp_path: Path) -> None:
    target = NativeModel(build("llama"))
    write_head(tmp_path, module_for(target), **{name.strip(): ODD_TENSORS[name]})
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_head(read_head_folder(tmp_path), target, "tiny")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    target = NativeModel(build("llama"))
    write_head(tmp_path, module_for(target))
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_head(read_head_folder(tmp_path), target, "tiny")


def test_a_head_of_another_target_is_refused(tmp_path: Path) -> None:
    target = NativeModel(build("llama"))
    write_head(tmp_path, module_for(target), fields={FINGERPRINT: fingerprint_of(target)})
    head = read_head_folder(tmp_path)
    assert load_head(head, target, "tiny")
    with pytest.raises(ModelError, match="another target than 'stranger'"):
        load_head(head, NativeModel(build("llama", seed=1)), "stranger")
    with pytest.raises(ModelError, match="32 numbers"):
        load_head(head, NativeModel(build("llama", hidden_size=48)), "wide")


def test_a_fingerprint_outlives_rounding_and_tells_models_apart() -> None:
    """Rounded to 4 bits a target is still known; of 40 others none is taken for it."""
    network = build("llama", hidden_size=64, vocab_size=512)
    target = NativeModel(network)
    ours = int(fingerprint_of(target), 16)
    rows = target.output_rows(torch.arange(512))
    step = (rows.amax(1, keepdim=True) - rows.amin(1, keepdim=True)) / 15
    rounded = (rows / step).round() * step

    class Rounded(NativeModel):
        def output_rows(self, tokens: torch.Tensor) -> torch.Tensor:
            return rounded[tokens]

    bits = (ours ^ int(fingerprint_of(Rounded(network)), 16)).bit_count()
    assert 0 < bits <= MOST_DIFFERENT
    for seed in range(1, 41):
        other = NativeModel(build("llama", seed=seed, hidden_size=64, vocab_size=512))
        assert (ours ^ int(fingerprint_of(other), 16)).bit_count() > 2 * MOST_DIFFERENT


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """A target, and its head among those that come with the package."""
    target = loaded()
    fields = {FINGERPRINT: fingerprint_of(target.model)}
    write_head(tmp_path / "tiny", module_for(target.model), fields=fields)
    monkeypatch.setattr(drafters, "HEADS_DIR", tmp_path)
    return target


def test_the_head_of_a_target_is_found(bundled: LoadedModel) -> None:
    for found in (
        find_drafter(bundled, LoadOptions()),
        drafter_for("auto", bundled, LoadOptions()),
        load_drafter("auto", bundled, LoadOptions()),
        load_drafter("tiny-head", bundled, LoadOptions()),
    ):
        assert found is not None
        assert (found.name, found.tokenizer) == ("tiny-head", bundled.tokenizer)
        assert isinstance(found.model, HeadModel)


def test_no_head_is_found_for_another_target(bundled: LoadedModel) -> None:
    stranger = loaded(NativeModel(build("llama", seed=1, vocab_size=TEXT_VOCAB)))
    assert find_drafter(stranger, LoadOptions()) is None
    assert drafter_for("none", stranger, LoadOptions()) is None
    with pytest.raises(ModelError, match="no draft model of this package fits 'tiny'"):
        load_drafter("auto", stranger, LoadOptions())


def test_a_head_decodes_nothing_alone_and_is_no_target(
    bundled: LoadedModel, tmp_path: Path
) -> None:
    assembly = Assembly(bundled, find_drafter(bundled, LoadOptions()))
    assert is_head(tmp_path / "tiny")
    for cache in (True, False):
        config = DecodingConfig(drafter=True, cache=cache)
        assert assembly.parts(Method.of(config, "speculative")).drafter
        with pytest.raises(ConfigError, match="a head reads its target"):
            assembly.parts(Method.of(config, "drafter"))
    with pytest.raises(ModelError, match="is a head, which drafts for its target"):
        load(str(tmp_path / "tiny"), "target", LoadOptions())


def test_a_target_that_tells_nothing_is_refused_by_name(tmp_path: Path) -> None:
    write_head(tmp_path, module_for(NativeModel(build("llama"))))
    with pytest.raises(ModelError, match="tells nothing of them; choose a decoder-only target"):
        load_head(read_head_folder(tmp_path), fit_target(build("t5")), "other")
