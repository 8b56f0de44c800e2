"""A model folder is read by one reader: whatever is in it, it loads or is refused by its file."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from foredraft.errors import ModelError
from foredraft.loading import LoadedModel, load
from tests.folders import CPU, edit, edit_weights, fields_of, outcome, refusal, write_folder

BAD: tuple[Any, ...] = (
    *("x", 1.5, None, [], {}, -1, 0, 10**12, True, float("nan"), float("inf"), [[1]]),
    *({"a": {"b": [1]}}, "", [None], ["x"], 10**400, [1, -5], [2.5]),
)
# Fields that a file may have and these have not.
MORE = {
    "config.json": (
        *("rope_scaling", "rope_theta", "sliding_window", "layer_types", "num_labels", "auto_map"),
        *("text_config", "id2label", "torch_dtype", "_attn_implementation", "return_dict"),
        *("quantization_config", "transformers_weights", "is_encoder_decoder", "per_layer_config"),
        *("encoder", "decoder", "num_layers", "encoder_layers", "encoder_attention_heads"),
    ),
    "generation_config.json": (
        *("temperature", "top_k", "top_p", "repetition_penalty", "do_sample", "suppress_tokens"),
        *("bad_words_ids", "forced_bos_token_id", "forced_decoder_ids", "decoder_start_token_id"),
        *("num_beams", "cache_implementation", "begin_suppress_tokens", "max_length"),
    ),
    "tokenizer_config.json": (
        *("added_tokens_decoder", "chat_template", "auto_map", "additional_special_tokens"),
        *("unk_token", "padding_side", "add_bos_token", "model_input_names", "tokenizer_file"),
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def replaced(folder: Path, file: str, field: str, value: Any) -> None:
    """Put a value into a field; whatever comes of it must be a model or a sentence with the file.

    Values that mean what the default means may load, and so may fields that play no part.
    """
    path = folder / file
    before = path.read_text(encoding="utf-8")
    edit(path, lambda found: found.update({field: value}))
    said = outcome(folder)
    path.write_text(before, encoding="utf-8")
    if isinstance(said, str):
        assert file in said, f"{field}={value!r}: {said}"


@pytest.mark.parametrize("file", MORE)
def test_every_field_of_every_file_may_hold_anything(folder: Path, file: str) -> None:
    fields = dict.fromkeys((*fields_of(folder / file), *MORE[file]))
    for i, field in enumerate(fields):
        for value in BAD[i % 4 :: 4]:
            replaced(folder, file, field, value)


@pytest.mark.slow
@pytest.mark.parametrize("file", MORE)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "opt", "gemma3", "t5", "bart"])
def test_every_value_in_every_field(tmp_path: Path, name: str, file: str) -> None:
    folder = write_folder(tmp_path / name, name)
    for field in dict.fromkeys((*fields_of(folder / file), *MORE[file])):
        for value in BAD:
            replaced(folder, file, field, value)


SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
)


@pytest.mark.parametrize("field", SIZES)
@pytest.mark.parametrize("value", ["2", 2.0, [2], 0, -1, 10**6 + 1, 10**12, True], ids=repr)
def test_a_size_that_is_none_is_refused_by_its_name(folder: Path, field: str, value: Any) -> None:
    if field == "max_position_embeddings" and value == 10**6 + 1:
        value = 2**31
    edit(folder / "config.json", lambda found: found.update({field: value}))
    said = refusal(folder, "config.json")
    assert field in said or value == 10**6 + 1  # or in the words of its config class


@pytest.mark.parametrize(
    ("field", "value", "tensor"),
    [
        ("vocab_size", 400, "lm_head.weight"),
        ("intermediate_size", 65, "mlp"),
        ("num_key_value_heads", 4, "self_attn"),
        ("num_attention_heads", 8, "self_attn"),
        ("head_dim", 16, "self_attn"),
    ],
)
def test_a_size_that_is_not_the_weights_is_refused_before_they_are_read(
    folder: Path, field: str, value: int, tensor: str
) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    with weights.open("r+b") as file:  # what is not read may be anything
        file.seek(8 + length)
        file.write(b"\xff" * (len(content) - 8 - length))
    edit(folder / "config.json", lambda found: found.update({field: value}))
    said = refusal(folder, "config.json", tensor, "model.safetensors")
    assert field in said or "heads" in field or field == "head_dim"


@pytest.mark.parametrize("layers", [1, 3, 40])
def test_as_many_layers_as_the_weights_have(folder: Path, layers: int) -> None:
    edit(folder / "config.json", lambda found: found.update(num_hidden_layers=layers))
    refusal(folder, "config.json", f"num_hidden_layers is {layers}", "hold 2 layers")


@pytest.mark.parametrize(
    ("surplus", "refused"),
    [
        ("model.layers.1.self_attn.q_proj.bias", True),
        ("model.layers.0.mlp.up_proj.gain", True),
        ("model.norm.bias", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", False),
        ("model.layers.0.self_attn.masked_bias", False),
        ("v_head.summary.weight", False),
    ],
)
def test_a_tensor_too_many_is_refused_if_it_belongs_into_the_network(
    folder: Path, surplus: str, refused: bool
) -> None:
    edit_weights(folder, lambda weights: weights.update({surplus: torch.ones(32)}))
    if refused:
        refusal(folder, surplus, "leaves out")
    else:
        assert isinstance(outcome(folder), LoadedModel)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 100_000),
        *(b"9" * 10_000, b'{"vocab_size": 1, "vocab_size": 2}', b"{} {}"),
    ],
    ids=lambda content: repr(content[:20]),
)
@pytest.mark.parametrize("file", MORE)
def test_what_is_no_json_object_is_refused(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    refusal(folder, file)


@pytest.mark.parametrize("file", [*MORE, "tokenizer.json"])
def test_a_file_of_gigabytes_is_not_read(folder: Path, file: str) -> None:
    os.truncate(folder / file, 1 << 33)
    refusal(folder, file, "8,589,934,592 bytes")


def test_a_byte_order_mark_is_no_fault(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert isinstance(outcome(folder), LoadedModel)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_in_place_of_a_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).mkdir()
    refusal(folder, file)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


FIRST = "lm_head.weight"
HEADERS: dict[str, Any] = {
    "no tensors": lambda header: header.clear(),
    "no entry": lambda header: header.update({FIRST: 3}),
    "shape": lambda header: header[FIRST].update(shape=[300, 33]),
    "negative shape": lambda header: header[FIRST].update(shape=[-300, -32]),
    "huge shape": lambda header: header[FIRST].update(shape=[1 << 62, 1 << 62]),
    "text in shape": lambda header: header[FIRST].update(shape=["300", 32]),
    "unknown dtype": lambda header: header[FIRST].update(dtype="Q4_K"),
    "dtype of another size": lambda header: header[FIRST].update(dtype="F16"),
    "no dtype": lambda header: header[FIRST].pop("dtype"),
    "offsets beyond the end": lambda header: header[FIRST].update(data_offsets=[0, 10**12]),
    "offsets backwards": lambda header: header[FIRST].update(data_offsets=[9, 3]),
    "overlap": lambda header: header[FIRST].update(
        data_offsets=header["model.embed_tokens.weight"]["data_offsets"]
    ),
    "a tensor less": lambda header: header.pop(FIRST),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_a_header_that_is_not_true_is_refused(folder: Path, fault: str) -> None:
    path = folder / "model.safetensors"
    header, data = header_of(path)
    HEADERS[fault](header)
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    refusal(folder, "model.safetensors")


def sharded(folder: Path) -> Path:
    """Split the weights in two; return the index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for i, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    return index


