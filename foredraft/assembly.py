"""From a method to the parts of the loop: a pair's drafters, policies and meters.

Keeps them between generations: what they learn of models and machine is worth keeping. Decodes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from foredraft.costs import Meter
from foredraft.decoding import Speculation
from foredraft.drafting import (
    STORAGES,
    AutoDrafter,
    Drafter,
    DraftModel,
    DraftModelDrafter,
    DraftParts,
    DraftSource,
    FirstDrafter,
    ForcedDrafter,
    INgramStorage,
    Ngram,
    PredictionDrafter,
    RetrievalDrafter,
)
from foredraft.errors import ConfigError
from foredraft.gamma import GammaPolicy
from foredraft.loading import LoadedModel
from foredraft.method import Method
from foredraft.models import Network, Recomputing

Part = TypeVar("Part")
MOST_KEPT = 64  # of each kind; a server's requests may bring ever new settings


class Assembly:
    """Builds the parts for one pair of models.

    Args:
        target: whose distribution is preserved.
        drafter: the draft model; None leaves drafters that need none.
    """

    def __init__(self, target: LoadedModel, drafter: LoadedModel | None = None) -> None:
        self.target, self.drafter = target, drafter
        self._uncached: dict[Hashable, Network] = {}
        self._storages: dict[Hashable, INgramStorage] = {}
        self._drafters: dict[Hashable, Drafter] = {}
        self._policies: dict[Hashable, GammaPolicy] = {}
        self._meters: dict[Hashable, Meter] = {}

    @property
    def networks(self) -> list[Network]:
        """The target's, and the draft model's if there is one."""
        return [loaded.model for loaded in (self.target, self.drafter) if loaded]

    def parts(self, method: Method) -> Speculation:
        """Return what a method decodes with.

        Raises:
            ConfigError: it needs a draft model and there is none.
        """
        network = self.network(method)
        if method.source is None:
            return Speculation.plain(network, method.sampler)
        # Labels and rates depend on these: what is learned under one is not used under another.
        name, config = method.name, method.config
        spec = config.drafting_spec(name)
        first = _first(method)
        under = (
            *(name, spec, config.verifier, config.sampler, config.cache),
            *(bool(method.controls), *map(type, first)),
        )
        policy_key = (config.policy_spec(name), config.gamma, *under)
        return Speculation(
            network,
            self._drafter(method, first, under),
            _kept(self._policies, policy_key, lambda: method.policy),
            method.verifier,
            method.sampler,
            config.first_target,
            meter=_kept(self._meters, under, Meter),
        )

    def network(self, method: Method) -> Network:
        """Return the network that a method's output comes from.

        Raises:
            ConfigError: it is the draft model's, and there is none.
        """
        return self._network(method.name, cache=method.config.cache)

    def _network(self, name: str, *, cache: bool) -> Network:
        loaded = self.drafter if name == "drafter" else self.target
        if loaded is None:
            raise ConfigError(
                f"method {name!r} needs a draft model; load one: drafter=… or --drafter NAME"
            )
        if cache:
            return loaded.model
        return _kept(self._uncached, loaded is self.target, lambda: Recomputing(loaded.model))

    def _drafter(
        self, method: Method, first: tuple[RetrievalDrafter, ...], under: Hashable
    ) -> Drafter:
        source = method.source
        assert source is not None
        if method.name == "ngram" and isinstance(source, Ngram):
            parts = self._draft_parts(method)
            inner: Drafter = source.over(self._storage(source, parts.vocab_size), parts)
            return FirstDrafter(first, inner) if first else inner
        return _kept(self._drafters, under, lambda: self._built(source, method, first))

    def _built(
        self, source: DraftSource, method: Method, first: tuple[RetrievalDrafter, ...]
    ) -> Drafter:
        inner = source.build(self._draft_parts(method, first))
        # `auto` has taken them among its sources, and weighs them as it weighs all others.
        return FirstDrafter(first, inner) if first and not isinstance(inner, AutoDrafter) else inner

    def _draft_parts(self, method: Method, first: tuple[RetrievalDrafter, ...] = ()) -> DraftParts:
        neural = None
        if self.drafter is not None:
            network = self._network("drafter", cache=method.config.cache)
            neural = DraftModelDrafter(network, method.sampler)
        return DraftParts(self.target.model.vocab_size, neural, first=first)

    def _storage(self, source: Ngram, vocab_size: int) -> INgramStorage:
        """Return what NASD counts in: kept whatever else is changed between two texts."""
        key = (source.storage, source.n)
        if key not in self._storages:
            self._storages = {key: STORAGES[source.storage](source.n, vocab_size)}
        return self._storages[key]


def _first(method: Method) -> tuple[RetrievalDrafter, ...]:
    """Return what drafts before anything else; a draft model knows of forced tokens by itself."""
    config, is_neural = method.config, isinstance(method.source, DraftModel)
    forced = [ForcedDrafter()] if config.is_structured and not is_neural else []
    return (*forced, *([PredictionDrafter()] if config.prediction else []))


def _kept(parts: dict[Hashable, Part], key: Hashable, make: Callable[[], Part]) -> Part:
    """Return the part kept under a key, made if there is none; the oldest one gives way."""
    if key not in parts:
        if len(parts) >= MOST_KEPT:
            del parts[next(iter(parts))]
        parts[key] = make()
    return parts[key]
