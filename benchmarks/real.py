"""A real model in one file: our methods beside transformers, llama.cpp and OpenVINO GenAI.

SmolLM2-135M-Instruct in 4 bits (or Gemma 3 270M) answers prompts of five kinds through its chat
template, greedily and with nucleus sampling. Every contender is a process that loads the same file
once; they answer the same prompt in turns, in an order that rotates, with as many threads as this
process may use. Figures are medians over prompts, in brackets their bootstrap 95 % intervals.
Whoever drafts has the draft length with which it was quickest on other prompts. Nobody keeps the
keys and values of a prompt for the next round: where a peer would, that is switched off.

The model comes with `python scripts/real_models.py smollm2`. The peers live in environments of
their own, in `runs/peers/` or where FOREDRAFT_PEERS says; one that is absent is left out by name:

    uv venv runs/peers/llamacpp && uv pip install --python runs/peers/llamacpp llama-cpp-python
    uv venv runs/peers/openvino && uv pip install --python runs/peers/openvino openvino-genai

    uv run python benchmarks/real.py --quick   # the bounds, each beside what it is here: minutes
    uv run python benchmarks/real.py --save    # everything; keeps benchmarks/results/real.{json,md}
    uv run python benchmarks/real.py --chat --save  # the head on questions nobody trained on
    uv run python benchmarks/real.py --controls  # penalties, JSON, predictions: see controlled.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import bounds
import tables
from contest import CONTENDERS, GREEDY, LLAMACPP, NUCLEUS, OPENVINO, OUTSIDE, TRANSFORMERS, Contest
from controlled import measure_controls
from peers import ratio_rows, ratio_table
from real_ours import AUTO, HEAD, HYBRID, LOOKUP, METHODS, NASD, PLAIN, SUFFIX
from real_worker import TEMPERATURE, TOP_P
from side_by_side import Measured, median_of
from tables import markdown

from foredraft import ForedraftError
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem, load_prompts
from foredraft.loading.loader import load_tokenizer
from foredraft.loading.named import resolve_name
from foredraft.threads import usable_threads

PROMPTS = Path(__file__).parent / "prompts" / "real.jsonl"
CHAT = PROMPTS.with_name("chat.jsonl")  # nothing was trained on them
MEGABYTE = 1_000_000
PAIRS = (  # ours, theirs
    *((PLAIN, peer) for peer in (TRANSFORMERS, LLAMACPP, OPENVINO)),
    *((name, PLAIN) for name in (NASD, SUFFIX, LOOKUP, HYBRID, HEAD, AUTO)),
    *((AUTO, peer) for peer in (TRANSFORMERS, LLAMACPP, OPENVINO)),
    *((SUFFIX, f"{peer}_lookup") for peer in (TRANSFORMERS, LLAMACPP, OPENVINO)),
    *((f"{peer}_lookup", peer) for peer in (TRANSFORMERS, LLAMACPP, OPENVINO)),
)
QUICK = {"rounds": 2, "prompts": 2, "length": 128, "repeats": 5}
FULL = {"rounds": 3, "prompts": 3, "length": 128, "repeats": 9}
IN_CHAT = {"rounds": 2, "prompts": 24, "length": 128, "repeats": 5}
TALKING = (PLAIN, SUFFIX, HEAD, AUTO, *(f"{p}{e}" for p in OUTSIDE for e in ("", "_lookup")))


def chosen_prompts(file: Path, each: int, length: int) -> tuple[list[PromptItem], list[PromptItem]]:
    """Return the first prompts of each kind, and the last one, for draft lengths."""
    items = load_prompts([str(file)], max_length=length)
    kinds = dict.fromkeys(item.kind for item in items)
    by_kind = [[item for item in items if item.kind == kind] for kind in kinds]
    return [one for kind in by_kind for one in kind[:-1][:each]], [kind[-1] for kind in by_kind]


def rows(measured: Measured, contest: Contest, sampler: str) -> list[dict[str, Any]]:
    """Return each contender's speeds, time to first token, memory, and whether its text is ours."""
    count = len(measured.prompts)
    return [
        {
            "contender": name,
            "draft": contest.drafts[name] or None,
            "tokens_per_second": median_of(measured.speeds(name), count),
            "decode_tokens_per_second": median_of(measured.speeds(name, decode=True), count),
            "time_to_first_token_ms": median_of([1e3 * s.first_seconds for s in samples], count),
            "peak_memory_mb": megabytes(contest.memory[name]),
            "of_imports_mb": megabytes(contest.workers[name].started["import_bytes"]),
            **(alike(measured, name) if sampler == GREEDY else {}),
        }
        for name, samples in measured.samples.items()
    ]


def megabytes(size: int | None) -> int | None:
    """Return a size as a table shows it; None where nobody knows it."""
    return None if size is None else round(size / MEGABYTE)


def alike(measured: Measured, name: str) -> dict[str, Any]:
    """Count the texts that are plain decoding's, and the tokens until the median one differs."""
    pairs = zip(measured.samples[name], measured.samples[PLAIN], strict=True)
    texts = [(ours.tokens, plain.tokens) for ours, plain in pairs]
    same = sum(ours == plain for ours, plain in texts)
    return {
        "texts_of_plain": f"{same}/{len(texts)}",
        "first_tokens_of_plain": median(common(ours, plain) for ours, plain in texts),
    }


