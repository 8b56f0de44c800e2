"""DecodingConfig: the whole state of a session, frozen and checked.

A change makes a new config or raises; so a refused command leaves nothing half done. Flags, slash
commands and JSON read their names and defaults from here.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from foredraft.doors import of_type
from foredraft.drafting import DRAFTERS, Ngram, check_storage
from foredraft.errors import ConfigError, quoted
from foredraft.gamma import GAMMA_POLICIES, FixedGamma
from foredraft.gamma.entropy import Ema, EntropyGamma
from foredraft.ranges import (
    LONGEST_DRAFT,
    NUM_SEEDS,
    Checked,
    DraftLength,
    Fillers,
    Length,
    NgramOrder,
    Range,
    Seed,
    checked,
    hints_of,
)
from foredraft.registry import nearest
from foredraft.sampling import SAMPLERS, Control, fresh_seed
from foredraft.sampling.penalties import (
    BadWords,
    CountPenalty,
    LogitBias,
    MinNewTokens,
    NewTokens,
    NgramSize,
    NoRepeatNgrams,
    Penalty,
    Repetition,
    RepetitionPenalty,
)
from foredraft.sampling.structure import KINDS as STRUCTURES
from foredraft.sampling.structure import Structure
from foredraft.verification import VERIFIERS

EGAG_BOUNDS = ("egag_gamma_min", "gamma", "egag_gamma_max")
NumLogprobs = Annotated[int, Range(0, 1000)]
Continuations = Annotated[int, Range(1, 64)]
UNSAID = "fixed"  # policy that leaves lengths to a drafter which chooses them
UNBOUNDED = GAMMA_POLICIES.spec(FixedGamma(LONGEST_DRAFT))  # which it then means
METHODS = ("speculative", "ngram", "target", "drafter")  # the order in which they run


def _setting(default: Any, help: str, **metadata: Any) -> Any:
    """Describe a setting; `flag` is the default of the command line, if it has another."""
    return field(default=default, metadata={"help": help} | metadata)


@dataclass(frozen=True)
class DecodingConfig(Checked):
    """How to decode: every setting of a session, checked and frozen."""

    length: Length = _setting(35, "most tokens to generate")
    seed: Seed | None = _setting(
        None,
        "seed of every random decision; each method starts from it anew; none: a fresh one",
        flag=42,
    )
    sampler: str = _setting(
        "greedy", "spec string of the sampler, e.g. nucleus(temperature=0.8, top_p=0.9)"
    )
    verifier: str = _setting(
        "rejection", "accept/reject rule: rejection, block, exact_match or coupled"
    )
    gamma: DraftLength = _setting(4, "draft length, in tokens")
    policy: str = _setting(
        UNSAID, "spec string of the gamma policy of Speculative and Ngram Assisted"
    )
    drafting: str = _setting(
        "model",
        "what Speculative drafts with: model, prompt_lookup, suffix, ngram, hybrid(suffix, model), "
        "bandit(...) or auto, which chooses lengths too",
    )
    egag: bool = _setting(False, "entropy-adaptive gamma in place of the policy")
    egag_gamma_min: DraftLength = _setting(1, "EGAG: lower bound, in tokens")
    egag_gamma_max: DraftLength | None = _setting(None, "EGAG: upper bound; none means gamma")
    egag_ema: Ema = _setting(0.0, "EGAG: smoothing of its average; 0 is none")
    ngramstorage: str = _setting("basic", "n-gram storage: basic (multi-level) or onelevel")
    ngram_order: NgramOrder = _setting(3, "n of the n-gram storage")
    top_k_filler: Fillers = _setting(3, "target tokens that Ngram Assisted counts at each position")
    stop_if_unknown: bool = _setting(
        True, "Ngram Assisted ends a draft at an unknown context instead of guessing"
    )
    reset_in_between: bool = _setting(True, "Ngram Assisted forgets between prompts")
    first_target: bool = _setting(True, "the first step decodes one token without a draft")
    cache: bool = _setting(True, "KV cache")
    chat: bool = _setting(False, "send prompts through the chat template")
    debug: bool = _setting(False, "show every step")
    stop: tuple[str, ...] = _setting((), "strings that end the text")
    repetition_penalty: RepetitionPenalty = _setting(
        1.0, "divides the logits of tokens that prompt or output hold; 1 is none"
    )
    presence_penalty: Penalty = _setting(0.0, "taken from logits of tokens that the output holds")
    frequency_penalty: Penalty = _setting(0.0, "the same, for each time they came")
    logit_bias: tuple[str, ...] = _setting((), "added to a token's logit, e.g. 42=-5.5: id=bias")
    no_repeat_ngram_size: NgramSize = _setting(
        0, "no n-gram of so many tokens comes twice; 0 is off"
    )
    bad_words: tuple[str, ...] = _setting((), "texts that must not come, spelt by their tokens")
    min_new_tokens: NewTokens = _setting(0, "tokens before which no end token comes")
    json_schema: str | None = _setting(None, "JSON schema that the text obeys", reads_file=True)
    regex: str | None = _setting(None, "regular expression that the whole text matches")
    grammar: str | None = _setting(None, "Lark grammar that the text obeys", reads_file=True)
    prediction: str | None = _setting(
        None, "text that the output will resemble, drafted from first", reads_file=True
    )
    logprobs: NumLogprobs | None = _setting(
        None, "log-probabilities of each token and of so many likeliest ones"
    )
    n: Continuations = _setting(1, "continuations of the prompt, each from a seed of its own")
    speculative: bool = _setting(True, "run Speculative")
    ngram: bool = _setting(True, "run Ngram Assisted")
    target: bool = _setting(True, "run Target AR")
    drafter: bool = _setting(False, "run Drafter AR")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("stop", "bad_words"):
            for string in getattr(self, name):
                _check_is_text(name, string)
        if self.prediction:
            _check_is_text("prediction", self.prediction)
        check_storage("ngramstorage", self.ngramstorage)
        SAMPLERS.create(self.sampler)
        VERIFIERS.create(self.verifier)
        GAMMA_POLICIES.create(self.policy, gamma=self.gamma)
        DRAFTERS.create(self.drafting)
        _ = self.controls
        # EGAG is checked while off, too: switching it on must not be what is refused.
        _check_egag_bounds(vars(self), "egag_gamma_min")

    @property
    def _gamma_max(self) -> int:
        return self.gamma if self.egag_gamma_max is None else self.egag_gamma_max

    def drafting_spec(self, method: str) -> str | None:
        """Return the spec string of what a method drafts with; None: it decodes plainly."""
        if method == "ngram":
            return DRAFTERS.spec(
                Ngram(
                    n=self.ngram_order,
                    storage=self.ngramstorage,
                    filler_top_k=self.top_k_filler,
                    stop_if_unknown=self.stop_if_unknown,
                    keep=not self.reset_in_between,
                )
            )
        return self.drafting if method == "speculative" else None

    def policy_spec(self, method: str = "speculative") -> str:
        """Return the spec string of the policy in force; the entropy-adaptive one is a drafter's.

        Args:
            method: `ngram` counts, and has no entropy.
        """
        if method == "speculative" and not self.egag and self._is_unbounded:
            return UNBOUNDED
        if method != "speculative" or not self.egag:
            return self.policy
        return GAMMA_POLICIES.spec(
            EntropyGamma(self.egag_gamma_min, self._gamma_max, self.egag_ema)
        )

    @property
    def _is_unbounded(self) -> bool:
        """Whether the drafter of Speculative decides lengths by itself, and nothing was said."""
        return self.policy == UNSAID and DRAFTERS.create(self.drafting).chooses_lengths

    @property
    def controls(self) -> tuple[Control, ...]:
        """What bends the distribution, in the order in which it does.

        Biases and masks come first, then penalties, then what must not come.
        """
        found = list[Control]()
        if self.logit_bias:
            found.append(LogitBias.of_words(self.logit_bias))
        found += self._structures
        if self.repetition_penalty != 1:
            found.append(Repetition(self.repetition_penalty))
        if self.presence_penalty or self.frequency_penalty:
            found.append(CountPenalty(self.presence_penalty, self.frequency_penalty))
        if self.no_repeat_ngram_size:
            found.append(NoRepeatNgrams(self.no_repeat_ngram_size))
        if self.bad_words:
            found.append(BadWords(self.bad_words))
        if self.min_new_tokens:
            found.append(MinNewTokens(self.min_new_tokens))
        return tuple(found)

    @property
    def _structures(self) -> list[Structure]:
        given = [(kind, getattr(self, kind)) for kind in STRUCTURES]
        named = [kind for kind, source in given if source is not None]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)} exclude each other; leave one out")
        return [Structure(kind, source) for kind, source in given if source is not None]

    @property
    def is_structured(self) -> bool:
        """Whether a structure says what the text may be."""
        return bool(self._structures)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are switched on, in the order in which they run."""
        return tuple(m for m in METHODS if getattr(self, m))

    def replace(self, **changes: Any) -> DecodingConfig:
        """Return a config with some values changed.

        Raises:
            ConfigError: unknown name, wrong type or illegal value; `self` is unchanged.
        """
        legal = [f.name for f in fields(self)]
        for name in changes:
            if name not in legal:
                raise ConfigError(f"unknown setting {quoted(name)}{nearest(name, legal)}")
        hints = hints_of(type(self))
        changes = {name: checked(name, value, hints[name]) for name, value in changes.items()}
        for blamed in EGAG_BOUNDS:  # the value that was changed is the one to name
            if blamed in changes:
                _check_egag_bounds(vars(self) | changes, blamed)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, object]:
        """Return plain values, ready for JSON."""
        values = asdict(self)
        return values | {name: list(v) for name, v in values.items() if isinstance(v, tuple)}

    @property
    def with_seed(self) -> DecodingConfig:
        """This config; with a fresh seed, governed by `torch.manual_seed`, where it has none."""
        return self if self.seed is not None else self.replace(seed=fresh_seed())

    def with_later_seed(self, count: int) -> DecodingConfig:
        """Return it with a seed that is so much later; behind the last one comes the first."""
        return self.replace(seed=((self.seed or 0) + count) % NUM_SEEDS)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> DecodingConfig:
        """Rebuild a config from `to_dict`; missing names take their defaults."""
        return cls().replace(**values)


