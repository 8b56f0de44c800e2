"""Positions: of the table where there is one, of the scaling where it counts, and never below 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from foredraft.errors import ContextOverflow, ModelError
from foredraft.loading import LoadedModel, fit_target
from foredraft.models.positions import NO_LIMIT, positions_of
from tests.architectures import tiny
from tests.folders import edit, outcome, write_folder
from tests.texts import first_pass

SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 64}
SMALL |= {"intermediate_size": 64, "max_position_embeddings": 64}


def llama(**rope: Any) -> Any:
    return transformers.LlamaConfig(**SMALL, rope_parameters={"rope_theta": 1e4, **rope})


LONG = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default"}, 64),
        ({"rope_type": "yarn", "factor": 4.0}, 256),
        ({"rope_type": "yarn", "factor": 4}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
        ({"rope_type": "linear", "factor": 2.0}, 128),
        ({"rope_type": "linear", "factor": 1.0}, 64),
        (
            {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8, **BANDS},
            64,
        ),
        ({"rope_type": "longrope", "original_max_position_embeddings": 32, **LONG}, 32),
        ({"rope_type": "dynamic", "factor": 4.0}, 64),  # what is cached would be wrong beyond
    ],
)
def test_scaling_counts(rope: dict[str, Any], expected: int) -> None:
    assert positions_of(llama(**rope)) == expected


def test_a_prompt_beyond_the_unscaled_positions_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, max_position_embeddings=64)
    edit(
        folder / "config.json",
        lambda found: found.update(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
    )
    loaded = outcome(folder)
    assert isinstance(loaded, LoadedModel)
    assert loaded.model.max_length == 256
    assert first_pass(loaded.model, [5] * 122).isfinite().all()
    with pytest.raises(ContextOverflow):
        loaded.model.open([5] * 256)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("MptConfig", {"max_seq_len": 40}, 40),
        ("GPT2Config", {"n_positions": 40}, 40),
        ("OPTConfig", {"max_position_embeddings": 40}, 40),
        ("BartConfig", {"max_position_embeddings": 40}, 40),
        ("BioGptConfig", {"max_position_embeddings": 40}, 40),
        ("GPTJConfig", {"n_positions": 40}, 40),
        ("CodeGenConfig", {"n_positions": 40}, 40),
        ("CTRLConfig", {"n_positions": 40}, 40),
        ("OpenAIGPTConfig", {"n_positions": 40}, 40),
        ("GPTBigCodeConfig", {"n_positions": 40}, 40),
        ("XGLMConfig", {"max_position_embeddings": 40}, 40),
        ("BertConfig", {"max_position_embeddings": 40}, 40),
        ("RobertaConfig", {"max_position_embeddings": 40, "pad_token_id": 1}, 38),
        ("LlamaConfig", {"max_position_embeddings": 40}, 40),
        ("FalconConfig", {"alibi": True}, NO_LIMIT),
        ("BloomConfig", {}, NO_LIMIT),
        ("T5Config", {}, NO_LIMIT),
        ("XLNetConfig", {}, NO_LIMIT),
        ("LEDConfig", {"max_decoder_position_embeddings": 40}, 40),
        ("PegasusConfig", {"max_position_embeddings": 40}, 40),
        ("MarianConfig", {"max_position_embeddings": 40}, 40),
    ],
)
def test_each_architecture_has_the_positions_it_can_compute(
    kind: str, settings: dict[str, Any], expected: int
) -> None:
    network = tiny(getattr(transformers, kind), settings)
    model = fit_target(network)
    assert model.max_length == expected
    if expected == NO_LIMIT:
        assert model.open([5] * 300).begin
        return
    text = model.open([5] * min(20, expected - 1))
    tokens = (text.begin + [7] * expected)[:expected]
    assert text.extend(tokens).isfinite().all()  # the last position can be computed


def test_a_table_that_is_smaller_than_its_config_says() -> None:
    network = tiny(transformers.OPTConfig, {"max_position_embeddings": 40})
    network.config.max_position_embeddings = 400
    assert fit_target(network).max_length == 40


@pytest.mark.parametrize("value", [0, -1, -64, 64.0, "64", True])
def test_positions_are_never_below_one(value: Any) -> None:
    config = llama(rope_type="default")
    object.__setattr__(config, "max_position_embeddings", value)
    if value == -1 and type(value) is int:
        assert positions_of(config) == NO_LIMIT  # XLNet's word for none
        return
    with pytest.raises(ModelError, match=r"max_position_embeddings must be .* at least 1"):
        positions_of(config)
