"""From a config to the parts of a loop: drafter, policy, verifier, sampler.

Keeps drafters, policies and n-gram storages between generations: what they learn of models and
machine is worth keeping. Decodes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from foredraft.config import DecodingConfig
from foredraft.decoding import Speculation
from foredraft.drafting import (
    DRAFTERS,
    STORAGES,
    Drafter,
    DraftModelDrafter,
    DraftParts,
    INgramStorage,
    NgramDrafter,
)
from foredraft.errors import ConfigError
from foredraft.gamma import GAMMA_POLICIES, GammaPolicy
from foredraft.loading import LoadedModel
from foredraft.models import Network, Recomputing
from foredraft.sampling import SAMPLERS, Sampler
from foredraft.verification import VERIFIERS

Part = TypeVar("Part")
MOST_KEPT = 64  # drafters, and policies; a server's requests may bring ever new settings


class Assembly:
    """Builds the parts for one pair of models.

    Args:
        target: whose distribution is preserved.
        drafter: the draft model; None leaves drafters that need none.
    """

    def __init__(self, target: LoadedModel, drafter: LoadedModel | None = None) -> None:
        self.target, self.drafter = target, drafter
        self._uncached: dict[Hashable, Network] = {}
        self._storages: dict[tuple[str, int], INgramStorage] = {}
        self._drafters: dict[Hashable, Drafter] = {}
        self._policies: dict[Hashable, GammaPolicy] = {}

    def speculation(self, method: str, config: DecodingConfig) -> Speculation:
        """Return the parts that `speculative` or `ngram` decodes with.

        Raises:
            ConfigError: they need a draft model and there is none.
        """
        sampler, verifier = SAMPLERS.create(config.sampler), VERIFIERS.create(config.verifier)
        drafter, policy = self._drafting(method, sampler, config)
        target = self.network("target", config)
        return Speculation(target, drafter, policy, verifier, sampler, config.first_target)

    def network(self, method: str, config: DecodingConfig) -> Network:
        """Return the network that a method's output comes from."""
        loaded = self.drafter if method == "drafter" else self.target
        if loaded is None:
            raise ConfigError(
                f"method {method!r} needs a draft model; load one: drafter=… or --drafter NAME"
            )
        if config.cache:
            return loaded.model
        return _kept(self._uncached, loaded is self.target, lambda: Recomputing(loaded.model))

    def _drafting(
        self, method: str, sampler: Sampler, config: DecodingConfig
    ) -> tuple[Drafter, GammaPolicy]:
        drafting = config.drafting if method == "speculative" else method
        learned_on = (method, drafting, config.sampler, config.verifier, config.cache)
        spec = config.policy_spec if method == "speculative" else config.policy
        policy = _kept(
            self._policies,
            (spec, config.gamma, *learned_on),
            lambda: GAMMA_POLICIES.create(spec, gamma=config.gamma),
        )
        if method == "ngram":
            return self._ngram_drafter(config), policy
        drafter = _kept(
            self._drafters,
            learned_on,
            lambda: DRAFTERS.create(drafting).build(self._draft_parts(sampler, config)),
        )
        return drafter, policy

    def _draft_parts(self, sampler: Sampler, config: DecodingConfig) -> DraftParts:
        neural = None
        if self.drafter is not None:
            neural = DraftModelDrafter(self.network("drafter", config), sampler)
        return DraftParts(self.target.model.vocab_size, neural)

    def _ngram_drafter(self, config: DecodingConfig) -> Drafter:
        return NgramDrafter(
            self._storage(config),
            filler_top_k=config.top_k_filler,
            stop_if_unknown=config.stop_if_unknown,
            reset_in_between=config.reset_in_between,
        )

    def _storage(self, config: DecodingConfig) -> INgramStorage:
        key = (config.ngramstorage, config.ngram_order)
        if key not in self._storages:
            vocab_size = self.target.model.vocab_size
            self._storages = {key: STORAGES[key[0]](key[1], vocab_size)}
        return self._storages[key]


def _kept(parts: dict[Hashable, Part], key: Hashable, make: Callable[[], Part]) -> Part:
    """Return the part kept under a key, made if there is none; the oldest one gives way."""
    if key not in parts:
        if len(parts) >= MOST_KEPT:
            del parts[next(iter(parts))]
        parts[key] = make()
    return parts[key]
