"""A bad GGUF file is one sentence, quickly and in little memory, whatever its bytes say."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from foredraft.errors import ModelError
from foredraft.loading.gguf_config import read_config
from foredraft.loading.gguf_header import GgufHeader, read_gguf_header
from foredraft.loading.gguf_tokenizer import read_tokenizer
from foredraft.loading.gguf_weights import GgufWeights
from tests.gguf_files import network, write

MUTANTS = 500
SPOKEN = 5  # each of so many is also asked for its tokenizer, which takes longer
SECONDS, BYTES = 2.0, 48 << 20
EXTREMES = (0, 1, 2, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)


def sentence(path: Path) -> str:
    """Return what is said of a file that cannot be a model; it is one sentence with a remedy."""
    with pytest.raises(ModelError) as refused:
        opened(read_gguf_header(path))
    said = str(refused.value)
    assert "\n" not in said
    assert 40 < len(said) < 900
    assert "; " in said
    return said


def opened(header: GgufHeader) -> GgufWeights:
    return GgufWeights(header, read_config(header)[1], torch.float32)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write(path, "llama", "Q8_0", model=network("llama", num_hidden_layers=1))
    return path


def mutant(content: bytes, header: int, source: random.Random) -> bytes:
    """Return a file with a few bytes, a number or the end of its header changed."""
    changed, kind = bytearray(content), source.randrange(4)
    if kind == 0:
        return bytes(content[: source.randrange(len(content))])
    if kind == 1:
        for _ in range(source.randint(1, 4)):
            changed[source.randrange(header)] = source.randrange(256)
    elif kind == 2:
        place, form = source.randrange(header - 8), source.choice(("<I", "<Q"))
        value = source.choice(EXTREMES) % (1 << (8 * struct.calcsize(form)))
        struct.pack_into(form, changed, place, value)
    else:
        begin = source.randrange(header)
        del changed[begin : begin + source.randint(1, 40)]
    return bytes(changed)


def test_mutated_headers_are_read_or_refused(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content, header = sound.read_bytes(), read_gguf_header(sound).data_begin
    source, outcomes = random.Random(0), {"read": 0, "refused": 0}
    opened(read_gguf_header(sound))  # what is made once is not counted
    tracemalloc.start()
    try:
        for number in range(MUTANTS):
            path = tmp_path / "mutant.gguf"
            path.write_bytes(mutant(content, header, source))
            tracemalloc.reset_peak()
            held, began = tracemalloc.get_traced_memory()[0], time.process_time()
            outcomes[_outcome(path, speaks=number % SPOKEN == 0)] += 1
            assert time.process_time() - began < SECONDS
            assert tracemalloc.get_traced_memory()[1] - held < BYTES
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > MUTANTS // 20, outcomes


def _outcome(path: Path, *, speaks: bool) -> str:
    try:
        header = read_gguf_header(path)
        weights = opened(header)
        if speaks:
            read_tokenizer(header, int(weights.config.vocab_size))
    except ModelError as error:
        said = str(error)
    else:
        return "read"
    assert "\n" not in said
    assert len(said) < 900
    return "refused"


def edited(path: Path, content: bytes, place: int, form: str, value: int) -> Path:
    changed = bytearray(content)
    struct.pack_into(form, changed, place, value)
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize(
    ("place", "form", "value", "said"),
    [
        (0, "<I", 7, "begins with"),
        (4, "<I", 1, "version is 1, legal: 2 and 3"),
        (4, "<I", 1 << 24, "version is 16777216"),
        (8, "<Q", 1 << 60, "1,152,921,504,606,846,976 tensors follow, legal: 0 … "),
        (16, "<Q", 1 << 60, "entries of metadata follow"),
        (24, "<Q", 1 << 40, "bytes of the name of an entry follow, legal: 0 … 1,024"),
    ],
)
def test_the_first_numbers_are_checked(
    place: int, form: str, value: int, said: str, sound: Path, tmp_path: Path
) -> None:
    assert said in sentence(edited(tmp_path / "m.gguf", sound.read_bytes(), place, form, value))


def test_a_file_that_is_cut_short_is_refused(sound: Path, tmp_path: Path) -> None:
    content, path = sound.read_bytes(), tmp_path / "m.gguf"
    for length in (0, 3, 23, 24, 100, read_gguf_header(sound).data_begin, len(content) - 40):
        path.write_bytes(content[:length])
        assert "no sound GGUF file" in sentence(path)
    assert "cannot read" in sentence(tmp_path / "nothing.gguf")
    assert "no sound GGUF file" in sentence(tmp_path) or "directory" in sentence(tmp_path)


def value(name: str, given: Any) -> Callable[[gguf.GGUFWriter], None]:
    def add(writer: gguf.GGUFWriter) -> None:
        {int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool}.get(
            type(given), writer.add_string
        )(name, given)

    return add


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (value("llama.expert_count", 8), "llama.expert_count (8) asks for what is not computed"),
        (value("llama.final_logit_softcapping", 30.0), "final_logit_softcapping (30.0)"),
        (value("llama.attention.scale", 0.5), "attention.scale"),
        (value("llama.rope.scaling.type", "longrope"), "none, linear or yarn, not 'longrope'"),
        (value("llama.rope.dimension_count", 8), "rope.dimension_count must be 16, all of a head"),
        (value("split.count", 3), "one of several parts"),
        (lambda w: w.add_array("llama.attention.sliding_window", [1, 2]), "sliding_window must be"),
        (lambda w: w.add_tensor("extra", np.zeros(4, np.float32)), "holds 'extra'"),
        (lambda w: w.add_tensor("blk.7.x", np.zeros(4, np.float32)), "block_count must be 5"),
        (lambda w: w.add_custom_alignment(8), None),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    add: Callable[[gguf.GGUFWriter], None], said: str | None, tmp_path: Path
) -> None:
    write(tmp_path / "m.gguf", "llama", add=add)
    if said is None:
        opened(read_gguf_header(tmp_path / "m.gguf"))
    else:
        assert said in sentence(tmp_path / "m.gguf")


def test_neutral_values_of_such_keys_are_read(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        for name, given in (
            ("expert_count", 0),
            ("attention.causal", True),
            ("rope.scaling.attn_factor", 1.0),
            ("logit_scale", 1.0),
            ("attention.scale", 0.0),
        ):
            value(f"llama.{name}", given)(writer)

    write(tmp_path / "m.gguf", "llama", add=add)
    assert opened(read_gguf_header(tmp_path / "m.gguf")).config.model_type == "llama"


def test_unknown_architectures_and_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    rows = np.zeros((2, 84), np.uint8)
    for kind, said in (("F32", "architecture 'mamba' is not known"), ("Q2_K", "is of kind Q2_K")):
        writer = gguf.GGUFWriter(path, "mamba")
        held = np.zeros((2, 8), np.float32) if kind == "F32" else rows
        raw = None if kind == "F32" else gguf.GGMLQuantizationType.Q2_K
        writer.add_tensor("token_embd.weight", held, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        assert said in sentence(path)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "llama", says_length=False)
    assert "llama.context_length must be a number" in sentence(tmp_path / "m.gguf")


def test_names_that_are_there_twice_are_refused(sound: Path, tmp_path: Path) -> None:
    content, path = sound.read_bytes(), tmp_path / "m.gguf"
    path.write_bytes(content.replace(b"llama.embedding_length", b"llama.feed_forward_len"))
    sentence(path)
    path.write_bytes(content.replace(b"blk.0.ffn_up.weight", b"blk.0.attn_q.weight"))
    assert "'blk.0.attn_q.weight' is there twice" in sentence(path)
    path.write_bytes(
        content.replace(b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.eos_token_id")
    )
    assert "has 'tokenizer.ggml.eos_token_id' twice" in sentence(path)


def test_tensors_that_overlap_are_refused(sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    name = b"blk.0.ffn_up.weight"
    place = content.index(name) + len(name) + 4 + 16 + 4
    assert "lies inside of another" in sentence(
        edited(tmp_path / "m.gguf", content, place, "<Q", 32)
    )
    assert "legal: multiples of 32" in sentence(
        edited(tmp_path / "m.gguf", content, place, "<Q", 33)
    )
    assert "no byte beyond" in sentence(edited(tmp_path / "m.gguf", content, place, "<Q", 1 << 40))
