"""Real models, where they have been fetched: `pytest -m real`."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from foredraft.loading import load
from foredraft.loading.gguf_model import ModelFile, read_model_file
from foredraft.loading.named import REAL_MODELS
from tests.folders import CPU
from tests.real_files import real_file

pytestmark = pytest.mark.real
TEXTS = (
    "The capital of France is",
    "  two  spaces\n\n\tand 1234567 tabs",
    "Zwölf Boxkämpfer — 日本語 😀 \x00\x07",
    "<|im_start|>user\nhi<|im_end|>\n<start_of_turn>user\nhi<end_of_turn><eos>",
    "def f(x):\n    return x**2  # ok",
    "",
)


@pytest.fixture(params=REAL_MODELS)
def file(request: pytest.FixtureRequest) -> ModelFile:
    return read_model_file(real_file(request.param))


def test_the_tokenizer_is_that_of_transformers(file: ModelFile) -> None:
    theirs = AutoTokenizer.from_pretrained(file.path.parent, gguf_file=file.path.name)
    ours = file.tokenizer
    assert ours.get_vocab() == theirs.get_vocab()
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours.chat_template == theirs.chat_template


def test_every_tensor_is_that_of_transformers(file: ModelFile) -> None:
    source = file.weights(torch.float32, "none")
    read = load_gguf_checkpoint(str(file.path), return_tensors=True, model_to_load=source.outline)
    assert len(read["tensors"]) == len(file.header.tensors)
    for name, tensor in read["tensors"].items():
        found = source.plain(name)
        assert found is not None
        assert torch.equal(found, tensor)


def test_it_says_what_is_so(file: ModelFile) -> None:
    loaded = load(str(file.path), "target", CPU)
    ids = loaded.tokenizer.encode("The capital of France is the city of")
    text = loaded.model.open(ids)
    assert "Paris" in loaded.tokenizer.decode([int(text.extend(ids)[-1].argmax())])
