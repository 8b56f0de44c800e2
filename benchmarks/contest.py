"""The processes that `real.py` compares: who takes part, who is left out and why, whose turn it is.

Each contender is a process of its own with `real_worker.py`, in the environment of its package.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_ours import AUTO, METHODS, PLAIN
from side_by_side import Measured, Sample
from transformers import PreTrainedTokenizerBase
from worker import Answer, Worker

from foredraft.bench.prompt_sets import PromptItem

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("real_worker.py")
PEERS = "FOREDRAFT_PEERS"  # the folder of the peers' environments
GREEDY, NUCLEUS = "greedy", "nucleus"
TRANSFORMERS, LLAMACPP, OPENVINO = "transformers", "llamacpp", "openvino"
OUTSIDE = (LLAMACPP, OPENVINO)  # in environments of their own
PACKAGES = {LLAMACPP: "llama-cpp-python", OPENVINO: "openvino-genai"}
CONTENDERS: dict[str, dict[str, Any]] = {  # what each worker is told, Target AR first
    **{name: {"kind": "ours", "method": name} for name in METHODS},
    **{
        kind + ending: {"kind": kind, "lookup": bool(ending)}
        for kind in (TRANSFORMERS, *OUTSIDE)
        for ending in ("", "_lookup")
    },
}
# Seconds before each text: threads of the contender before wait busily for some milliseconds.
PAUSE = 0.05
DRAFTS = (2, 4, 8)  # draft lengths among which each that drafts gets its quickest, ours and theirs


def drafts(name: str) -> bool:
    """Whether a contender drafts by a length that it is given."""
    told = CONTENDERS[name]
    return bool(told.get("lookup", name not in (PLAIN, AUTO)))


def python_of(kind: str) -> str:
    """Return the interpreter of a contender's environment.

    Raises:
        FileNotFoundError: the environment is not there; how to make it.
    """
    if kind not in OUTSIDE:
        return sys.executable
    folder = Path(os.environ.get(PEERS) or ROOT / "runs/peers") / kind
    for inside in ("bin/python", "Scripts/python.exe"):
        if (folder / inside).is_file():
            return str(folder / inside)
    place = folder if os.environ.get(PEERS) else folder.relative_to(ROOT)
    raise FileNotFoundError(
        f"there is no environment {place}; make it: uv venv {place} && "
        f"uv pip install --python {place} {PACKAGES[kind]}"
    )


@dataclass
class Contest:
    """Contenders whose models are loaded.

    Attributes:
        told: what every worker is told: `path`, `model`, `threads`.
        tokenizer: of the model; its chat template makes everybody's prompts.
        workers: by the names of their contenders, in the order of `CONTENDERS`.
        left_out: why others are not there, by name.
        drafts: the draft length of each that drafts, 0 of the others.
        memory: the most bytes that each has held.
        prompt_tokens: how many tokens each made of the same prompts.
    """

    told: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase
    workers: dict[str, Worker] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    drafts: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int | None] = field(default_factory=dict)
    prompt_tokens: dict[str, list[int]] = field(default_factory=dict)
    _texts: int = 0

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.workers.values():
            one.close()

    def start(self, name: str, **more: Any) -> Worker:
        """Return a new process of a contender, or raise why there is none."""
        told = self.told | CONTENDERS[name] | more
        return Worker([python_of(told["kind"]), str(PROGRAM), json.dumps(told)])

    def begin(self, names: Sequence[str]) -> None:
        """Start contenders, two at a time; note who cannot be started."""
        with ThreadPoolExecutor(2) as pool:
            started = {name: pool.submit(self.start, name) for name in names}
        for name, future in started.items():
            why = future.exception()
            if why is None:
                self.workers[name] = future.result()
                self.drafts[name] = DRAFTS[1] if drafts(name) else 0
            elif isinstance(why, FileNotFoundError | SystemExit):
                self.left_out[name] = str(why)
            else:
                raise why

    def text(self, item: PromptItem) -> str:
        """Return a prompt as users of the model send it: through its chat template, if any."""
        self._texts += 1
        if not self.tokenizer.chat_template:
            return item.prompt
        messages = [{"role": "user", "content": item.prompt}]
        tokenizer = self.tokenizer
        text = str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )
        begins = tokenizer.encode("a")[0] == tokenizer.bos_token_id  # then everybody adds its own
        return text.removeprefix(str(tokenizer.bos_token)) if begins else text

    def ask(self, name: str, text: str, length: int, sampler: str = GREEDY) -> Answer:
        """Have a contender generate, once the threads of the one before have gone to sleep."""
        time.sleep(PAUSE)
        request = {"prompt": text, "length": length, "sampler": sampler, "seed": self._texts}
        found = self.workers[name].ask(request | {"draft": self.drafts[name]})
        if "failed" not in found:
            self.memory[name] = found["peak_bytes"]
        return found

    def warm_up(self, item: PromptItem, samplers: Sequence[str]) -> dict[str, list[str]]:
        """Have everybody generate a little; return who can with each sampler."""
        can: dict[str, list[str]] = {}
        for sampler in samplers:
            text = self.text(item)
            found = {name: self.ask(name, text, 16, sampler) for name in self.workers}
            can[sampler] = [name for name, answer in found.items() if "failed" not in answer]
            for name in self.workers.keys() - can[sampler]:
                self.left_out[f"{name}, {sampler}"] = found[name]["failed"]
        return can

    def choose_drafts(self, names: Sequence[str], items: Sequence[PromptItem]) -> dict[str, Any]:
        """Give each that drafts the length with which it is quickest; return all speeds."""
        speeds: dict[str, dict[int, float]] = {name: {} for name in names if drafts(name)}
        for count in DRAFTS:
            for name in speeds:
                self.drafts[name] = count
            found = self.measure(list(speeds), items, GREEDY, 1) if speeds else None
            for name in speeds:
                samples = found.samples[name] if found else []
                tokens = sum(len(one.tokens) for one in samples)
                speeds[name][count] = tokens / sum(one.seconds for one in samples)
        for name, by_count in speeds.items():
            self.drafts[name] = max(by_count, key=by_count.__getitem__)
        return speeds

    def measure(
        self, names: Sequence[str], items: Sequence[PromptItem], sampler: str, rounds: int
    ) -> Measured:
        """Have contenders generate in turns, each prompt with all before the next."""
        samples: dict[str, list[Sample]] = {name: [] for name in names}
        for turn in range(rounds * len(items)):
            item = items[turn % len(items)]
            text = self.text(item)
            for name in rotated(names, turn):
                samples[name].append(self._sample(name, text, item.length, sampler))
        return Measured(items, samples)

    def _sample(self, name: str, text: str, length: int, sampler: str) -> Sample:
        found = self.ask(name, text, length, sampler)
        if "failed" in found:
            raise SystemExit(f"{name} failed in the middle: {found['failed']}")
        self.prompt_tokens.setdefault(name, []).append(found["prompt_tokens"])
        keys = ("tokens", "seconds", "first_seconds", "num_first")
        return Sample(*(found[key] for key in keys))


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Return names in the order of a turn: each is first in its turn."""
    begin = turn % max(1, len(names))
    return [*names[begin:], *names[:begin]]
