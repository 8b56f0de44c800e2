"""Small model folders to damage, and what loading one comes to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from foredraft.errors import ForedraftError
from foredraft.loading import LoadedModel, LoadOptions, load
from tests.tiny import TEXT_VOCAB, build, tokenizer

CPU = LoadOptions(device="cpu")
SECONDS = 2.0  # a bad folder is refused at once; a good one of this size is loaded in a fraction
Edit = Callable[[dict[str, Any]], object]


def write_folder(folder: Path, name: str = "llama", **changes: Any) -> Path:
    """Write a tiny model with its tokenizer and its generation config."""
    model = build(name, vocab_size=TEXT_VOCAB, **changes)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def edit(path: Path, change: Edit) -> None:
    """Change a JSON file in place."""
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def edit_weights(folder: Path, change: Edit) -> None:
    """Change the tensors of a folder."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def outcome(folder: Path, options: LoadOptions = CPU) -> LoadedModel | str:
    """Load a folder and say two tokens; return the model, or the sentence of the refusal."""
    started = time.process_time()
    try:
        loaded = load(str(folder), "target", options)
        text = loaded.model.open([5, 6, 7])
        tokens = text.begin
        for _ in range(2):
            tokens = [int(text.extend(tokens)[0].argmax())]
        loaded.tokenizer.decode(tokens)
        return loaded
    except ForedraftError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert 20 < len(sentence) < 1000
        return sentence
    finally:
        assert time.process_time() - started < SECONDS


def refusal(folder: Path, *words: str, options: LoadOptions = CPU) -> str:
    """Return the sentence with which a folder is refused; it has these words."""
    said = outcome(folder, options)
    assert isinstance(said, str), "it was loaded"
    for word in words:
        assert word in said, said
    return said


def fields_of(path: Path) -> Iterable[str]:
    """Return the fields of a JSON file."""
    return list(json.loads(path.read_text(encoding="utf-8")))
