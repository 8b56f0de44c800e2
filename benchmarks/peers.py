"""Our methods beside transformers' and llama.cpp's: same weights, prompts, dtype and machine.

How it is measured: see `side_by_side.py`; what the methods are: see `contenders.py`. Greedy; every
text is compared with Target AR's. Figures are medians over prompts, in brackets their bootstrap
95 % intervals. Peak memory is that of a process of its own that runs one method on one prompt,
loading included.

    uv run python benchmarks/peers.py --quick        # a few minutes on two cores
    uv run python benchmarks/peers.py --save         # all prompts; writes benchmarks/results/
    uv run python benchmarks/peers.py --device cuda --dtype bfloat16 --padded 1e9
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import contenders as c
import tables
from side_by_side import (
    BASELINE,
    PEER,
    Measured,
    differences,
    measure,
    median_of,
    ratio,
    same_text,
    sample,
)
from tables import markdown

from foredraft import ForedraftError
from foredraft.bench.analysis import ALL
from foredraft.bench.machine import PeakMemory, describe_machine, place
from foredraft.bench.prompt_sets import KINDS, PromptItem, load_prompts

RATIOS = (  # ours, theirs
    (BASELINE, PEER),
    (c.SPECULATIVE, c.ASSISTED_BEST),
    (c.SPECULATIVE, c.ASSISTED),
    (c.SPECULATIVE, BASELINE),
    (c.NASD, c.PROMPT_LOOKUP),
    (c.NASD, BASELINE),
    (c.HYBRID, BASELINE),
    (BASELINE, c.LLAMACPP),
    (c.SPECULATIVE, c.LLAMACPP),
    (c.NASD, c.LLAMACPP_LOOKUP),
)
QUICK = {"rounds": 2, "prompts": 4, "length": 48}
FULL = {"rounds": 3, "prompts": 8, "length": 64}
QUICKEST = "the quickest on the tuning prompts (tokens/s by number of tokens: "
NOTHING = "nothing"  # a process that imports everything and loads no model


def chosen_prompts(each: int, length: int) -> tuple[list[PromptItem], list[PromptItem]]:
    """Return the first prompts of each kind, and the last one, for settings chosen beforehand."""
    kinds = [load_prompts([kind], max_length=length) for kind in KINDS]
    return [one for kind in kinds for one in kind[:-1][:each]], [kind[-1] for kind in kinds]


def of_kind(measured: Measured, *kinds: str) -> Measured:
    """Return what was measured on the prompts of some kinds, or on all."""
    count = len(measured.prompts)
    wanted = [i for i, item in enumerate(measured.prompts) if {item.kind, ALL} & set(kinds)]
    samples = {
        name: [s for i, s in enumerate(found) if i % count in wanted]
        for name, found in measured.samples.items()
    }
    return Measured([measured.prompts[i] for i in wanted], samples)


def method_rows(measured: Measured, run: c.Contenders, memory: dict[str, Any]) -> list[Any]:
    """Return each method's speeds, time to first token, memory, and how often its text differs."""
    count = len(measured.prompts)
    return [
        {
            "method": name,
            "tokens_per_second": median_of(measured.speeds(name), count),
            "decode_tokens_per_second": median_of(measured.speeds(name, decode=True), count),
            "time_to_first_token_seconds": median_of([s.first_seconds for s in samples], count),
            "peak_memory_bytes": memory.get(name),
            **differences(measured, name, run.engine),
        }
        for name, samples in measured.samples.items()
    ]


def ratio_rows(
    measured: Measured, pairs: Sequence[tuple[str, str]] = RATIOS
) -> list[dict[str, Any]]:
    """Return the ratios between methods that were measured, a row a pair, kind and measure."""
    kinds = dict.fromkeys(item.kind for item in measured.prompts)
    return [
        {
            "ours": ours,
            "theirs": theirs,
            "kind": kind,
            "decode_only": decode,
            **ratio(of_kind(measured, kind), ours, theirs, decode=decode),
        }
        for decode in (False, True)
        for ours, theirs in pairs
        if {ours, theirs} <= measured.samples.keys()
        for kind in (*kinds, ALL)
    ]


