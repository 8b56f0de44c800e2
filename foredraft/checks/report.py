"""The nouns of a check: the plan, what was found, and the report of it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated

from foredraft.checks.mutants import MUTANTS
from foredraft.config import DecodingConfig
from foredraft.errors import ConfigError, quoted
from foredraft.files import Json
from foredraft.method import Method, verifier_named
from foredraft.models import Network, Seq2SeqModel
from foredraft.ranges import Checked, Count, DraftLength, Range, Seed
from foredraft.registry import nearest
from foredraft.verification import VERIFIERS, Verifier

METHODS: dict[str, tuple[str, dict[str, bool | str]]] = {  # name → engine method, settings
    "speculative": ("speculative", {}),
    "egag": ("speculative", {"egag": True}),
    "ngram": ("ngram", {"stop_if_unknown": False}),  # guesses are rejected: that is checked too
    # Of a draft model with another tokenizer `speculative` is one of these.
    "retokenized": ("speculative", {"drafting": "retokenized"}),
    "intersection": ("speculative", {"drafting": "intersection"}),
}
USUAL = ("speculative", "egag", "ngram")
LOSSLESS = tuple(name for name in VERIFIERS.names if VERIFIERS.get(name).is_lossless)
PROMPTS = (
    "Once upon a time there was a little girl who",
    "The cat sat on the mat. The dog sat on the mat. The cat",
    "Translate to English: Je suis fatigué.",
    "def add(a, b):\n    return a + b\n\ndef add_one(a):\n    return",
    "One day, a boy went to the park with his mom.",
    "one two three one two three one two",
    "The most important thing about the sea is",
    "Question: What is two and two?\nAnswer:",
)
SENTENCES = (  # for an encoder–decoder model
    "Je m'appelle Romain.",
    "Où est la gare ?",
    "Il fait très froid ce matin.",
    "Elle a acheté deux livres et trois stylos.",
    "Nous ne savons pas ce qu'ils veulent.",
    "The cat sat on the mat. The dog sat on the mat.",
    "translate English to German: The house is wonderful.",
    "summarize: A boy lost his dog. He looked for it all day. He found it at home.",
)
SAMPLED_PROMPTS = 4  # of ours; a test over many prompts finds only large biases

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, out of how much


@dataclass(frozen=True)
class Plan(Checked):
    """What to check, and how hard."""

    # speculative, egag, ngram; retokenized and intersection for a drafter with another tokenizer
    methods: tuple[str, ...] = USUAL
    verifiers: tuple[str, ...] = LOSSLESS  # spec strings of the accept/reject rules
    # texts; none means eight short ones of ours, of which sampling uses four
    prompts: tuple[str, ...] = ()
    samples: Count = 20_000  # generations for each method and verifier
    # probability of any false alarm over all distribution tests
    level: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 1e-3
    sampler: str = "topk(temperature=1.0, top_k=5)"  # spec string of the sampler that is tested
    # draft length while sampling; a sample is gamma + 1 tokens, a whole block
    gamma: DraftLength = 3
    # tokens of a greedy generation
    length: Annotated[int, Range(2, 10**9)] = 40  # one token: no draft
    seed: Seed = 42  # sample i is drawn with seed + i
    # name of a verifier with a known mistake, which takes the place of every other
    mutant: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            if method not in METHODS:
                guess = f"{nearest(method, METHODS)}; legal: {', '.join(METHODS)}"
                raise ConfigError(f"unknown method {quoted(method)}{guess}")
        if Method.of(DecodingConfig(sampler=self.sampler), "target").sampler.is_greedy:
            raise ConfigError(
                f"sampler must draw, not {quoted(self.sampler)}: greedy output is checked anyway; "
                "choose e.g. multinomial(temperature=1.0)"
            )
        for spec in self.verifiers:
            verifier_named(spec)
        if self.mutant is not None:
            MUTANTS.create(self.mutant)
        for name in ("methods", "verifiers"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must name at least one")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every method with every verifier."""
        rules = self.verifiers if self.mutant is None else (f"mutant {self.mutant}",)
        return [(method, rule) for method in self.methods for rule in rules]

    def prompts_for(self, target: Network) -> tuple[str, ...]:
        """Return the prompts of a check; ours if none were given."""
        ours = SENTENCES if isinstance(target, Seq2SeqModel) else PROMPTS
        return self.prompts or ours

    def sampled_for(self, target: Network) -> tuple[str, ...]:
        """Return the prompts that are sampled from: all that were given."""
        return self.prompts or self.prompts_for(target)[:SAMPLED_PROMPTS]

    @property
    def needs_drafter(self) -> bool:
        """Whether any method needs a draft model."""
        return any(METHODS[method][0] == "speculative" for method in self.methods)

    def verifier(self, rule: str) -> Verifier:
        """Return the accept/reject rule of a pair."""
        return verifier_named(rule) if self.mutant is None else MUTANTS.create(self.mutant)

    def config(self, method: str, **settings: object) -> DecodingConfig:
        """Return the settings of a pair's method; drafts begin with the first token."""
        base = DecodingConfig(seed=self.seed, first_target=False)
        return base.replace(**METHODS[method][1], **settings)


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str  # vocabulary, cache parity, greedy parity or distribution
    subject: str  # what was checked: a model, or a method and a verifier
    passed: bool | None  # None where there was too little to tell
    sentence: str  # for a person
    figures: dict[str, Json] = field(default_factory=dict)  # for a machine
    is_final: bool = False  # whether nothing else can be told before this is mended

    def to_dict(self) -> dict[str, Json]:
        """Return plain values, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "is_final"}


@dataclass(frozen=True)
class Report:
    """All findings, in order."""

    target: str  # name of the target
    drafter: str | None  # name of the draft model; None without one
    plan: Plan  # what was asked for
    findings: tuple[Finding, ...]  # what was found
    interrupted: bool = False  # whether some of the plan was not carried out

    @property
    def failed(self) -> bool:
        """Whether any check found a mistake."""
        return any(finding.passed is False for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether everything was checked, and nothing found."""
        return not self.interrupted and all(finding.passed for finding in self.findings)

    @property
    def detectable_total_variation(self) -> float | None:
        """The bias that every test that came to a result would have found; None without one."""
        told = [f.figures for f in self.tests if f.passed is not None]
        found = [figures["detectable_total_variation"] for figures in told]
        return max(found, default=None) if None not in found else None

    @property
    def tests(self) -> list[Finding]:
        """The distribution tests."""
        return [finding for finding in self.findings if finding.check == "distribution"]

    def to_dict(self) -> dict[str, Json]:
        """Return plain values, ready for JSON."""
        return {
            "target": self.target,
            "drafter": self.drafter,
            "passed": self.passed,
            "interrupted": self.interrupted,
            "detectable_total_variation": self.detectable_total_variation,
            "plan": asdict(self.plan),
            "findings": [finding.to_dict() for finding in self.findings],
        }
