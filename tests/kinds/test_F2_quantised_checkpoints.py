"""A default never overrides what a checkpoint says: quantised weights are honoured or refused."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.loading import LoadedModel
from foredraft.loading.quantized import PACKAGES
from tests.folders import edit, edit_weights, outcome, refusal, write_folder
from tests.texts import first_pass

METHODS = (
    *("fp8", "mxfp4", "nvfp4", "fbgemm_fp8", "bitnet", "eetq", "vptq", "spqr", "higgs", "quark"),
    *("never_heard_of", *PACKAGES),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def in_blocks(weights: dict[str, Any]) -> None:
    """Round every matrix of the layers to FP8 with a scale for each block, as DeepSeek's are."""
    for name in [n for n in weights if n.endswith("proj.weight")]:
        scale = weights[name].abs().max() / 448
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = scale[None, None].float()


@pytest.mark.parametrize("stated", [True, False])
def test_block_wise_fp8_is_refused_by_its_name(folder: Path, stated: bool) -> None:
    edit_weights(folder, in_blocks)
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}
    if stated:
        edit(folder / "config.json", lambda found: found.update(quantization_config=settings))
        refusal(folder, "config.json", "quantization_config", "'fp8'", "unquantised")
    else:
        refusal(
            folder, "model.safetensors", "weight_scale_inv", "no quantization_config", "unquantised"
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
def test_a_method_that_cannot_be_honoured_here_is_named(
    folder: Path, field: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    settings = {"quant_method": method, "bits": 4, "group_size": 128}
    edit(folder / "config.json", lambda found: found.update({field: settings}))
    said = refusal(folder, "config.json", repr(method), "--quantize int8")
    assert all(package in said for package in PACKAGES.get(method, ())[:1])


@pytest.mark.parametrize("settings", [{}, {"bits": 4}, {"quant_method": None}, {"quant_method": 3}])
def test_a_method_that_is_not_said_is_refused(folder: Path, settings: dict[str, Any]) -> None:
    edit(folder / "config.json", lambda found: found.update(quantization_config=settings))
    refusal(folder, "config.json", "quant_method")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.layers.0.mlp.up_proj.weight_scale", torch.ones(64)),
        ("model.layers.0.mlp.up_proj.qweight", torch.ones(4, 64, dtype=torch.int32)),
        ("model.layers.0.mlp.up_proj.g_idx", torch.ones(32, dtype=torch.int32)),
        ("model.layers.0.mlp.up_proj.SCB", torch.ones(64)),
        ("model.layers.0.mlp.up_proj.weight.absmax", torch.ones(64)),
        ("model.layers.0.mlp.up_proj.weight", torch.ones(64, 32, dtype=torch.int8)),
        ("model.layers.0.mlp.up_proj.weight", torch.ones(64, 32, dtype=torch.float8_e5m2)),
        ("model.layers.0.mlp.up_proj.weight", torch.ones(64, 16, dtype=torch.uint8)),
    ],
)
def test_quantised_tensors_that_the_config_hides_are_refused(
    folder: Path, name: str, tensor: torch.Tensor
) -> None:
    edit_weights(folder, lambda weights: weights.update({name: tensor}))
    refusal(folder, "model.safetensors", name, "quantised")


@pytest.mark.parametrize("file", ["quantize_config.json", "quant_config.json"])
def test_the_files_of_older_tools_are_heard(folder: Path, file: str) -> None:
    (folder / file).write_text('{"bits": 4}')
    refusal(folder, file, "quantised")


def test_buffers_of_whole_numbers_are_no_quantised_weights(folder: Path) -> None:
    extra = {"model.position_ids": torch.arange(5), "model.mask": torch.ones(2, dtype=torch.bool)}
    edit_weights(folder, lambda weights: weights.update(extra))
    assert isinstance(outcome(folder), LoadedModel)


def test_a_head_of_its_own_is_not_tied_away(folder: Path) -> None:
    edit(folder / "config.json", lambda found: found.update(tie_word_embeddings=True))
    tied = outcome(folder)
    edit(folder / "config.json", lambda found: found.update(tie_word_embeddings=False))
    free = outcome(folder)
    assert isinstance(tied, LoadedModel)
    assert isinstance(free, LoadedModel)
    logits = [first_pass(one.model, [5, 6], 2) for one in (tied, free)]
    assert torch.equal(*logits)