def peak_memory(names: list[str], arguments: list[str]) -> dict[str, Any]:
    """Run each method in a process of its own; return the most bytes that it held."""

    def ask(name: str) -> dict[str, Any]:
        command = [sys.executable, __file__, *arguments, "--memory-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"failed": done.stderr.strip().split("\n")[-1]}
        found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
        return found

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def own_memory(run: c.Contenders, name: str) -> dict[str, int | None]:
    """Run one method on one prompt; return the most bytes this process and its device held."""
    memory = PeakMemory()
    if name != NOTHING:
        sample(run.run(name), load_prompts(max_prompts=1, max_length=QUICK["length"])[0])
    return dict(zip(("process", "cuda"), memory.peaks(), strict=True))


def ratio_table(rows: list[dict[str, Any]], *, decode: bool) -> str:
    """Return a table of ratios, a column a kind."""
    table: dict[str, dict[str, Any]] = {}
    for r in (r for r in rows if r["decode_only"] == decode):
        pair = f"{r['ours']} / {r['theirs']}"
        table.setdefault(pair, {"ratio of tokens/s": pair})[r["kind"]] = r
    return markdown(list(table.values()), "{:.2f}")


def compare(run: c.Contenders, args: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Measure everything; return all figures."""
    names = c.names(run.setting)
    why = c.why_no_llamacpp(run.setting)
    print(f"llama.cpp: left out; {why}" if why else "", flush=True)
    prompts, tuning = chosen_prompts(args.prompts, args.length)
    ours, theirs = run.choose_gamma(tuning), run.choose_assistant_tokens(tuning)
    measured = measure({name: run.run(name) for name in names}, prompts, args.rounds)
    told = [*arguments, "--folder", str(args.folder)]
    told += ["--assistant-tokens", str(run.assistant_tokens), "--gamma", str(run.gamma)]
    memory = {} if args.no_memory else peak_memory([NOTHING, *names], told)
    return {
        "machine": describe_machine(),
        "target": run.engine.target.name,
        "setting": asdict(run.setting)
        | {"rounds": args.rounds, "prompts": len(prompts), "length": args.length},
        "tuning": {
            "tokens_per_second": theirs,
            "assistant_tokens": run.assistant_tokens,
            "gamma": run.gamma,
            "our_tokens_per_second": ours,
        },
        "scikit_learn": importlib.util.find_spec("sklearn") is not None,
        "memory_of_imports": memory.get(NOTHING),
        "methods": method_rows(measured, run, memory),
        "ratios": ratio_rows(measured),
    }


def _speeds(tuning: dict[int, float]) -> str:
    return ", ".join(f"{k}: {v:.0f}" for k, v in tuning.items())


def _told(peaks: dict[str, Any] | None) -> str:
    return ", ".join(f"{k} {v}" for k, v in (peaks or {}).items() if v is not None) or "–"


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    setting, tuning = found["setting"], found["tuning"]
    theirs, ours = map(_speeds, (tuning["tokens_per_second"], tuning["our_tokens_per_second"]))
    adapts = "adapts" if found["scikit_learn"] else "stays fixed (scikit-learn is not installed)"
    about = [
        f"Target: {found['target']}; {setting['dtype']}; {setting['prompts']} prompts × "
        f"{setting['rounds']} rounds, up to {setting['length']} tokens, greedy.",
        f"Speculative drafts {tuning['gamma']} tokens"
        + (f", {QUICKEST}{ours})" if ours else "")
        + f"; NASD up to {setting['nasd_gamma']}, only what it knows.",
        f"{c.ASSISTED}: transformers' defaults, whose confidence threshold {adapts}.",
        f"{c.ASSISTED_BEST}: num_assistant_tokens {tuning['assistant_tokens']}, constant, no "
        f"threshold, {QUICKEST}{theirs}).",
        f"{c.PROMPT_LOOKUP}: {c.LOOKUP_TOKENS} tokens.",
        f"Machine: {place(found)}.",
        f"Memory of a process that imports everything: {_told(found['memory_of_imports'])}.",
    ]
    methods = [
        row | {"texts": same_text(row), "peak_memory_bytes": _told(row["peak_memory_bytes"])}
        for row in found["methods"]
    ]
    parts = [
        "\n".join(f"- {line}" for line in about),
        markdown(methods),
        "Ratios on whole generations:",
        ratio_table(found["ratios"], decode=False),
        "Ratios of decoding alone, without prompt and first token:",
        ratio_table(found["ratios"], decode=True),
    ]
    return "\n\n".join(parts)


def parser_of() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = tables.parser_of(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer, shorter texts: " + str(QUICK))
    add("--rounds", type=int, help=f"passes over the prompts [{FULL['rounds']}]")
    add("--prompts", type=int, help=f"prompts of each kind [{FULL['prompts']}]")
    add("--length", type=int, help=f"most tokens a prompt [{FULL['length']}]")
    add("--gamma", type=int, default=0, help="draft length of Speculative [the quickest]")
    add("--nasd-gamma", type=int, default=c.Setting().nasd_gamma, help="of NASD [%(default)s]")
    tables.add_setting_flags(parser, "peers")
    add("--no-memory", action="store_true", help="leave peak memory out")
    # For the processes that measure memory.
    add("--memory-of", help=argparse.SUPPRESS)
    add("--assistant-tokens", type=int, default=0, help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def setting_of(args: argparse.Namespace) -> c.Setting:
    """Return the setting that the flags ask for."""
    padded = int(args.padded) if args.padded else None
    return c.Setting(args.device, args.dtype, args.gamma, args.nasd_gamma, padded)


def main(arguments: list[str]) -> None:
    """Measure and print the tables, then one JSON line."""
    parser = parser_of()
    args = parser.parse_args(arguments)
    for name, value in (QUICK if args.quick else FULL).items():
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    tables.check_least(parser, args, rounds=1, prompts=1, length=1)
    with tempfile.TemporaryDirectory() as folder:
        args.folder = args.folder or Path(folder)
        setting = setting_of(args)
        try:
            wanted = [args.memory_of] if args.memory_of else c.names(setting)
            run = c.Contenders(setting, args.folder, wanted)
            run.assistant_tokens = args.assistant_tokens
            if args.memory_of:
                print(json.dumps(own_memory(run, args.memory_of)))
                return
            found = compare(run, args, arguments)
        except ForedraftError as error:
            parser.error(str(error))
    title = "Our methods beside other people's"
    tables.end("peers", title, rendered(found), found, is_kept=args.save)


if __name__ == "__main__":
    main(sys.argv[1:])