INDEXES: dict[str, Any] = {
    "no map": lambda found: found.pop("weight_map"),
    "an empty map": lambda found: found.update(weight_map={}),
    "a list": lambda found: found.update(weight_map=["x"]),
    "a number for a file": lambda found: found["weight_map"].update({FIRST: 3}),
    "a file elsewhere": lambda found: found["weight_map"].update({FIRST: "../x.safetensors"}),
    "an absolute path": lambda found: found["weight_map"].update({FIRST: "/etc/passwd"}),
    "a pickle": lambda found: found["weight_map"].update({FIRST: "pytorch_model.bin"}),
    "a missing shard": lambda found: found["weight_map"].update({FIRST: "z.safetensors"}),
    "a tensor nowhere": lambda found: found["weight_map"].update(
        {"model.layers.9.x": "model-00001-of-00002.safetensors"}
    ),
}


def test_shards_are_read(folder: Path) -> None:
    sharded(folder)
    assert isinstance(outcome(folder), LoadedModel)


@pytest.mark.parametrize("fault", INDEXES)
def test_an_index_that_is_not_true_is_refused(folder: Path, fault: str) -> None:
    edit(sharded(folder), INDEXES[fault])
    refusal(folder, "safetensors")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b"[" * 10**5])
def test_an_unreadable_index_is_refused(folder: Path, content: bytes) -> None:
    sharded(folder).write_bytes(content)
    refusal(folder, "model.safetensors.index.json")


