"""DecodingConfig: the whole state of a session, frozen and checked.

A change makes a new config or raises; so a refused command leaves nothing half done. Flags, slash
commands and JSON read their names and defaults from here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, fields
from typing import Any

from specdec.drafting.ngram_storage import STORAGES
from specdec.errors import ConfigError
from specdec.gamma import GAMMA_POLICIES
from specdec.gamma.entropy import EntropyGamma
from specdec.registry import check_range, nearest
from specdec.sampling import SAMPLERS
from specdec.verification import VERIFIERS

INFINITY = float("inf")
METHODS = ("speculative", "ngram", "target", "drafter")  # the order in which they run


@dataclass(frozen=True)
class DecodingConfig:
    """How to decode.

    Attributes:
        length: most tokens to generate.
        seed: of every random decision; each method starts from it anew.
        sampler: spec string of the sampler.
        verifier: spec string of the verifier.
        gamma: draft length, in tokens, of policies that do not say otherwise, and of NASD.
        policy: spec string of the gamma policy of the speculative method.
        egag: use entropy-adaptive gamma in place of `policy`.
        egag_gamma_min: its lower bound, in tokens.
        egag_gamma_max: its upper bound, in tokens; None means `gamma`.
        egag_ema: its smoothing β, 0 none.
        ngramstorage: `basic` (multi-level) or `onelevel`.
        ngram_order: n of the storage.
        top_k_filler: target tokens counted at each position by NASD.
        stop_if_unknown: NASD ends a draft at an unknown context instead of guessing.
        reset_in_between: NASD forgets between prompts.
        first_target: the first step decodes one token without a draft.
        cache: use the KV cache.
        chat: send prompts through the chat template.
        debug: show every step.
        stop: strings that end the text.
        speculative: whether this method runs.
        ngram: whether this method runs.
        target: whether this method runs.
        drafter: whether this method runs.
    """

    length: int = 35
    seed: int = 42
    sampler: str = "greedy"
    verifier: str = "rejection"
    gamma: int = 4
    policy: str = "fixed"
    egag: bool = False
    egag_gamma_min: int = 1
    egag_gamma_max: int | None = None
    egag_ema: float = 0.0
    ngramstorage: str = "basic"
    ngram_order: int = 3
    top_k_filler: int = 3
    stop_if_unknown: bool = False
    reset_in_between: bool = True
    first_target: bool = True
    cache: bool = True
    chat: bool = False
    debug: bool = False
    stop: tuple[str, ...] = ()
    speculative: bool = True
    ngram: bool = True
    target: bool = True
    drafter: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), str(field.type))
        for name in ("length", "gamma", "top_k_filler"):
            check_range(name, getattr(self, name), 1, INFINITY)
        check_range("ngram_order", self.ngram_order, 2, 64)
        if self.ngramstorage not in STORAGES:
            raise ConfigError(
                f"unknown ngramstorage {self.ngramstorage!r}{nearest(self.ngramstorage, STORAGES)}; "
                f"legal: {', '.join(STORAGES)}"
            )
        SAMPLERS.create(self.sampler)
        VERIFIERS.create(self.verifier)
        GAMMA_POLICIES.create(self.policy_spec, gamma=self.gamma)
        self._check_egag()

    def _check_egag(self) -> None:
        # Checked while off, too: a value must not be refused later, when EGAG is switched on.
        try:
            EntropyGamma(self.egag_gamma_min, self._gamma_max, self.egag_ema)
        except ConfigError as error:
            raise ConfigError(f"egag: {error}") from None

    @property
    def _gamma_max(self) -> int:
        return self.gamma if self.egag_gamma_max is None else self.egag_gamma_max

    @property
    def policy_spec(self) -> str:
        """Spec string of the policy in force."""
        if not self.egag:
            return self.policy
        return GAMMA_POLICIES.spec(
            EntropyGamma(self.egag_gamma_min, self._gamma_max, self.egag_ema)
        )

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
                raise ConfigError(f"unknown setting {name!r}{nearest(name, legal)}")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"stop": list(self.stop)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DecodingConfig:
        """Rebuild a config from `to_dict`; missing names take their defaults."""
        if "stop" in values:
            values = values | {"stop": tuple(values["stop"])}
        return cls().replace(**values)


def _check_type(name: str, value: Any, annotation: str) -> None:
    legal = {
        "int": (int,),
        "int | None": (int, type(None)),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
        "tuple[str, ...]": (tuple,),
    }[annotation]
    if not isinstance(value, legal) or (isinstance(value, bool) and bool not in legal):
        words = annotation.replace(" | None", "")
        raise ConfigError(f"{name} must be of type {words}, not {value!r}")
