"""A model that cannot forget is refused by what its config says, before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from foredraft.errors import RollbackUnsupported
from foredraft.loading import LoadOptions, load
from tests.tiny import SIZES, tokenizer

RECURRENT = {
    kind.model_type: kind
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING.keys()  # noqa: SIM118 - a lazy mapping
    if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[kind], "_is_stateful", False)
}


def folder_of(path: Path, fields: dict[str, Any]) -> Path:
    """Write a folder that has no weights at all."""
    (path / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_every_recurrent_architecture(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, {"model_type": name})
    with pytest.raises(RollbackUnsupported, match="keeps a recurrent state"):
        load(str(folder), "target", LoadOptions(device="cpu"))


def test_recurrent_models_are_known() -> None:
    assert {"mamba", "mamba2", "rwkv", "jamba", "recurrent_gemma"} <= RECURRENT.keys()


def test_a_published_mamba_says_infinity(tmp_path: Path) -> None:
    config = transformers.Mamba2Config().to_dict()
    folder = folder_of(tmp_path, config | {"time_step_limit": [0.0, float("inf")]})
    with pytest.raises(RollbackUnsupported, match="recurrent state"):
        load(str(folder), "target", LoadOptions(device="cpu"))


@pytest.mark.parametrize("odd", ["linear_attention", "conv"])
def test_layers_that_cannot_forget(tmp_path: Path, odd: str) -> None:
    fields = SIZES | {"model_type": "qwen3", "layer_types": ["full_attention", odd]}
    with pytest.raises(RollbackUnsupported, match=f"has {odd} layers"):
        load(str(folder_of(tmp_path, fields)), "target", LoadOptions(device="cpu"))
