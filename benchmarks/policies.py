"""`auto` beside every fixed choice, every other rule and plain decoding, by kind of prompt.

What is compared was decided beforehand: `auto` with plain decoding, and with the best fixed choice
(drafter × length) of each kind, where that choice is the one that was quickest on *other* prompts
of the kind (two halves, each judged by the choice of the other). The oracle is the quickest of all
fixed choices on that very prompt, which nobody knows beforehand. Every prompt is run with every
method, greedily and with nucleus sampling, before the next prompt. Speeds are of whole
generations; a ratio is a geometric mean over prompts with its bootstrap 95 % interval.

    uv run python benchmarks/policies.py [--target bundled|smollm2|bundled-seq2seq] [--save]

On a processor with matrix tiles, again without them: CC="cc -DNO_TILES" uv run python …
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from side_by_side import Measured, Run, measure, our_run
from tables import RESULTS, check_least, keep, markdown, parser_of

from foredraft import DecodingConfig, Engine, ForedraftError
from foredraft.bench.intervals import compare
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import FRENCH, KINDS, PromptItem, load_prompts
from foredraft.threads import fit_threads

REAL = str(Path(__file__).parent / "prompts" / "real.jsonl")
SAMPLERS = {"greedy": "greedy", "nucleus": "nucleus(temperature=0.8, top_p=0.9)"}
PLAIN, AUTO, BEST, ORACLE, ALL = "plain", "auto", "best fixed", "oracle", "all"
LONGEST = 160  # tokens of a text
CONFIG = DecodingConfig()
SPECULATIVE, NASD = "speculative", "ngram"
Choice = tuple[str, DecodingConfig]  # method and settings


def drafting(spec: str, **settings: Any) -> Choice:
    """Return Speculative with a drafter."""
    return SPECULATIVE, CONFIG.replace(drafting=spec, **settings)


def fixed(spec: str, *lengths: int) -> dict[str, Choice]:
    """Return a drafter at several draft lengths."""
    return {f"{spec} {gamma}": drafting(spec, gamma=gamma) for gamma in lengths}


BOUNDS = "gamma_min=1, gamma_max=6, ema=0.9"
FIXED_MODEL = fixed("model", 1, 2, 3, 4, 6)
FIXED_COPIES = {
    **fixed("suffix", 2, 4, 8, 16),
    **fixed("prompt_lookup", 4, 8),
    **fixed("ngram", 4),
}
RULES_OF_COPIES = {
    AUTO: drafting("auto"),
    "suffix cost_aware": drafting("suffix", policy="cost_aware"),
    "bandit(plain, suffix, ngram)": drafting("bandit(plain, suffix, ngram)"),
    "NASD": (NASD, CONFIG),
}
RULES_OF_MODEL = {
    "cost_aware": drafting("model", policy="cost_aware"),
    "hybrid(suffix, model) 4": drafting("hybrid(suffix, model)"),
    "hybrid(suffix, model) cost_aware": drafting("hybrid(suffix, model)", policy="cost_aware"),
    "bandit": drafting("bandit"),
    "throughput": drafting("model", policy="throughput"),
    "asymmetric": drafting("model", policy="asymmetric"),
    "EGAG": drafting("model", egag=True, egag_gamma_min=1, egag_gamma_max=6, egag_ema=0.9),
    # What each change of EGAG's rule is worth, at EGAG's bounds; without either it is EGAG.
    "entropy_cost, in nats": drafting("model", policy=f"entropy_cost({BOUNDS}, priced=False)"),
    "entropy_cost, priced": drafting("model", policy=f"entropy_cost({BOUNDS}, calibrated=False)"),
    "entropy_cost": drafting("model", policy="entropy_cost"),
}


@dataclass(frozen=True)
class Contest:
    """Who takes part: fixed choices, and rules."""

    fixed: dict[str, Choice]
    rules: dict[str, Choice]

    @classmethod
    def of(cls, engine: Engine) -> Contest:
        """Return those that a pair can run."""
        if engine.drafter is None:
            return cls(FIXED_COPIES, RULES_OF_COPIES)
        return cls(FIXED_MODEL | FIXED_COPIES, RULES_OF_COPIES | RULES_OF_MODEL)

    def runs(self, engine: Engine, *, chat: bool) -> dict[str, Run]:
        """Return everybody under every sampler, by `sampler/name`."""
        everybody = {PLAIN: ("target", CONFIG)} | self.fixed | self.rules
        return {
            f"{sampler}/{name}": our_run(
                engine, method, config.replace(sampler=spec, chat=chat, seed=0)
            )
            for sampler, spec in SAMPLERS.items()
            for name, (method, config) in everybody.items()
        }


class Speeds:
    """Tokens per second of one sampler, by method and prompt."""

    def __init__(self, measured: Measured, contest: Contest, sampler: str) -> None:
        self.contest, self.prompts = contest, measured.prompts
        self.tokens: dict[str, dict[str, float]] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        for key, samples in measured.samples.items():
            of, name = key.split("/", 1)
            if of != sampler:
                continue
            tokens, seconds = self.tokens.setdefault(name, {}), self.seconds.setdefault(name, {})
            for i, one in enumerate(samples):
                prompt = self.prompts[i % len(self.prompts)].id
                tokens[prompt] = tokens.get(prompt, 0) + len(one.tokens)
                seconds[prompt] = seconds.get(prompt, 0) + one.seconds

    def of(self, name: str, prompts: Sequence[str]) -> dict[str, float]:
        """Return a method's speed on each of some prompts."""
        return {key: self.tokens[name][key] / self.seconds[name][key] for key in prompts}

    def chosen_elsewhere(self, prompts: Sequence[str]) -> tuple[dict[str, float], list[str]]:
        """Return the speed on each prompt of the choice that was quickest on the other half."""
        found, names = dict[str, float](), []
        for half in (0, 1):
            best = self._quickest(prompts[1 - half :: 2])
            names.append(best)
            found |= self.of(best, prompts[half::2])
        return found, names

    def _quickest(self, prompts: Sequence[str]) -> str:
        """Return the fixed choice with the highest mean ratio to plain decoding."""

        def gain(name: str) -> float:
            ours, plain = self.of(name, prompts), self.of(PLAIN, prompts)
            return fmean(math.log(ours[key] / plain[key]) for key in prompts)

        return max(self.contest.fixed, key=gain)

    def oracle(self, prompts: Sequence[str]) -> dict[str, float]:
        """Return the speed of the quickest fixed choice, or plain decoding, on each prompt."""
        names = (PLAIN, *self.contest.fixed)
        return {key: max(self.of(name, [key])[key] for name in names) for key in prompts}