def config_of(config: DecodingConfig | None) -> DecodingConfig:
    """Return a config, the defaults for None.

    Raises:
        ConfigError: it is something else.
    """
    config = DecodingConfig() if config is None else config
    return of_type("config", config, DecodingConfig, "give DecodingConfig(…), or None")


def check_method(method: str, legal: Sequence[str] = METHODS) -> None:
    """Raise unless the word names a method."""
    if not isinstance(method, str) or method not in legal:
        guess = nearest(method, legal) if isinstance(method, str) else ""
        raise ConfigError(f"unknown method {quoted(method)}{guess}; legal: {', '.join(legal)}")


def _check_is_text(name: str, string: str) -> None:
    """Raise if no text can hold a string."""
    if not string:
        raise ConfigError(f"{name} must not hold an empty string, which stands everywhere; drop it")
    odd = next((c for c in string if unicodedata.category(c) == "Cs"), None)
    if odd is not None:
        what = {"stop": "the stop string", "bad_words": "the text in bad_words"}.get(name, name)
        raise ConfigError(
            f"{what} {quoted(string)} is not text: it holds U+{ord(odd):04X}, which no "
            "text holds; give valid UTF-8"
        )


def _check_egag_bounds(values: Mapping[str, Any], blamed: str) -> None:
    """Raise unless egag_gamma_min is at most its upper bound; `blamed` is the setting to name."""
    low, gamma, high = (values[name] for name in EGAG_BOUNDS)
    top = gamma if high is None else high
    if blamed == "egag_gamma_min":
        Range(1, top).check(blamed, low)
    elif blamed == "egag_gamma_max" or high is None:  # else gamma is no bound here
        Range(low, LONGEST_DRAFT).check(blamed, top)