def common(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return how many tokens two texts begin with alike."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def unequal(measured: Measured) -> list[str]:
    """Return which of our methods wrote another greedy text than plain decoding: none may."""
    texts = {name: [s.tokens for s in measured.samples[name]] for name in measured.samples}
    return [name for name in METHODS if name in texts and texts[name] != texts[PLAIN]]


def notes(found: dict[str, Any]) -> list[str]:
    """Return what must be known to read the figures."""
    setting = found["setting"]
    versions = ", ".join(dict.fromkeys(found["versions"].values()))
    odd = found["texts_unequal"]
    lines = [
        f"Model: {setting['model']}; {setting['prompts']} prompts × {setting['rounds']} rounds, up "
        f"to {setting['length']} tokens, {setting['threads']} threads.",
        f"Machine: {place(found)}.",
        f"Contenders: {versions}.",
        "Greedy texts of our methods: "
        + (f"{', '.join(odd)} DIFFER" if odd else "all alike")
        + ".",
        *(f"Left out: {name}: {why}." for name, why in found["left_out"].items()),
    ]
    if found["prompts_unlike"]:
        lines.append(f"Other prompt tokens than ours: {', '.join(found['prompts_unlike'])}.")
    return [f"- {line}" for line in lines]


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    parts = ["\n".join(notes(found))]
    if found["bounds"]:
        parts.append(markdown(found["bounds"], "{:.2f}"))
    for sampler, one in found["samplers"].items():
        name = f"nucleus({TEMPERATURE}, {TOP_P})" if sampler == NUCLEUS else sampler
        parts += [f"{name}:", markdown(one["contenders"])]
        parts += [
            part
            for decode, words in ((False, "whole generations"), (True, "decoding alone"))
            if one["ratios"]
            for part in (f"Ratios of {words}:", ratio_table(one["ratios"], decode=decode))
        ]
    return "\n\n".join(parts)


def compare(contest: Contest, args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return all figures."""
    prompts, tuning = chosen_prompts(CHAT if args.chat else PROMPTS, args.prompts, args.length)
    names = bounds.TAKING_PART if args.quick else TALKING if args.chat else tuple(CONTENDERS)
    contest.begin([name for name in CONTENDERS if name in names])
    can = contest.warm_up(prompts[0], [GREEDY] if args.quick else [GREEDY, NUCLEUS])
    if PLAIN not in can[GREEDY]:
        raise SystemExit(f"{PLAIN}: {contest.left_out}")
    wanted = bounds.COPIED if args.quick else {item.kind for item in tuning}
    speeds = contest.choose_drafts(can[GREEDY], [one for one in tuning if one.kind in wanted])
    contest.prompt_tokens.clear()
    measured = {
        sampler: contest.measure(able, prompts, sampler, args.rounds)
        for sampler, able in can.items()
    }
    counts = contest.prompt_tokens
    return {
        "machine": describe_machine(),
        "setting": {key: contest.told[key] for key in ("model", "threads")}
        | {"prompts": len(prompts), "rounds": args.rounds, "length": args.length},
        "versions": {name: one.started["version"] for name, one in contest.workers.items()},
        "left_out": contest.left_out,
        "tuning": speeds,
        "bounds": [one.row() for one in found_bounds(contest, measured, args)],
        "texts_unequal": unequal(measured[GREEDY]),
        "prompts_unlike": [name for name in can[GREEDY] if counts[name] != counts[PLAIN]],
        "samplers": {
            sampler: {"contenders": rows(one, contest, sampler), "ratios": ratio_rows(one, PAIRS)}
            for sampler, one in measured.items()
        },
    }


def found_bounds(
    contest: Contest, measured: dict[str, Measured], args: argparse.Namespace
) -> list[bounds.Bound]:
    """Return the bounds of the model for which they are set."""
    are_set = args.model == "smollm2" and not args.chat
    return bounds.bounds(contest, measured[GREEDY], args.repeats) if are_set else []


def parser_of() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = tables.parser_of(__doc__)
    add = parser.add_argument
    add("model", nargs="?", default="smollm2", help="a GGUF model by its name [%(default)s]")
    add("--quick", action="store_true", help="the bounds alone, greedy: " + str(QUICK))
    add("--chat", action="store_true", help="open questions, where a head drafts: " + str(IN_CHAT))
    add("--controls", action="store_true", help="ours alone, under controls: see controlled.py")
    for name, words in {
        "rounds": "passes over the prompts",
        "prompts": "prompts of each kind",
        "length": "most tokens a text",
        "repeats": "starts, and prompts of 256 tokens",
    }.items():
        add(f"--{name}", type=int, help=f"{words} [{FULL[name]}]")
    add("--save", action="store_true", help="write benchmarks/results/real.{json,md}")
    add("--out", type=Path, metavar="FILE", help="write FILE, which ends in .json, and its .md")
    return parser


def main(arguments: list[str]) -> None:
    """Measure and print the tables, then one JSON line."""
    parser = parser_of()
    args = parser.parse_args(arguments)
    for name, value in (QUICK if args.quick else IN_CHAT if args.chat else FULL).items():
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    tables.check_least(parser, args, rounds=1, prompts=1, length=2, repeats=1)
    if args.controls:
        measure_controls(args.model, rounds=args.rounds, each=args.prompts, is_kept=args.save)
        return
    try:
        told = {"model": args.model, "path": resolve_name(args.model)}
        tokenizer = load_tokenizer(args.model)
    except ForedraftError as error:
        parser.error(str(error))
    with Contest(told | {"threads": usable_threads()}, tokenizer) as contest:
        found = compare(contest, args)
    text = rendered(found)
    print(text)
    ending = "-quick" if args.quick else "-chat" if args.chat else ""
    out = args.out or (tables.RESULTS / f"real{ending}.json" if args.save else None)
    if out is not None:
        title = "A real model: our methods beside other people's"
        tables.keep(out, found, f"# {title}\n\nMade by `benchmarks/real.py`.\n\n{text}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
