"""From a method to the parts of the loop: a pair's drafters, policies and meters.

Keeps them between generations: what they learn of models and machine is worth keeping. Decodes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from foredraft.costs import Meter
from foredraft.decoding import Speculation
from foredraft.drafting import (
    DRAFTERS,
    STORAGES,
    AutoDrafter,
    Drafter,
    DraftModelDrafter,
    DraftParts,
    DraftSource,
    FirstDrafter,
    ForcedDrafter,
    INgramStorage,
    Ngram,
    PredictionDrafter,
    RetrievalDrafter,
    neural_parts,
)
from foredraft.errors import ConfigError, ModelError, VocabularyMismatch, quoted
from foredraft.gamma import GammaPolicy
from foredraft.loading import LoadedModel
from foredraft.method import Method
from foredraft.models import HeadModel, Network, Recomputing, Seq2SeqModel
from foredraft.sampling.structure import Structure
from foredraft.translation import Translation, difference

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
        self._forced, self._predicted = ForcedDrafter(), PredictionDrafter()

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
        first = self._first(method)
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
        if name == "drafter" and isinstance(loaded.model, HeadModel):
            raise ConfigError(
                f"method 'drafter' cannot decode with {loaded.name!r}: a head reads its target and "
                "says nothing without it; switch the method off"
            )
        if name == "drafter" and self.foreign is not None:
            raise VocabularyMismatch(
                f"method 'drafter' cannot read the prompt's tokens: {self.foreign}; "
                f"load it as the target: --target {loaded.name}"
            )
        return self._loaded(loaded, cache=cache)

    def _loaded(self, loaded: LoadedModel, *, cache: bool) -> Network:
        if cache or isinstance(loaded.model, HeadModel):  # what it is told is told once
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
        """Return a new drafter, unless it refuses the target.

        Raises:
            VocabularyMismatch: it does; of a head a `ModelError`.
        """
        inner = source.build(replace(self._draft_parts(method), first=first))
        if self.drafter is not None and not inner.accepts(self.target.model):
            if isinstance(self.drafter.model, HeadModel):
                raise ModelError(
                    f"{self.drafter.name!r} reads the layers of its target, and "
                    f"{self.target.name!r} tells nothing of them here; leave it out"
                )
            columns = self.drafter.model.vocab_size, self.target.model.vocab_size
            why = f"one tokenizer, but {columns[0]} and {columns[1]} columns; load both by name"
            if self.foreign is not None:
                why = "no token is spelled alike; choose retokenized, or another draft model"
            raise VocabularyMismatch(
                f"{quoted(DRAFTERS.spec(source))} cannot draft with {self.drafter.name!r} for "
                f"target {self.target.name!r}: {why}"
            )
        if isinstance(inner, AutoDrafter):  # they are among its sources, weighed like all others
            return inner
        if isinstance(inner, DraftModelDrafter):  # which asks for what is forced by itself
            first = tuple(one for one in first if not isinstance(one, ForcedDrafter))
        return FirstDrafter(first, inner) if first else inner

    def _first(self, method: Method) -> tuple[RetrievalDrafter, ...]:
        """Return what drafts before anything else: what must come, then what is expected."""
        is_structured = any(isinstance(control, Structure) for control in method.controls)
        forced = [self._forced] if is_structured else []
        return (*forced, *([self._predicted] if method.config.prediction else []))

    def _draft_parts(self, method: Method) -> DraftParts:
        vocab_size = self.target.model.vocab_size
        if self.drafter is None:
            return DraftParts(vocab_size)
        network = self._loaded(self.drafter, cache=method.config.cache)
        is_foreign = self.foreign is not None
        parts = vocab_size, network, method.sampler, self.translation
        return neural_parts(*parts, is_foreign=is_foreign)

    @cached_property
    def foreign(self) -> str | None:
        """How the draft model's tokenizer differs from the target's; None: it does not."""
        if self.drafter is None:
            return None
        names = self.target.name, self.drafter.name
        return difference(self.target.tokenizer, self.drafter.tokenizer, names)

    @cached_property
    def translation(self) -> Translation | None:
        """Between the tokens of both; an encoder–decoder's pair has one kind of them."""
        if self.drafter is None or isinstance(self.target.model, Seq2SeqModel):
            return None
        return Translation(self.target.tokenizer, self.drafter.tokenizer)

    def _storage(self, source: Ngram, vocab_size: int) -> INgramStorage:
        """Return what NASD counts in: kept whatever else is changed between two texts."""
        key = (source.storage, source.n)
        if key not in self._storages:
            self._storages = {key: STORAGES[source.storage](source.n, vocab_size)}
        return self._storages[key]


def _kept(parts: dict[Hashable, Part], key: Hashable, make: Callable[[], Part]) -> Part:
    """Return the part kept under a key, made if there is none; the oldest one gives way."""
    if key not in parts:
        if len(parts) >= MOST_KEPT:
            del parts[next(iter(parts))]
        parts[key] = make()
    return parts[key]
