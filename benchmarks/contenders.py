"""The methods that `peers.py` measures, ours and other people's, each loaded when it is needed.

All share weights, prompts, dtype and threads. Other people's: transformers' `generate`, plain, with
an assistant and with prompt lookup; llama.cpp where its Python binding is installed.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from side_by_side import BASELINE, PEER, Clock, Run, measure, our_run, peer_run
from transformers import AutoTokenizer

from foredraft import DecodingConfig, Engine, LoadOptions
from foredraft.bench import padded_target
from foredraft.bench.padded import module_of
from foredraft.bench.prompt_sets import PromptItem
from foredraft.loading import LoadedModel, load, load_drafter
from foredraft.loading.device import resolve_device
from foredraft.threads import fit_threads
from foredraft.zoo import bundled_path

SPECULATIVE, NASD, HYBRID = "speculative", "nasd", "hybrid"
ASSISTED, ASSISTED_BEST = "transformers_assisted", "transformers_assisted_best"
PROMPT_LOOKUP = "transformers_prompt_lookup"
LLAMACPP, LLAMACPP_LOOKUP = "llamacpp", "llamacpp_lookup"
LOOKUP_TOKENS = 10  # what transformers' documents and llama.cpp's binding use
GAMMAS = range(1, 7)  # draft lengths among which the best fixed one is chosen, ours and theirs
TUNING_ROUNDS = 2
WITH_DRAFTER = {SPECULATIVE, HYBRID, ASSISTED, ASSISTED_BEST}
FOR_LLAMACPP = ("llama_cpp", "gguf")


@dataclass(frozen=True)
class Setting:
    """What is the same for all methods, and what each is told."""

    device: str = "auto"  # as for `LoadOptions`
    dtype: str = "float32"  # `float32` or `bfloat16`
    gamma: int = 0  # draft length of Speculative; 0 takes the quickest on the tuning prompts
    nasd_gamma: int = 8  # draft length of NASD
    padded: int | None = None  # parameters of a padded target; None takes the bundled one

    def options(self, runtime: str) -> LoadOptions:
        """Return how models are loaded for a runtime."""
        return LoadOptions(device=self.device, dtype=self.dtype, runtime=runtime)


def is_cuda(setting: Setting) -> bool:
    """Whether a setting computes on a CUDA device."""
    return resolve_device(setting.device).type == "cuda"


def why_no_llamacpp(setting: Setting) -> str:
    """Return why llama.cpp is left out; empty if it is not."""
    if not all(importlib.util.find_spec(name) for name in FOR_LLAMACPP):
        return (
            "its Python binding is not installed; build it with: uv sync --extra llamacpp "
            "(from source, 10 to 20 minutes)"
        )
    import llama_cpp

    if is_cuda(setting) and not llama_cpp.llama_supports_gpu_offload():
        return "its Python binding was built without CUDA; see the binding's page on CMAKE_ARGS"
    return ""


def names(setting: Setting) -> list[str]:
    """Return every method there is here, Target AR first."""
    ours = [BASELINE, SPECULATIVE, NASD, HYBRID]
    theirs = [PEER, ASSISTED, ASSISTED_BEST, PROMPT_LOOKUP]
    has_llamacpp = not why_no_llamacpp(setting)
    return ours + theirs + ([LLAMACPP, LLAMACPP_LOOKUP] if has_llamacpp else [])


class Contenders:
    """Runs of the methods of one comparison; only models of those that are wanted are loaded.

    The GGUF file is made in the folder, unless it is there.
    """

    def __init__(self, setting: Setting, folder: Path, wanted: list[str]) -> None:
        self.setting, self._folder, self._wanted = setting, folder, wanted
        self.assistant_tokens = 0  # of the best fixed setting; 0: not chosen yet
        self.gamma = setting.gamma  # of Speculative; 0: not chosen yet

    @cached_property
    def engine(self) -> Engine:
        """Our engine; without a draft model if no wanted method has one."""
        target = self._target("auto")
        if not WITH_DRAFTER & set(self._wanted):
            return Engine(target)
        return Engine(target, load_drafter("bundled", target, self.setting.options("auto")))

    @cached_property
    def theirs(self) -> LoadedModel:
        """The target as a Hugging Face module."""
        return self._target("transformers")

    def _target(self, runtime: str) -> LoadedModel:
        options, padded = self.setting.options(runtime), self.setting.padded
        if padded:
            target = padded_target(padded, options=options)
        else:
            target = load("bundled", "target", options)
        fit_threads(target.threads)
        return target

    @cached_property
    def assistant(self) -> Any:
        """The bundled drafter as a Hugging Face module."""
        options = self.setting.options("transformers")
        return module_of(load_drafter("bundled", self.theirs, options))

    def run(self, name: str) -> Run:
        """Return the run of a method."""
        if name in self._our_methods:
            method, config = self._our_methods[name]
            return our_run(self.engine, method, config)
        if name in (ASSISTED, ASSISTED_BEST):
            return self._assisted_run(self.assistant_tokens if name == ASSISTED_BEST else None)
        if name in (LLAMACPP, LLAMACPP_LOOKUP):
            return self._llamacpp_run(LOOKUP_TOKENS if name == LLAMACPP_LOOKUP else 0)
        lookup = {"prompt_lookup_num_tokens": LOOKUP_TOKENS} if name == PROMPT_LOOKUP else {}
        return peer_run(self.theirs, **lookup)

    @property
    def _our_methods(self) -> dict[str, tuple[str, DecodingConfig]]:
        setting = self.setting
        config = DecodingConfig(gamma=self.gamma or GAMMAS[0])
        return {
            BASELINE: ("target", config),
            SPECULATIVE: ("speculative", config),
            NASD: ("ngram", config.replace(gamma=setting.nasd_gamma, stop_if_unknown=True)),
            HYBRID: ("speculative", config.replace(drafting="hybrid(suffix, model)")),
        }

    def choose_assistant_tokens(self, tuning: Sequence[PromptItem]) -> dict[int, float]:
        """Choose the quickest fixed setting of assisted generation; return tokens/s for each."""
        speeds = _speeds({k: self._assisted_run(k) for k in GAMMAS}, tuning)
        self.assistant_tokens = max(speeds, key=speeds.__getitem__)
        return speeds

    def choose_gamma(self, tuning: Sequence[PromptItem]) -> dict[int, float]:
        """Choose the quickest draft length of Speculative in the same way, if none was given."""
        if self.gamma:
            return {}
        runs = {k: our_run(self.engine, "speculative", DecodingConfig(gamma=k)) for k in GAMMAS}
        speeds = _speeds(runs, tuning)
        self.gamma = max(speeds, key=speeds.__getitem__)
        return speeds

    def _assisted_run(self, fixed: int | None) -> Run:
        """Return assisted generation with its defaults, or with a fixed number of tokens."""
        config = copy.deepcopy(self.assistant.generation_config)
        if fixed is not None:
            config.update(
                num_assistant_tokens=fixed,
                num_assistant_tokens_schedule="constant",
                assistant_confidence_threshold=0.0,
            )
        generate = peer_run(self.theirs, assistant=self.assistant)

        def run(item: PromptItem, clock: Clock) -> list[int]:
            self.assistant.generation_config = config  # one module serves all settings
            return generate(item, clock)

        return run

    def _llamacpp_run(self, lookup: int) -> Run:
        from llamacpp import llamacpp_run  # imports an optional package

        tokenizer = AutoTokenizer.from_pretrained(bundled_path("target"))
        cuda, dtype = is_cuda(self.setting), self.setting.dtype
        return llamacpp_run(self.gguf, tokenizer, cuda=cuda, dtype=dtype, lookup=lookup)

    @cached_property
    def gguf(self) -> Path:
        """The target's weights in llama.cpp's format."""
        path = self._folder / "target.gguf"
        if not path.is_file():
            from llamacpp import write_gguf

            write_gguf(module_of(self.theirs), self.theirs.tokenizer, path)
        return path


def _speeds(runs: dict[int, Run], tuning: Sequence[PromptItem]) -> dict[int, float]:
    """Return the tokens per second of settings over some prompts together."""
    measured = measure({str(k): run for k, run in runs.items()}, tuning, TUNING_ROUNDS)
    sums = {k: measured.samples[str(k)] for k in runs}
    return {k: sum(len(s.tokens) for s in d) / sum(s.seconds for s in d) for k, d in sums.items()}
