"""The distribution test: many short generations, counted and compared with the target's own law.

A sample is one generation of gamma + 1 tokens through the real loop: a whole block, its bonus token
included. For each prompt the texts are cut into a few cells of known probability; the counts are
compared with the target's probabilities by a chi-square test over all prompts. What the target
cannot say at all must never come.

The models behind the loop remember their logits, and the law is made from the same ones: what is
tested here is drafting, verification and randomness. That the logits are right, whatever the caches
have been through, is for `parity` to show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isfinite, prod

from torch import Tensor

from foredraft.checks.parity import nothing_drafted
from foredraft.checks.remembered import Remembered, Tokens
from foredraft.checks.report import METHODS, Finding, Plan, Progress
from foredraft.checks.statistics import chi_square, detectable_total_variation, p_value
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.engine import Engine
from foredraft.files import Json
from foredraft.models import HeadModel
from foredraft.sampling import Sampler, rng_for

CELLS = 12  # a prompt; fewer find smaller biases, more find biases of finer grain
# Samples in a cell. With 10, tests at level 8e-5 would raise three times as many false alarms.
LEAST_EXPECTED = 50.0
REPORT_EVERY = 100  # samples
SHOWN = 3  # cells named when a test fails


class Law:
    """What the target says after a prompt and each prefix, under the sampler."""

    def __init__(self, target: Remembered, sampler: Sampler, prompt: Sequence[int]) -> None:
        self._target, self._sampler, self._prompt = target, sampler, tuple(prompt)

    def cells(self, begin: Tokens, length: int, samples: int) -> dict[Tokens, float]:
        """Cut the texts of `length` tokens after `begin` into at most `CELLS` cells.

        A cell is named by a prefix: it holds the texts that begin with it and with no longer name.
        The likeliest cell that can be cut is cut, again and again; no cell becomes too small.

        Returns:
            Name → probability; at least the empty name, of all texts that have no other.
        """
        cells: dict[Tokens, float] = {(): 1.0}
        whole: set[Tokens] = set()  # cells that cannot be cut
        least = LEAST_EXPECTED / samples
        while len(cells) < CELLS and len(whole) < len(cells):
            name = max(cells.keys() - whole, key=lambda name: cells[name])
            part = self._largest_part(begin, name, length, cells, least)
            if part is None:
                whole.add(name)
                continue
            cells[part[0]] = part[1]
            cells[name] -= part[1]
        return cells

    def _largest_part(
        self, begin: Tokens, name: Tokens, length: int, cells: dict[Tokens, float], least: float
    ) -> tuple[Tokens, float] | None:
        """Return the shortest likely continuation whose loss leaves enough of the cell."""
        prefix, chance = name, self._chance(begin, name)
        while len(prefix) < length:
            values, tokens = self._probs(begin + prefix).topk(
                min(2 * CELLS, self._target.vocab_size)
            )
            left: dict[Tokens, float] = {}  # continuation → its mass within this cell
            for p, token in zip(values.tolist(), tokens.tolist(), strict=True):
                longer = (*prefix, token)
                left[longer] = chance * p - sum(
                    mass for other, mass in cells.items() if other[: len(longer)] == longer
                )
            prefix = max(left, key=lambda longer: left[longer])
            if left[prefix] < least:
                return None
            if cells[name] - left[prefix] >= least:
                return prefix, left[prefix]
            chance = self._chance(begin, prefix)
        return None

    def _chance(self, begin: Tokens, text: Tokens) -> float:
        chances = (self._probs(begin + text[:i])[token] for i, token in enumerate(text))
        return prod(map(float, chances))

    def impossible(self, begin: Tokens, counted: Counter[Tokens]) -> int:
        """Return how many samples the target never says; judged where its logits are remembered."""
        followers: dict[Tokens, set[int]] = {}
        for text in counted:
            for i, token in enumerate(text):
                followers.setdefault(text[:i], set()).add(token)
        forbidden: set[Tokens] = set()
        for prefix, tokens in followers.items():
            if self._target.remembers(self._prompt, begin + prefix):
                probs = self._probs(begin + prefix)
                forbidden |= {(*prefix, token) for token in tokens if float(probs[token]) == 0}
        return sum(
            n
            for text, n in counted.items()
            if any(text[:end] in forbidden for end in range(1, len(text) + 1))
        )

    def _probs(self, tokens: Tokens) -> Tensor:
        return self._sampler.probs(self._target.rows(self._prompt, tokens, 1))[0]  # [vocab]


def check_distribution(engine: Engine, plan: Plan, progress: Progress) -> Iterator[Finding]:
    """Sampled output must have the target's distribution, with every method and verifier.

    Interrupted, it yields what the samples so far can say.
    """
    drafter = engine.drafter
    if drafter is not None and not isinstance(drafter.model, HeadModel):  # which is told, not asked
        drafter = replace(drafter, model=Remembered(drafter.model))
    remembering = Engine(replace(engine.target, model=Remembered(engine.target.model)), drafter)
    level = plan.level / len(plan.pairs)
    for method, rule in plan.pairs:
        config = plan.config(method, sampler=plan.sampler, gamma=plan.gamma)
        parts = remembering.speculation(METHODS[method][0], config)
        run = Sampling(replace(parts, verifier=plan.verifier(rule)), engine, plan)
        subject = f"{method} · {rule}"
        try:
            for done in run.samples():
                progress(f"distribution, {subject}", done, plan.samples)
        except KeyboardInterrupt:
            if run.num_samples:
                yield run.finding(subject, level)
            raise
        yield run.finding(subject, level)


def in_cells(counted: Counter[Tokens], cells: dict[Tokens, float]) -> tuple[list[int], list[float]]:
    """Return observed and expected counts, cell by cell."""
    observed = dict.fromkeys(cells, 0)
    for text, n in counted.items():
        ends = range(len(text), -1, -1)
        observed[next(text[:end] for end in ends if text[:end] in cells)] += n
    samples = counted.total()
    return list(observed.values()), [samples * chance for chance in cells.values()]


class Sampling:
    """The samples of one method and verifier; the target of its parts is `Remembered`."""

    def __init__(self, parts: Speculation, engine: Engine, plan: Plan) -> None:
        self.parts, self.plan = parts, plan
        self._tokenizer = engine.target.tokenizer
        self._texts = plan.sampled_for(engine.target.model)
        self._prompts = [engine.encode(text) for text in self._texts]
        self._drafted = [0] * len(self._prompts)
        self._counted: list[Counter[Tokens]] = [Counter() for _ in self._prompts]

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return sum(counted.total() for counted in self._counted)

    def samples(self) -> Iterator[int]:
        """Draw all samples, the prompts in turn; yield now and then how many there are."""
        target, keyed = self.parts.target, self.parts.is_coupled
        for i in range(self.plan.samples):
            if i % REPORT_EVERY == 0:
                yield i
            which = i % len(self._prompts)
            request = Request(
                target.open(self._prompts[which]),
                rng_for(self.plan.seed + i, keyed=keyed),
                max_new_tokens=self.plan.gamma + 1,
            )
            for record in speculative_steps(self.parts, request):
                self._drafted[which] += len(record.drafted)
            self._counted[which][tuple(request.output)] += 1

    def finding(self, subject: str, level: float) -> Finding:
        """Return what the samples so far say, at this level."""
        target = self.parts.target
        assert isinstance(target, Remembered)
        longest, decode = self.plan.gamma + 1, self._tokenizer.decode
        counted = Counted(target, self.parts.sampler, longest, lambda t: str(decode(t)))
        for text, prompt, drafted, texts in zip(
            self._texts, self._prompts, self._drafted, self._counted, strict=True
        ):
            counted.add(text, prompt, texts, drafted)
        return counted.finding(subject, level)


class Counted:
    """Counted texts of several prompts beside the law of a target that remembers.

    Args:
        target: whose law it is.
        sampler: that makes probabilities of its logits.
        longest: tokens of a text, fewer where the context ends.
        words: tokens → what a person reads.
    """

    def __init__(
        self,
        target: Remembered,
        sampler: Sampler,
        longest: int,
        words: Callable[[list[int]], str],
    ) -> None:
        self._target, self._sampler, self._longest, self._words = target, sampler, longest, words
        self._counts: list[tuple[str, list[int], Counter[Tokens], int]] = []

    def add(self, text: str, prompt: list[int], counted: Counter[Tokens], drafted: int) -> None:
        """Count what followed a prompt, and how many tokens were drafted for it."""
        self._counts.append((text, prompt, counted, drafted))

    def finding(self, subject: str, level: float) -> Finding:
        """Return what the counts say, at this level."""
        statistic, dof, gap = 0.0, 0, 0.0
        surprises: list[tuple[float, str]] = []
        impossible, samples = 0, sum(counted.total() for _, _, counted, _ in self._counts)
        for _, prompt, counted, _ in self._counts:
            if not counted:
                continue
            law = Law(self._target, self._sampler, prompt)
            begin = tuple(self._target.open(prompt).begin)
            length = min(self._longest, self._target.max_length - len(begin))
            cells = law.cells(begin, length, counted.total())
            observed, expected = in_cells(counted, cells)
            statistic += chi_square(observed, expected) if len(cells) > 1 else 0.0
            dof += len(cells) - 1
            gap += sum(abs(o - e) for o, e in zip(observed, expected, strict=True)) / 2
            surprises += self._surprises(list(cells), observed, expected)
            impossible += law.impossible(begin, counted)
        figures = {
            "samples": samples,
            "prompts": len(self._counts),
            "drafted_tokens": sum(drafted for *_, drafted in self._counts),
            "statistic": statistic,
            "degrees_of_freedom": dof,
            "p_value": p_value(statistic, dof) if dof else None,
            "level": level,
            "observed_total_variation": gap / samples,
            "detectable_total_variation": detectable_total_variation(samples, dof, level),
            "impossible_texts": impossible,
        }
        undrafted = [text for text, _, counted, drafted in self._counts if counted and not drafted]
        worst = [words for _, words in sorted(surprises)[-SHOWN:][::-1]]
        return _judged(subject, figures, worst, undrafted)

    def _surprises(
        self, names: list[Tokens], observed: list[int], expected: list[float]
    ) -> list[tuple[float, str]]:
        """Return each cell's share of the statistic, and a sentence about it."""
        texts = [repr(self._words(list(n))) if n else "any other text" for n in names]
        return [
            ((o - e) ** 2 / e, f"{text} came {o} times instead of {e:.0f}")
            for text, o, e in zip(texts, observed, expected, strict=True)
        ]


