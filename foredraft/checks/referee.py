"""The referee: does a verifier of somebody else's leave the target's distribution alone?

Drafts are drawn from the drafter, the verifier emits, and the target goes on to a fixed length: the
texts must have the target's own probabilities. Where the verifier's draws can be enumerated
(`scripted.py`) their probabilities are computed, and the total variation is exact up to float32's
rounding. Where they cannot be, they are counted, and a chi-square test says what it could see.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch

from foredraft.checks.cases import VOCAB, Case, Tokens, cases
from foredraft.checks.distribution import LEAST_EXPECTED
from foredraft.checks.protocols import Protocol, Question, protocol_of
from foredraft.checks.report import Progress
from foredraft.checks.scripted import Script, Tree, Unscripted, enumerated
from foredraft.checks.statistics import chi_square, detectable_total_variation, p_value
from foredraft.checks.torch_draws import Scripted, SharedRace
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.files import Json
from foredraft.ranges import Checked, Count, Seed

ROUNDING = 1e-5  # total variation that float32 explains
HONEST_RUNS = 12  # honest runs a draft, each against what was enumerated
CONFIDENCE = 0.999  # with which what they missed is bounded
SAMPLES = 20_000  # a case, where draws are counted
LEVEL = 1e-3  # chance of any false alarm, where draws are counted
FIX = "mend the function, or wrap it in one that keeps to its protocol"


@dataclass(frozen=True)
class CaseFinding:
    """What one case showed.

    Attributes:
        name: gamma and what is special.
        passed: whether nothing was found; None where there was too little to tell.
        total_variation: exact where enumerated, else what was seen.
        runs: calls of the function.
        worst: the text that is furthest off, and by how much; empty where nothing is.
        detectable: counted: the total variation that would have been found; None: enumerated, or
            nothing would have been.
    """

    name: str
    passed: bool | None
    total_variation: float
    runs: int
    worst: str = ""
    detectable: float | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict on one function.

    Attributes:
        subject: MODULE:FUNCTION.
        protocol: how it was called.
        findings: of every case.
        checks: honest runs that agreed with what was enumerated; 0: counted.
        why_counted: why it could not be enumerated; empty where it was.
    """

    subject: str
    protocol: str
    findings: tuple[CaseFinding, ...]
    checks: int = 0
    why_counted: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether nothing was found in any case; None where one could not tell."""
        told = [finding.passed for finding in self.findings]
        return False if False in told else None if None in told else True

    @property
    def total_variation(self) -> float:
        """The largest of all cases."""
        return max(finding.total_variation for finding in self.findings)

    @property
    def detectable(self) -> float | None:
        """Counted: the bias that would have been found in every case."""
        found = [finding.detectable for finding in self.findings]
        return None if None in found else max(one for one in found if one is not None)

    @property
    def missed(self) -> float:
        """The share of draws in which something may have been overlooked, at `CONFIDENCE`."""
        return -math.log(1 - CONFIDENCE) / self.checks if self.checks else 1.0

    def to_dict(self) -> dict[str, Json]:
        """Return plain values, ready for JSON."""
        return {
            "subject": self.subject,
            "protocol": self.protocol,
            "passed": self.passed,
            "enumerated": not self.why_counted,
            "total_variation": self.total_variation,
            "detectable_total_variation": self.detectable,
            "checks": self.checks,
            "missed_at_most": self.missed if self.checks else None,
            "why_counted": self.why_counted or None,
            "cases": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True)
class Hearing(Checked):
    """How a verifier is judged."""

    samples: Count = SAMPLES  # texts of a case, where draws are counted
    seed: Seed = 42
    is_counted: bool = False  # count, even what can be enumerated

    def judge(
        self,
        function: Callable[..., object],
        subject: str,
        progress: Progress = lambda what, done, total: None,
    ) -> Judgement:
        """Judge a verifier.

        Raises:
            ConfigError: it is no verifier, it raises, or what it returns are no tokens.
        """
        protocol, docket = protocol_of(function), cases()
        asked, why = Asked(subject, protocol), "asked for"
        if not self.is_counted:
            try:
                return self._enumerate(asked, docket, progress)
            except Unscripted as reason:
                why = str(reason)
        counting = Counting(asked, self.samples, self.seed, LEVEL / len(docket))
        findings = []
        with seeded(self.seed):
            for done, case in enumerate(docket):
                progress(f"counting {subject}", done, len(docket))
                findings.append(counting.finding(case))
        return Judgement(subject, protocol.name, tuple(findings), why_counted=why)

    def _enumerate(self, asked: Asked, docket: list[Case], progress: Progress) -> Judgement:
        enumerating = Enumerating(asked, random.Random(self.seed))
        findings = []
        try:
            for done, case in enumerate(docket):
                progress(f"enumerating {asked.subject}", done, len(docket))
                findings.append(enumerating.finding(case))
        except SharedRace:
            return self._enumerate(replace(asked, defers=True), docket, progress)
        return Judgement(asked.subject, asked.protocol.name, tuple(findings), enumerating.checks)


@dataclass(frozen=True)
class Asked:
    """A verifier whose answers are checked."""

    subject: str
    protocol: Protocol
    defers: bool = False  # whether the winner of a race is found when it is known that it counts

    def scripted(self, question: Question, script: Script) -> Tokens:
        """Ask while its draws are under control."""
        mode = Scripted(script, defers=self.defers)
        with mode:
            said = self._said(question, script)
        return self._tokens(mode.settled(said), question)

    def freely(self, question: Question, script: Script) -> Tokens:
        """Ask with its own draws; what it is given draws by chance, too."""
        return self._tokens(self._said(question, script), question)

    def _said(self, question: Question, script: Script) -> Tokens:
        out: object
        try:
            out = self.protocol.answer(question, script)
        except (Unscripted, ConfigError):
            raise
        except Exception as error:
            with foreign(f"{self.subject}, asked about {_told(question)},", FIX, ConfigError):
                raise error
        return self._plain(out, question)

    def _plain(self, out: object, question: Question) -> Tokens:
        """Return what it gave as plain integers."""
        flat = out.flatten().tolist() if hasattr(out, "flatten") else out
        if not isinstance(flat, list | tuple):
            raise self._malformed(out, question)
        tokens = tuple(token.item() if hasattr(token, "item") else token for token in flat)
        if not all(type(token) is int for token in tokens):
            raise self._malformed(out, question)
        return tokens

    def _tokens(self, tokens: Tokens, question: Question) -> Tokens:
        most = len(question.draft) + 1
        if not 1 <= len(tokens) <= most or not all(0 <= token < VOCAB for token in tokens):
            raise self._malformed(list(tokens), question)
        return tokens

    def _malformed(self, out: object, question: Question) -> ConfigError:
        most = len(question.draft) + 1
        return ConfigError(
            f"{self.subject}, asked about {_told(question)}, returned {quoted(out)}; a verifier "
            f"returns the emitted tokens, 1 … {most} integers of 0 … {VOCAB - 1}; {FIX}"
        )


class Enumerating:
    """Judges by every way that draws can fall."""

    def __init__(self, asked: Asked, rng: random.Random) -> None:
        self._asked, self._rng, self.checks = asked, rng, 0

    def finding(self, case: Case) -> CaseFinding:
        """Return what a case shows, exactly.

        Raises:
            Unscripted: it cannot be enumerated.
        """
        texts: dict[Tokens, float] = {}
        runs = 0
        for draft, chance in case.drafts():
            tree = self._tree(case, draft)
            runs += tree.runs
            for emitted, mass in tree.distribution.items():
                for text, whole in case.texts(emitted, chance * mass).items():
                    texts[text] = texts.get(text, 0.0) + whole
        law = case.texts()
        off = {text: texts.get(text, 0.0) - law.get(text, 0.0) for text in texts | law}
        distance = math.fsum(map(abs, off.values())) / 2
        passed = distance < ROUNDING
        worst = max(off, key=lambda text: abs(off[text]))
        told = f"{list(worst)} comes with {texts.get(worst, 0):.4f}, not {law.get(worst, 0):.4f}"
        return CaseFinding(_name(case), passed, distance, runs, "" if passed else told)

    def _tree(self, case: Case, draft: Tokens) -> Tree:
        question = case.question(draft)
        tree = enumerated(
            lambda script: self._asked.scripted(question, script),
            case.ratios(draft),
            self._rng,
            HONEST_RUNS,
        )
        self.checks += HONEST_RUNS
        return tree


@dataclass(frozen=True)
class Counting:
    """Judges by counted texts."""

    asked: Asked
    samples: int
    seed: int
    level: float  # of one case
    _script: Script = field(default_factory=lambda: Script(()))

    def finding(self, case: Case) -> CaseFinding:
        """Return what the counts of a case show."""
        law, counted = case.texts(), Counter(self._texts(case))
        cells = _cells(law, LEAST_EXPECTED / self.samples)
        observed = [sum(counted[text] for text in cell) for cell in cells]
        expected = [self.samples * sum(law[text] for text in cell) for cell in cells]
        dof = len(cells) - 1
        p = p_value(chi_square(observed, expected), dof) if dof else 1.0
        off = {text: counted[text] - self.samples * law.get(text, 0.0) for text in counted | law}
        seen = sum(abs(o - e) for o, e in zip(observed, expected, strict=True)) / 2
        impossible = sum(n for text, n in counted.items() if text not in law)
        smallest = detectable_total_variation(self.samples, dof, self.level)
        passed = None if smallest is None else True
        if impossible or p < self.level:
            passed = False
        worst = max(off, key=lambda text: abs(off[text]))
        should = self.samples * law.get(worst, 0.0)
        told = f"{list(worst)} came {counted[worst]} times instead of {should:.0f}"
        return CaseFinding(
            *(_name(case), passed, (seen + impossible / 2) / self.samples, self.samples),
            *(told if passed is False else "", smallest),
        )

    def _texts(self, case: Case) -> Iterator[Tokens]:
        rng = random.Random(self.seed)
        drafts, chances = zip(*case.drafts(), strict=True)
        questions = {draft: case.question(draft) for draft in drafts}
        for draft in rng.choices(drafts, chances, k=self.samples):
            script = Honest(rng)
            text = self.asked.freely(questions[draft], script)
            while len(text) <= case.gamma:
                text += tuple(rng.choices(range(VOCAB), case.target(text)))
            yield text


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators that everybody shares, and put them back as they were."""
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])


class Honest(Script):
    """The source of randomness of our plain protocol, as chance has it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(())
        self._rng = rng

    def random(self) -> float:
        return self._rng.random()

    def _new(self, chances: list[float]) -> int:
        return self._rng.choices(range(len(chances)), chances)[0]


def _cells(law: dict[Tokens, float], least: float) -> list[list[Tokens]]:
    """Put the rarest texts together until every cell is likely enough."""
    cells: list[list[Tokens]] = [[]]
    for text in sorted(law, key=lambda text: law[text]):
        if sum(law[one] for one in cells[-1]) >= least:
            cells.append([])
        cells[-1].append(text)
    if len(cells) > 1 and sum(law[one] for one in cells[-1]) < least:
        cells[-2] += cells.pop()
    return cells


def _name(case: Case) -> str:
    return f"gamma {case.gamma}, {case.name}"


def _told(question: Question) -> str:
    return f"the draft {list(question.draft)}"
