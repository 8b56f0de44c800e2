"""Our methods and transformers' `generate`, as contenders of `real_worker.py`."""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import suppress
from typing import Any

import torch
from side_by_side import Run, our_run, peer_run, sample

from foredraft import DecodingConfig, Engine, LoadOptions
from foredraft.bench.machine import flags, memory_mark
from foredraft.bench.prompt_sets import PromptItem
from foredraft.loading import load
from foredraft.native import compiler
from foredraft.text import encode_prompt
from foredraft.version import __version__

NUCLEUS = "nucleus(temperature=0.8, top_p=0.9)"
PLAIN, NASD, SUFFIX, LOOKUP, HYBRID = "plain", "nasd", "suffix", "prompt_lookup", "hybrid"
HEAD, AUTO = "head", "auto"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # method and settings of each of ours
    PLAIN: ("target", {}),
    NASD: ("ngram", {}),
    SUFFIX: ("speculative", {"drafting": "suffix"}),
    LOOKUP: ("speculative", {"drafting": "prompt_lookup"}),
    HYBRID: ("speculative", {"drafting": "hybrid(suffix, ngram)"}),
    HEAD: ("speculative", {"drafting": "model"}),
    AUTO: ("speculative", {"drafting": "auto"}),
}
WITH_A_HEAD = (HEAD, AUTO)  # where the package has one for the model
PASS_CONTEXT = 60  # tokens before a pass that is timed
WITHOUT_TILES = "-mno-amx-bf16"  # of the compiler


class Ours:
    """One of our methods on a model.

    Attributes:
        version: of this package.
        import_bytes: the most memory before the model came.
        load_seconds: from all imports to a model that is there.
    """

    version = f"foredraft {__version__}"

    def __init__(self, told: dict[str, Any]) -> None:
        for name in told.get("imports", ()):  # what loading would import when it gets there
            with suppress(Exception):
                importlib.import_module(name)
        if told.get("without_tiles") and "amx" in flags():
            compiler.FLAGS = (*compiler.FLAGS, WITHOUT_TILES)
        self._imported, self.import_bytes = set(sys.modules), memory_mark("VmHWM")
        begin = time.perf_counter()
        options = LoadOptions(device="cpu", threads=told["threads"])
        name = told["method"]
        drafter = "auto" if name in WITH_A_HEAD else None
        self._engine = Engine.load(told["model"], drafter, options=options)
        self.load_seconds = time.perf_counter() - begin
        self._method, self._settings = METHODS[name]
        if name == HEAD and self._engine.drafter is None:
            raise SystemExit(f"this package has no head for {told['model']}")

    def generate(self, request: dict[str, Any]) -> dict[str, Any]:
        sampler = "greedy" if request["sampler"] == "greedy" else NUCLEUS
        settings = self._settings | {"gamma": request["draft"] or 1, "sampler": sampler}
        config = DecodingConfig(seed=request["seed"], **settings)
        found = answer(our_run(self._engine, self._method, config), request)
        return found | {"prompt_tokens": len(self._engine.encode(request["prompt"]))}

    def modules(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the names of the modules that were imported since loading began, in order."""
        return {"modules": [name for name in sys.modules if name not in self._imported]}

    def passes(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds of passes over so many tokens, which take turns."""
        network = self._engine.target.model
        counts = request["counts"]
        tokens = [5 + i for i in range(PASS_CONTEXT + max(counts))]
        text = network.open(tokens)
        text.extend(tokens[:PASS_CONTEXT])
        found: dict[str, list[float]] = {str(count): [] for count in counts}
        for turn in range(-3, request["repeats"]):
            for count in counts:
                begin = time.perf_counter()
                text.extend(tokens[PASS_CONTEXT : PASS_CONTEXT + count], keep=count)
                if turn >= 0:
                    found[str(count)].append(time.perf_counter() - begin)
                text.rollback_to(PASS_CONTEXT)
        return {"seconds": found}


class Transformers:
    """transformers' `generate` in bfloat16, with prompt lookup or without."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.version = f"transformers {importlib.import_module('transformers').__version__}"
        self.import_bytes = memory_mark("VmHWM")
        options = LoadOptions(
            device="cpu", dtype="bfloat16", runtime="transformers", threads=told["threads"]
        )
        self._model, self._lookup = load(told["model"], "target", options), told["lookup"]

    def generate(self, request: dict[str, Any]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if request["sampler"] != "greedy":
            settings = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 0}
        if self._lookup:
            settings["prompt_lookup_num_tokens"] = request["draft"]
        torch.manual_seed(request["seed"])
        prompt = encode_prompt(self._model.tokenizer, request["prompt"])
        found = answer(peer_run(self._model, **settings), request)
        return found | {"prompt_tokens": len(prompt)}


def answer(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request, but for the length of the prompt."""
    item = PromptItem("one", "one", request["prompt"], request["length"])
    return vars(sample(run, item))


def contender(told: dict[str, Any]) -> Ours | Transformers:
    """Return the contender that a worker's argument describes."""
    return Transformers(told) if told["kind"] == "transformers" else Ours(told)