def _judged(
    subject: str, figures: dict[str, Json], surprises: list[str], undrafted: list[str]
) -> Finding:
    p, samples = figures["p_value"], figures["samples"]
    passed: bool | None = False
    if figures["impossible_texts"]:
        sentence = f"{figures['impossible_texts']} of {samples} texts the target never says"
    elif p is not None and not isfinite(p):
        figures = {
            n: v if not isinstance(v, float) or isfinite(v) else None for n, v in figures.items()
        }
        sentence = f"p is no number with {samples} samples: probabilities of the target are none"
    elif p is not None and p < figures["level"]:
        sentence = (
            f"p = {p:.2g} < {figures['level']:.2g} with {samples} samples; total variation about "
            f"{figures['observed_total_variation']:.3f}: {'; '.join(surprises)}"
        )
    elif undrafted:
        passed, sentence = None, nothing_drafted(undrafted)
    elif p is None:
        passed = None
        sentence = (
            f"no two groups of texts are likely enough to be compared with {samples} samples; give "
            "more, other prompts, or a sampler that leaves more to chance"
        )
    else:
        passed, smallest = True, figures["detectable_total_variation"]
        sentence = f"p = {p:.3g} with {samples} samples from {figures['prompts']} prompts; "
        if smallest is None:
            sentence += "too few to find anything"
        else:
            sentence += f"a total variation of {smallest:.3f} between cells would have been found"
    return Finding("distribution", subject, passed, sentence, figures)
