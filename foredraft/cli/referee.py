"""`foredraft referee`: anybody's verifier, or whole generation, before the exact distribution.

Exit code 0: nothing was found. 1: it is wrong, or there was too little to tell. 2: it could not be
judged.
"""

from __future__ import annotations

import argparse

from foredraft.checks.generated import PROTOCOL, Trial
from foredraft.checks.protocols import PLAIN
from foredraft.checks.referee import CONFIDENCE, ROUNDING, SAMPLES, Hearing, Judgement
from foredraft.checks.report import Finding
from foredraft.checks.statistics import POWER
from foredraft.cli.output import say_json
from foredraft.cli.parser import Number
from foredraft.cli.verify import MARKS, progress_shown
from foredraft.cli.view import View
from foredraft.errors import ConfigError
from foredraft.loading.loader import silence_transformers
from foredraft.plugins import load_function
from foredraft.ranges import hints_of
from foredraft.threads import fit_threads

NAMED = "MODULE:FUNCTION"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft referee`."""
    add, number = parser.add_argument, {n: Number(h) for n, h in hints_of(Trial).items()}
    shown = f"a verifier: {PLAIN}, or the like of transformers or vLLM; a .py file may be MODULE"
    add("verifier", nargs="?", metavar=NAMED, help=shown)
    add("--generate", metavar=NAMED, help=f"judge a whole generation instead: {PROTOCOL}")
    shown = f"texts that are counted [{SAMPLES} a case, {Trial().samples} generations]"
    add("--samples", type=number["samples"], metavar="N", help=shown)
    add("--count", action="store_true", help="count texts even where draws can be enumerated")
    add(
        "--seed",
        type=number["seed"],
        default=Hearing().seed,
        metavar="V",
        help="seed of the draws [%(default)s]",
    )
    add("--json", action="store_true", help="one JSON object instead of the report")
    parser.set_defaults(run=_referee)


def _referee(args: argparse.Namespace) -> None:
    if (args.verifier is None) == (args.generate is None):
        raise ConfigError(f"name one function: {NAMED} of a verifier, or --generate {NAMED}")
    silence_transformers()
    fit_threads(1)  # rows of a few tokens are worth no more
    given = {} if args.samples is None else {"samples": args.samples}
    passed: bool | None
    if args.generate is not None:
        if args.count:
            raise ConfigError("--count is for verifiers: generations are always counted")
        function = load_function(args.generate)
        with progress_shown() as show:
            finding = Trial(seed=args.seed, **given).judge(function, args.generate, show)
        passed = finding.passed
        if args.json:
            say_json(finding.to_dict())
        else:
            _print_finding(finding, View())
    else:
        function = load_function(args.verifier)
        hearing = Hearing(seed=args.seed, is_counted=args.count, **given)
        with progress_shown() as show:
            judgement = hearing.judge(function, args.verifier, show)
        passed = judgement.passed
        if args.json:
            say_json(judgement.to_dict())
        else:
            _print_judgement(judgement, View())
    if not passed:
        raise SystemExit(1)


def _print_judgement(judgement: Judgement, view: View) -> None:
    view.line(f"verifier {judgement.subject}, called as: {judgement.protocol}")
    width = max(len(finding.name) for finding in judgement.findings) + 2
    for finding in judgement.findings:
        mark, style = MARKS[finding.passed]
        told = f"total variation {finding.total_variation:.1e}"
        line = f"{mark:<5}{finding.name:<{width}}{told}  {finding.worst}".rstrip()
        view.line(line, style="" if finding.passed else style)
    cases, runs = len(judgement.findings), sum(one.runs for one in judgement.findings)
    if judgement.why_counted:
        smallest = judgement.detectable
        view.line(f"\n{cases} cases, {runs} texts counted ({judgement.why_counted})")
        found = "too few to find anything"
        if smallest is not None:
            found = f"{smallest:.3f} in any case would have been found with probability {POWER:g}"
        view.line(
            f"total variation: at most {judgement.total_variation:.3f} was seen, most of it by "
            f"chance; {found}"
        )
    else:
        view.line(f"\n{cases} cases, every way in which its draws can fall: {runs} runs")
        view.line(
            f"total variation: at most {judgement.total_variation:.1e} (float32 explains "
            f"{ROUNDING:.0e})"
        )
        view.line(
            f"{judgement.checks} honest runs agreed: with probability {CONFIDENCE:g} what was "
            f"overlooked happens in less than {judgement.missed:.1%} of all draws"
        )
    _verdict(judgement.passed, view)


def _print_finding(finding: Finding, view: View) -> None:
    mark, style = MARKS[finding.passed]
    view.line(f"generation {finding.subject}, on a target of random weights")
    view.line(f"{mark:<5}{finding.sentence}", style="" if finding.passed else style)
    seen = finding.figures["observed_total_variation"]
    view.line(f"total variation between groups of texts: {seen:.3f} was seen")
    _verdict(finding.passed, view)


def _verdict(passed: bool | None, view: View) -> None:
    words = {True: "passed", False: "FAILED", None: "undecided: give more --samples"}
    view.line(words[passed], style=MARKS[passed][1])