def ratio(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, Any]:
    """Return a geometric mean of ratios, with its interval, as tables show it."""
    found = compare(ours, theirs)
    assert found is not None
    return {
        "median": found.speedup.value,
        "low": found.speedup.low,
        "high": found.speedup.high,
    }


def by_kind(prompts: Sequence[PromptItem]) -> dict[str, list[str]]:
    """Return the prompts of each kind and of all, by their ids."""
    kinds = {
        kind: [p.id for p in prompts if p.kind == kind]
        for kind in dict.fromkeys(p.kind for p in prompts)
    }
    return kinds if len(kinds) < 2 else kinds | {ALL: [p.id for p in prompts]}


def claims_of(speeds: Speeds, sampler: str) -> list[dict[str, Any]]:
    """Return what `auto` gives beside plain decoding, the best fixed choice and the oracle."""
    found = []
    for kind, prompts in by_kind(speeds.prompts).items():
        auto = speeds.of(AUTO, prompts)
        best, names = _best_fixed(speeds, kind)
        oracle = ratio(auto, speeds.oracle(prompts))
        found.append(
            {
                "sampler": sampler,
                "prompts": f"{kind} ({len(prompts)})",
                "auto / plain": ratio(auto, speeds.of(PLAIN, prompts)),
                f"auto / {BEST}": ratio(auto, best),
                "that is": " | ".join(dict.fromkeys(names)),
                f"{BEST} / plain": ratio(best, speeds.of(PLAIN, prompts)),
                "auto / oracle": oracle,
                "regret": 1 - oracle["median"],
            }
        )
    return found