TOKENIZERS: dict[str, Any] = {
    "an unknown merge": lambda found: found["model"]["merges"].append(["never", "seen"]),
    "a merge of three": lambda found: found["model"]["merges"].append(["a", "b", "c"]),
    "a bad regex": lambda found: found.update(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "(((["},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "an unknown model": lambda found: found["model"].update(type="Magic"),
    "an unknown decoder": lambda found: found.update(decoder={"type": "Magic"}),
    "no model": lambda found: found.pop("model"),
    "no vocabulary": lambda found: found["model"].pop("vocab"),
    "an empty vocabulary": lambda found: found["model"].update(vocab={}),
    "a negative id": lambda found: found["model"]["vocab"].update({"x!": -1}),
    "an id as text": lambda found: found["model"]["vocab"].update({"x!": "1"}),
    "a huge id": lambda found: found["model"]["vocab"].update({"x!": 2**40}),
    "more tokens than embeddings": lambda found: found["model"]["vocab"].update({"x!": 300}),
    "a negative added id": lambda found: found["added_tokens"].append({"id": -1, "content": "x!"}),
    "a huge added id": lambda found: found["added_tokens"].append({"id": 2**40, "content": "x!"}),
    "an added number": lambda found: found["added_tokens"].append(3),
    "added tokens as text": lambda found: found.update(added_tokens="x"),
}


@pytest.mark.parametrize("fault", TOKENIZERS)
def test_a_tokenizer_that_cannot_be_built_is_refused(folder: Path, fault: str) -> None:
    edit(folder / "tokenizer.json", TOKENIZERS[fault])
    refusal(folder, "tokenizer.json")


def test_two_tokens_of_one_id_do_no_harm(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda found: found["model"]["vocab"].update({"x!": 5}))
    outcome(folder)


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(trap)!r}, 'w').close()")
    edit(
        folder / "config.json",
        lambda found: found.update(model_type="mine", auto_map={"AutoConfig": "mine.MineConfig"}),
    )
    refusal(folder, "config.json", "--trust-remote-code")
    assert not trap.exists()


def cached(saved: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a folder into a cache of the hub as somebody/model; return its snapshot."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    there = cache / "models--somebody--model"
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text("0" * 40)
    return Path(shutil.copytree(saved, there / "snapshots" / ("0" * 40)))


def test_a_cached_model_of_the_hub_is_read_like_a_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = cached(saved, tmp_path, monkeypatch)
    assert load("somebody/model", "target", CPU).model.vocab_size == 300
    edit(snapshot / "config.json", lambda found: found.update(vocab_size="300"))
    with pytest.raises(ModelError, match=r"config\.json': vocab_size must be an integer"):
        load("somebody/model", "target", CPU)


def test_an_adapter_is_not_left_out_in_silence(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    refusal(folder, "adapter_config.json", "merge")


def test_out_of_memory_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(torch.nn.Module, "to", full)
    refusal(folder, "failed with MemoryError", "free some memory")
