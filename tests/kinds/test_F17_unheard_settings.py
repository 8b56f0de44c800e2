"""What a checkpoint's generation config asks for and does not get is said once, while loading."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli.main import main
from foredraft.loading import LoadedModel, load_drafter
from foredraft.loading.generation import FORBIDDING, SAMPLING, SHAPING
from foredraft.sampling import SAMPLERS
from tests.folders import CPU, edit, outcome, write_folder

ASKED: dict[str, Any] = {
    **{"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.3},
    **{"suppress_tokens": [5], "begin_suppress_tokens": [5], "bad_words_ids": [[5]]},
    **{"forced_bos_token_id": 5, "forced_eos_token_id": 5, "forced_decoder_ids": [[1, 5]]},
    **{"no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 3, "num_beams": 4},
    **{"stop_strings": ["x"], "min_length": 4, "min_new_tokens": 4, "sequence_bias": [[[5], 1.0]]},
    "exponential_decay_length_penalty": [5, 1.1],
    "watermarking_config": {"bias": 2.0},
    "dola_layers": "low",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    names = ("llama", "bart")
    return {name: write_folder(tmp_path_factory.mktemp(name), name) for name in names}


def folder_of(name: str, saved: dict[str, Path], tmp_path: Path, **asked: Any) -> Path:
    folder = Path(shutil.copytree(saved[name], tmp_path / "model"))
    edit(folder / "generation_config.json", lambda found: found.update(asked))
    return folder


@pytest.mark.parametrize("name", [*SAMPLING, *SHAPING, *FORBIDDING])
def test_every_setting_that_changes_a_text_is_said_once(
    saved: dict[str, Path], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = ASKED.get(name, 0.5)
    folder = folder_of("llama", saved, tmp_path, **{name: value})
    loaded = outcome(folder)
    assert isinstance(loaded, LoadedModel), loaded
    said = [record.getMessage() for record in caplog.records if record.name == "foredraft"]
    assert len(said) == 1
    assert str(folder) in said[0]
    assert name in said[0]
    assert ("--sampler" in said[0]) == (name in SAMPLING)


def test_what_is_neutral_is_not_said(
    saved: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    neutral = {k: v for k, v in (SAMPLING | SHAPING).items() if v is not None}
    assert isinstance(outcome(folder_of("llama", saved, tmp_path, **neutral)), LoadedModel)
    assert not caplog.records


@pytest.mark.parametrize(
    "asked",
    [{}, {"top_k": 40}, {"top_p": 0.9}, {"top_k": 40, "top_p": 0.9}],
    ids=lambda asked: "+".join(asked) or "temperature",
)
def test_the_sampler_that_is_named_exists(
    saved: dict[str, Path], tmp_path: Path, asked: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"do_sample": True, "temperature": 0.6, **asked}
    outcome(folder_of("llama", saved, tmp_path, **settings))
    spec = caplog.text.split("--sampler '")[1].split("'")[0]
    sampler = SAMPLERS.create(spec)
    assert all(
        getattr(sampler, name) == value
        for name, value in (settings | asked).items()
        if name != "do_sample"
    )


@pytest.mark.parametrize("name", ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids"])
def test_an_encoder_decoder_obeys_what_forbids_tokens(
    saved: dict[str, Path], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(
        outcome(folder_of("bart", saved, tmp_path, **{name: ASKED[name]})), LoadedModel
    )
    assert not caplog.records


@pytest.mark.parametrize("name", ["num_beams", "no_repeat_ngram_size", "repetition_penalty"])
def test_an_encoder_decoder_says_what_it_does_not_do(
    saved: dict[str, Path], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcome(folder_of("bart", saved, tmp_path, **{name: ASKED[name]}))
    assert name in caplog.text


def test_a_drafter_is_silent_since_it_decides_no_token(
    saved: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = outcome(saved["llama"])
    assert isinstance(target, LoadedModel)
    folder = folder_of("llama", saved, tmp_path, repetition_penalty=1.3)
    load_drafter(str(folder), target, CPU)
    assert not caplog.records


def test_the_command_line_shows_it_on_standard_error(
    saved: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of("llama", saved, tmp_path, repetition_penalty=1.3)
    flags = ["--drafter", "none", "--method", "target", "--text-only", "--no-chat"]
    main(["generate", "--prompt", "The", "--target", str(folder), *flags])
    shown = capsys.readouterr()
    assert shown.err.count("repetition_penalty 1.3") == 1
    assert "repetition_penalty" not in shown.out
    assert logging.getLogger("foredraft").handlers
