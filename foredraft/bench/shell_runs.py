"""`python -m foredraft.bench.shell_runs`: the four documented experiments, through the shell.

The shell is another process that gets its commands line by line and saves each result with `/save`;
what it saved becomes one CSV row a method and prompt. `scripts/run_ablation.*` call this.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foredraft.bench.measure import text_hash
from foredraft.bench.prompt_sets import load_prompts
from foredraft.bench.rows import cell_of
from foredraft.errors import ConfigError, ForedraftError, quoted
from foredraft.escape import for_line
from foredraft.files import Json, lines_of, read_lines, reason_of, write_whole, writing

RUNNER = "uv run infer.py --device cuda"
OUT = Path("scripts/ablation_results.csv")
PROMPTS_A_KIND = 3
ALL_OFF = ("/speculative off", "/ngram off", "/target off", "/drafter off")


@dataclass(frozen=True)
class ShellExperiment:
    """One documented experiment."""

    name: str  # in the column `method`
    commands: tuple[str, ...]  # what switches it on, after every method is off


EGAG = ("/egag_gamma_max 6", "/egag_gamma_min 1", "/egag_ema 0.9")
EXPERIMENTS = (
    ShellExperiment("Target AR", ("/target on",)),
    ShellExperiment("Speculative", ("/speculative on", "/egag off", "/gamma 4")),
    ShellExperiment("EGAG", ("/speculative on", *EGAG, "/egag on")),
    ShellExperiment("NASD", ("/ngram on", "/set_ngramstorage basic 3", "/top_k_filler 3")),
)
SHOWN = {  # column → its head on a terminal
    "throughput_tokens_per_second": "tokens/s",
    "latency_seconds": "latency s",
    "acceptance_rate": "acceptance",
    "mean_acceptance_length": "tokens/step",
    "mean_gamma": "mean gamma",
    "mean_normalized_entropy": "mean H_norm",
    "num_emitted_tokens": "tokens",
}
SHELL_COLUMNS = ("method", "prompt", *SHOWN, "text_hash", "seed")
Row = dict[str, Json]  # column → value


def shell_lines(prompts: Sequence[str], folder: Path) -> list[str]:
    """Return what the shell is told: each experiment on each prompt, saved to a file of its own.

    Each experiment runs once before, unsaved: first passes pay for allocations, not for work.
    """
    lines = [line for e in EXPERIMENTS for line in (*ALL_OFF, *e.commands, prompts[0])]
    for number, prompt in enumerate(prompts):
        for experiment in EXPERIMENTS:
            lines += [*ALL_OFF, *experiment.commands, prompt]
            lines.append(f"/save {saved_file(folder, number, experiment)}")
    return lines


def saved_file(folder: Path, number: int, experiment: ShellExperiment) -> Path:
    """Return where the shell saves an experiment's result on a prompt."""
    return folder / f"{number}-{experiment.name.replace(' ', '-').lower()}.jsonl"


def run_shell(runner: Sequence[str], prompts: Sequence[str]) -> list[Row]:
    """Drive the shell, which a command opens, and return the rows.

    Raises:
        ConfigError: a prompt that is no prompt of the shell, or a shell that does not run.
    """
    for prompt in prompts:
        if not prompt.strip() or prompt.startswith("/") or "\n" in prompt.strip():
            raise ConfigError(
                f"a prompt must be one line that does not begin with '/', not {quoted(prompt)}"
            )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "\n".join([*shell_lines(prompts, folder), "/quit"]) + "\n"
        transcript = _run(runner, lines)
        return [
            _row(saved_file(folder, number, experiment), experiment, prompt, transcript)
            for number, prompt in enumerate(prompts)
            for experiment in EXPERIMENTS
        ]


def _run(runner: Sequence[str], lines: str) -> str:
    """Return all that the shell printed."""
    try:
        done = subprocess.run(
            runner, input=lines.encode("utf-8"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise ConfigError(f"cannot run {quoted(shlex.join(runner))}: {reason_of(error)}") from error
    transcript = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise ConfigError(
            f"{quoted(shlex.join(runner))} ended with exit code {done.returncode}: "
            f"{_last_error(transcript)}"
        )
    return transcript


def _last_error(transcript: str) -> str:
    lines = [line for line in lines_of(transcript) if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it printed nothing"])[-1]


def _row(file: Path, experiment: ShellExperiment, prompt: str, transcript: str) -> Row:
    if not file.exists():
        raise ConfigError(
            f"the shell saved no result for {experiment.name} on {quoted(prompt)}: "
            f"{_last_error(transcript)}"
        )
    _, line = read_lines(file)  # settings, then the one result
    found: Row = json.loads(line)
    seconds, emitted = found["total_seconds"], found["num_emitted_tokens"]
    derived = {
        "method": experiment.name,
        "prompt": prompt,
        "throughput_tokens_per_second": emitted / seconds if seconds else None,
        "latency_seconds": seconds,
        "text_hash": text_hash(found["text"]),
    }
    return {name: derived.get(name, found.get(name)) for name in SHELL_COLUMNS}


def write_csv(rows: Sequence[Row], out: Path) -> None:
    """Write the rows; a number that a method cannot give is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, SHELL_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({n: cell_of(v) if isinstance(v, str) else v for n, v in row.items()})
    with writing(out, "make room or allow it, or choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text.getvalue())


def table(rows: Sequence[Row]) -> str:
    """Return a table for a terminal: every method's means over the prompts."""
    lines = [f"{'method':<12}" + "".join(f"{head:>14}" for head in SHOWN.values())]
    for experiment in EXPERIMENTS:
        ours = [row for row in rows if row["method"] == experiment.name]
        cells = []
        for name in SHOWN:
            values = [row[name] for row in ours if row[name] is not None]
            cells.append(f"{sum(values) / len(values):>14.4g}" if values else f"{'–':>14}")
        lines.append(f"{experiment.name:<12}" + "".join(cells))
    return "\n".join(lines)


def default_prompts() -> list[str]:
    """Return the first prompts of each kind that fit on a line: those of the shell."""
    kinds = [load_prompts([kind]) for kind in ("dialogue", "translation", "long")]
    lines = [[item.prompt for item in kind if "\n" not in item.prompt] for kind in kinds]
    return [prompt for of_kind in lines for prompt in of_kind[:PROMPTS_A_KIND]]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, drive, write, print; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="run_ablation", description="The four documented experiments, through the shell."
    )
    parser.add_argument("--prompt", metavar="TEXT", help="one prompt [nine of three kinds]")
    parser.add_argument("--runner", metavar="COMMAND", default=RUNNER, help="[%(default)s]")
    parser.add_argument("--out", metavar="FILE", type=Path, default=OUT, help="[%(default)s]")
    args = parser.parse_args(argv)
    prompts = default_prompts() if args.prompt is None else [args.prompt]
    try:
        rows = run_shell(shlex.split(args.runner, posix=os.name != "nt"), prompts)
        write_csv(rows, args.out)
    except ForedraftError as error:
        print(f"error: {for_line(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(table(rows))
    print(f"\n{len(rows)} rows: {for_line(str(args.out))}")


if __name__ == "__main__":
    main()