def _best_fixed(speeds: Speeds, kind: str) -> tuple[dict[str, float], list[str]]:
    """Return the speeds of the best fixed choice of a kind; of all, of the best of each kind."""
    kinds = by_kind(speeds.prompts)
    if kind != ALL:
        return speeds.chosen_elsewhere(kinds[kind])
    parts = [speeds.chosen_elsewhere(ids)[0] for name, ids in kinds.items() if name != ALL]
    return {key: speed for part in parts for key, speed in part.items()}, ["of each kind"]


def rows_of(speeds: Speeds) -> list[dict[str, Any]]:
    """Return every method's ratio to plain decoding by kind of prompt."""
    kinds = by_kind(speeds.prompts)
    return [
        {"method": name}
        | {
            kind: ratio(speeds.of(name, prompts), speeds.of(PLAIN, prompts))
            for kind, prompts in kinds.items()
        }
        for name in (*speeds.contest.fixed, *speeds.contest.rules)
    ]


def without_ends(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose ratios are shown without their intervals."""
    return [
        {key: cell["median"] if isinstance(cell, dict) else cell for key, cell in row.items()}
        for row in rows
    ]


def unequal(measured: Measured) -> list[str]:
    """Return which methods wrote another greedy text than plain decoding: none may."""
    texts = {key: [one.tokens for one in of] for key, of in measured.samples.items()}
    plain = texts[f"greedy/{PLAIN}"]
    return [key for key, of in texts.items() if key.startswith("greedy/") and of != plain]


def found_by(
    measured: Measured, contest: Contest, setting: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return all figures, and their tables."""
    speeds = {sampler: Speeds(measured, contest, sampler) for sampler in SAMPLERS}
    claims = [row for sampler, one in speeds.items() for row in claims_of(one, sampler)]
    rows = {sampler: rows_of(one) for sampler, one in speeds.items()}
    found = {"machine": describe_machine(), "setting": setting, "claims": claims, "rows": rows}
    found["texts_unequal"] = unequal(measured)
    parts = [f"{place(found)}; {setting['prompts']} prompts × {setting['rounds']} rounds."]
    parts.append(markdown(claims, "{:.3f}"))
    for sampler, of in rows.items():
        parts += [f"{sampler}, ÷ plain decoding:", markdown(without_ends(of), "{:.2f}")]
    return found, "\n\n".join(parts)


def prompts_for(target: str, most: int | None) -> tuple[PromptItem, ...]:
    """Return the prompts of a target; `most` of each kind."""
    if target == "bundled":
        return load_prompts(KINDS, max_prompts=most, max_length=LONGEST)
    return load_prompts([FRENCH if "seq2seq" in target else REAL], max_prompts=most, max_length=128)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables and one JSON line, and keep them on request."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add(
        "--target", default="bundled", help="bundled, bundled-seq2seq or a chat model [%(default)s]"
    )
    add("--drafter", help="draft model, or none [bundled; none for a chat model]")
    add("--prompts", type=int, metavar="N", help="of each kind [all]")
    add("--rounds", type=int, metavar="N", help="passes over the prompts [2; 1 for a chat model]")
    add("--save", action="store_true", help="write benchmarks/results/policies-….{json,md}")
    args = parser.parse_args(arguments)
    is_bundled = args.target.startswith("bundled")
    args.rounds = args.rounds if args.rounds is not None else 2 if is_bundled else 1
    check_least(parser, args, rounds=1)
    try:
        engine = Engine.load(args.target, args.drafter or ("bundled" if is_bundled else None))
        items = prompts_for(args.target, args.prompts)
    except ForedraftError as error:
        parser.error(str(error))
    fit_threads(engine.target.threads)
    contest = Contest.of(engine)
    measured = measure(contest.runs(engine, chat=not is_bundled), items, args.rounds)
    setting = {"target": args.target, "prompts": len(items), "rounds": args.rounds}
    found, text = found_by(measured, contest, setting)
    print(text)
    if found["texts_unequal"]:
        print("Greedy texts that DIFFER from plain decoding's:", ", ".join(found["texts_unequal"]))
    print(json.dumps(found))
    if args.save:
        title = (
            f"# Auto beside fixed choices: {args.target}\n\nMade by `benchmarks/policies.py`.\n\n"
        )
        keep(RESULTS / f"policies-{args.target}.json", found, title + text)


if __name__ == "__main__":
    main()
