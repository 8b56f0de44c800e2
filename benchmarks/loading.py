"""Memory while a model is loaded: the most that is held, and what stays, against its files.

Makes folders with random weights in the shape of SmolLM2-135M, loads each in a process of its own
and reads the system's own marks. What was held before, imports included, is taken off.

    uv run python benchmarks/loading.py [--layers 30] [--vocab 49152] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tables import markdown, parser_of, shown
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.utils.logging import disable_progress_bar

from foredraft import LoadOptions
from foredraft.bench.machine import PeakMemory, describe_machine, memory_mark, place
from foredraft.loading import load, runtime
from foredraft.loading.gguf_writing import quantize_to
from foredraft.zoo.tokenizer import train_tokenizer

MEGABYTE = 1_000_000
SHAPE = {
    **{"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536},
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
}
NATIVE, TORCH, THEIRS = "native", "torch operations", "transformers"
FORM = "{:.2f}"
LINES = ("A house by the sea has a door, a window and a garden with a tree.",) * 9


@dataclass(frozen=True)
class Variant:
    """What is loaded, and by what."""

    runtime: str = NATIVE  # the code that computes the network
    dtype: str = "bfloat16"  # of the tensors in the files
    tied: bool = True  # whether the head is the embedding
    sharded: bool = False  # whether the tensors are spread over several files
    quantize: str = "none"  # as in `LoadOptions`
    file: str = ""  # what a GGUF file of it is rounded to, `int8` or `int4`; a folder if nothing

    def __str__(self) -> str:
        tied = "tied" if self.tied else "untied"
        how = [self.quantize] * (self.quantize != "none") + ["sharded"] * self.sharded
        how += [f"GGUF {self.file}"] * bool(self.file)
        return ", ".join((self.runtime, self.dtype, tied, *how))


VARIANTS = (
    *(Variant(runtime) for runtime in (NATIVE, TORCH, THEIRS)),
    *(Variant(runtime, tied=False) for runtime in (NATIVE, TORCH, THEIRS)),
    *(Variant(runtime, sharded=True) for runtime in (NATIVE, TORCH, THEIRS)),
    *(Variant(NATIVE, dtype) for dtype in ("float16", "float32")),
    *(Variant(NATIVE, quantize=quantize) for quantize in ("int8", "int4")),
    *(Variant(NATIVE, file=kind) for kind in ("int8", "int4")),
)


def write_folder(folder: Path, variant: Variant, shape: dict[str, int]) -> int:
    """Write a model with random weights and a small tokenizer; return the bytes of its weights."""
    tokenizer = train_tokenizer(LINES, 300)
    tokenizer.save_pretrained(folder)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(**shape, **ends, tie_word_embeddings=variant.tied)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, variant.dtype))
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    network.save_pretrained(folder, max_shard_size=size // 3 if variant.sharded else "50GB")
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def written(folder: Path, variant: Variant, shape: dict[str, int]) -> tuple[Path, int]:
    """Write what is loaded; return where it is, and the bytes of its weights."""
    size = write_folder(folder, variant, shape)
    if not variant.file:
        return folder, size
    file = folder / "model.gguf"
    quantize_to(str(folder), variant.file, file, lambda done, total: None)
    return file, file.stat().st_size


def measured(folder: Path, variant: Variant) -> dict[str, float]:
    """Load a folder or a file in a process of its own.

    Returns:
        `before`, `stays` and `peak` in bytes, the last two beyond what was held before; `seconds`.
    """
    command = [sys.executable, __file__, "--load", str(folder), json.dumps(asdict(variant))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])
    found: dict[str, float] = json.loads(done.stdout.strip().split("\n")[-1])
    return found


def load_and_tell(folder: str, variant: Variant) -> dict[str, float]:
    """Load a folder here; return what `measured` does."""
    if variant.runtime == TORCH:
        runtime.can_fuse = lambda: False  # as on a machine without a compiler
    else:
        runtime.can_fuse()
    import_module("transformers.models.llama.modeling_llama")  # else at the first load
    name = "transformers" if variant.runtime == THEIRS else "native"
    options = LoadOptions(device="cpu", runtime=name, quantize=variant.quantize)
    before, peak, begin = memory_mark("VmRSS") or 0, PeakMemory(), time.perf_counter()
    loaded = load(folder, "target", options)
    seconds = time.perf_counter() - begin
    highest, _ = peak.peaks()
    stays = (memory_mark("VmRSS") or 0) - before
    del loaded
    highest = highest or memory_mark("VmHWM") or 0
    return {"before": before, "stays": stays, "peak": highest - before, "seconds": seconds}


def rows_of(shape: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Measure every variant; yield a row each, and say it to the terminal at once."""
    for number, variant in enumerate(VARIANTS, start=1):
        with tempfile.TemporaryDirectory() as place:
            source, size = written(Path(place), variant, shape)
            found = measured(source, variant)
        row = {"variant": str(variant), "files": size, **found}
        row["peak_to_stays"] = found["peak"] / found["stays"]
        row["stays_to_files"] = found["stays"] / size
        told = ", ".join(f"{k} {shown(v, FORM)}" for k, v in list(in_megabytes(row).items())[1:])
        print(f"{number}/{len(VARIANTS)} {variant}: {told}", file=sys.stderr, flush=True)
        yield row


def in_megabytes(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its memory in megabytes."""
    return row | {key: round(row[key] / MEGABYTE) for key in ("files", "before", "stays", "peak")}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table, or one JSON line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--layers", type=int, default=SHAPE["num_hidden_layers"], help="[%(default)s]")
    add("--vocab", type=int, default=SHAPE["vocab_size"], help="[%(default)s]")
    add("--json", action="store_true", help="print figures instead of a table")
    add("--load", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args(arguments)
    if args.load:
        print(json.dumps(load_and_tell(args.load[0], Variant(**json.loads(args.load[1])))))
        return
    disable_progress_bar()  # of writing the folders
    machine = describe_machine()
    rows = list(rows_of(SHAPE | {"num_hidden_layers": args.layers, "vocab_size": args.vocab}))
    if args.json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    print(markdown([in_megabytes(row) for row in rows], FORM))
    print(f"\nMegabytes. {place({'machine': machine})}")


if __name__ == "__main__":
    main()
