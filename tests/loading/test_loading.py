"""Loading: a good folder works; whatever goes wrong becomes one sentence of the right error."""

from __future__ import annotations

import copy
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foredraft.errors import ConfigError, ForedraftError, ModelError, VocabularyMismatch
from foredraft.loading import LoadedModel, LoadOptions, load, load_drafter, load_pair
from foredraft.loading.device import resolve_device
from foredraft.loading.drafter import check_vocabulary
from foredraft.loading.options import DTYPE_CHOICES, DTYPES
from foredraft.models import EncoderDecoderModel
from foredraft.zoo.tokenizer import train_tokenizer
from tests.texts import first_pass
from tests.tiny import TEXT_VOCAB, assert_same_logits, build, full_logits, noisy, tokenizer

CPU = LoadOptions(device="cpu")
PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and its tokenizer."""
    folder = tmp_path_factory.mktemp("saved")
    build("llama", vocab_size=TEXT_VOCAB).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refusal(kind: type[ForedraftError], name: str | Path, options: LoadOptions = CPU) -> str:
    """Return the sentence with which a load is refused."""
    with pytest.raises(ForedraftError) as caught:
        load(str(name), "target", options)
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert 20 < len(sentence) < 400
    return sentence


def test_a_folder_gives_the_model_that_was_saved_in_it(saved: Path) -> None:
    loaded = load(str(saved), "target", CPU)
    logits = first_pass(loaded.model, PROMPT, keep=3)
    assert_same_logits(logits, full_logits(build("llama", vocab_size=TEXT_VOCAB), PROMPT))
    assert loaded.name == str(saved)
    assert loaded.model.vocab_size == TEXT_VOCAB
    assert loaded.tokenizer.decode(loaded.tokenizer("the dog", add_special_tokens=False).input_ids)


def test_a_relative_folder_needs_no_dot(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    assert load(saved.name, "target", CPU).name == saved.name


def test_a_missing_folder_is_named_with_what_is_legal() -> None:
    sentence = refusal(ModelError, "/no/model/here")
    assert "'/no/model/here'" in sentence
    assert "bundled" in sentence


@pytest.mark.parametrize("name", ["", "  ", "./nowhere", "~/nowhere"])
def test_a_name_that_is_no_hub_name_is_not_looked_up(name: str) -> None:
    assert repr(name) in refusal(ModelError, name)


def test_a_file_is_no_model_folder(saved: Path) -> None:
    assert "no model folder" in refusal(ModelError, saved / "config.json")


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    assert "config.json is missing" in refusal(ModelError, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no_such_model"}'])
def test_an_unreadable_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert "model" in refusal(ModelError, folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_weights_are_refused(folder: Path, share: float) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    assert "corrupt" in refusal(ModelError, folder)


def test_weights_of_garbage_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)
    assert "corrupt" in refusal(ModelError, folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refusal(ModelError, folder)


def test_pickled_weights_are_not_opened(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")  # a pickle may run code
    assert "safetensors" in refusal(ModelError, folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    sentence = refusal(ModelError, folder)
    assert "incomplete" in sentence
    assert "model.layers.1.mlp.up_proj.weight" in sentence


def test_a_tensor_of_the_wrong_shape_is_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refusal(ModelError, folder)


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    refusal(ModelError, folder)


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no-such-model"])
def test_a_hub_name_out_of_reach_says_so(name: str) -> None:
    sentence = refusal(ModelError, name)
    assert name in sentence
    assert "hub" in sentence


def saved_seq2seq(folder: Path, model: Any) -> str:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def test_an_encoder_decoder_is_found_out_by_its_config(tmp_path: Path) -> None:
    whole = build("bart", vocab_size=TEXT_VOCAB)
    target = saved_seq2seq(tmp_path / "target", whole)
    drafter = saved_seq2seq(tmp_path / "drafter", noisy("bart", vocab_size=TEXT_VOCAB))
    loaded, draft = load_pair(target, drafter, CPU)
    assert isinstance(loaded.model, EncoderDecoderModel)
    assert isinstance(draft.model, EncoderDecoderModel)
    assert draft.model.encoder is not loaded.model.encoder
    again, same = load_pair(target, target, CPU)  # with the target's own encoder
    assert isinstance(again.model, EncoderDecoderModel)
    assert isinstance(same.model, EncoderDecoderModel)
    assert same.model.encoder is again.model.encoder
    prompt = [20, 21, 22]
    text = loaded.model.open(prompt)
    logits = text.extend([*text.begin, 9], keep=2)
    assert_same_logits(logits, full_logits(whole, [*text.begin, 9], prompt))


def test_a_pair_of_two_kinds_is_refused(saved: Path, tmp_path: Path) -> None:
    whole = saved_seq2seq(tmp_path, build("bart", vocab_size=TEXT_VOCAB))
    with pytest.raises(ModelError, match="cannot draft for a decoder-only target"):
        load_pair(str(saved), whole, CPU)
    with pytest.raises(ModelError, match="cannot see what an encoder–decoder target reads"):
        load_pair(whole, str(saved), CPU)


@pytest.mark.parametrize("device", ["gpu", "cud", "cpu:x", ""])
def test_an_unknown_device_is_refused_with_the_legal_ones(saved: Path, device: str) -> None:
    sentence = refusal(ConfigError, saved, LoadOptions(device=device))
    assert repr(device) in sentence
    assert "auto, cpu, cuda" in sentence


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(
    saved: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device in refusal(ConfigError, saved, LoadOptions(device=device))
    assert resolve_device("auto") == torch.device("cpu")


def test_an_unknown_dtype_is_refused_with_the_legal_ones(saved: Path) -> None:
    sentence = refusal(ConfigError, saved, LoadOptions(device="cpu", dtype="float33"))
    assert "float33" in sentence
    assert all(name in sentence for name in DTYPE_CHOICES)


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_is_honoured(saved: Path, name: str) -> None:
    options = LoadOptions(device="cpu", dtype=name, runtime="transformers")
    theirs = load(str(saved), "target", options).model
    assert first_pass(theirs, PROMPT).dtype == DTYPES[name]
    ours = load(str(saved), "target", LoadOptions(device="cpu", dtype=name)).model
    logits = first_pass(ours, PROMPT)
    if ours.dtype == torch.float32:  # the compiled pass rounds weights, and nothing else
        rounded = copy.deepcopy(theirs.model).float()  # type: ignore[attr-defined]
        assert_same_logits(logits, full_logits(rounded, PROMPT)[-1:])
    else:
        assert logits.dtype == DTYPES[name]


def test_the_dtype_on_a_cpu_is_float32_unless_told_otherwise(folder: Path) -> None:
    half = {k: v.bfloat16() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load(str(folder), "target", CPU)
    assert first_pass(loaded.model, PROMPT).dtype == torch.float32


def test_an_unknown_quantization_is_refused(saved: Path) -> None:
    assert "int8" in refusal(ConfigError, saved, LoadOptions(device="cpu", quantize="int7"))


def test_int8_without_torchao_says_how_to_install_it(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without_torchao(name: str, *args: Any) -> Any:
        return None if name == "torchao" else found(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", without_torchao)
    sentence = refusal(
        ConfigError, saved, LoadOptions(device="cpu", quantize="int8", runtime="transformers")
    )
    assert "--extra int8" in sentence


@pytest.mark.parametrize(
    ("written", "expected"), [("[1, 4]", (1, 4)), ("3", (1, 3)), ("null", (1,)), ("[]", (1,))]
)
def test_end_tokens_come_from_every_source(
    folder: Path, written: str, expected: tuple[int, ...]
) -> None:
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {written}}}')
    assert load(str(folder), "target", CPU).eos_token_ids == expected


def named(name: str, lines: tuple[str, ...], saved: Path) -> LoadedModel:
    """The saved model under another name, with a tokenizer trained on other lines."""
    other = train_tokenizer(lines, TEXT_VOCAB)
    return replace(load(str(saved), "target", CPU), name=name, tokenizer=other)


def test_a_pair_with_one_tokenizer_is_accepted(saved: Path) -> None:
    target, drafter = load_pair(str(saved), str(saved), CPU)
    assert target.model.vocab_size == drafter.model.vocab_size
    assert target.model is not drafter.model


def test_another_tokenizer_is_refused_with_the_first_id_that_differs(saved: Path) -> None:
    target = load(str(saved), "target", CPU)
    drafter = named("stranger", ("zzzz yyyy xxxx zzzz yyyy xxxx " * 9,), saved)
    with pytest.raises(VocabularyMismatch, match=r"'stranger' differ: id \d+ is '.*' for one") as e:
        check_vocabulary(target, drafter)
    assert "\n" not in str(e.value)


def test_a_drafter_with_another_tokenizer_keeps_its_columns_or_is_refused(
    saved: Path, tmp_path: Path
) -> None:
    target = load(str(saved), "target", CPU)
    build("llama", 1, vocab_size=TEXT_VOCAB + 20).save_pretrained(tmp_path)
    train_tokenizer(("zzzz yyyy xxxx " * 9,), 280).save_pretrained(tmp_path)
    with pytest.raises(VocabularyMismatch, match="target's family, or none: --drafter none"):
        load_drafter(str(tmp_path), target, CPU, may_be_foreign=False)
    assert load_drafter(str(tmp_path), target, CPU).model.vocab_size == TEXT_VOCAB + 20


def test_an_encoder_decoder_takes_no_drafter_with_another_tokenizer(tmp_path: Path) -> None:
    target = load("bundled-seq2seq", "target", CPU)
    build("t5", 1, vocab_size=TEXT_VOCAB).save_pretrained(tmp_path)
    train_tokenizer(("zzzz yyyy xxxx " * 9,), TEXT_VOCAB).save_pretrained(tmp_path)
    with pytest.raises(VocabularyMismatch, match="target's family, or none: --drafter none"):
        load_drafter(str(tmp_path), target, CPU)


def test_a_drafter_with_padded_weights_gets_the_targets_vocabulary(
    saved: Path, tmp_path: Path
) -> None:
    build("llama", 1, vocab_size=TEXT_VOCAB + 20).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    drafter = load_drafter(str(tmp_path), load(str(saved), "target", CPU), CPU)
    assert drafter.model.vocab_size == TEXT_VOCAB
    assert first_pass(drafter.model, PROMPT).shape == (1, TEXT_VOCAB)
