"""Drafter: proposes tokens for the target to check; and the registry of what can be drafted with.

A registered `DraftSource` is the written form, `hybrid(suffix, model)`; built with a pair's parts
it is a `Drafter`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from foredraft.core import Draft, Prompt, StepOutcome
from foredraft.costs import Meter
from foredraft.errors import ConfigError
from foredraft.gamma.base import GammaPolicy, Signal
from foredraft.models.base import Context, Network
from foredraft.ranges import Checked
from foredraft.registry import Registry
from foredraft.sampling.controls import Controls
from foredraft.sampling.rng import Rng


@dataclass(frozen=True)
class Beginning:
    """What a drafter is told of a text before it drafts for it.

    Attributes:
        prompt: what the target was started with: the tokens the sequence begins with, or what its
            encoder reads.
        rng: the generation's source of randomness, shared with verification.
        controls: that bend the target's distribution, and should bend what drafts are drawn from;
            None: there are none. They stand where the text stands.
        prediction: tokens that the output is expected to resemble.
        context: of the target, for drafters that read what its layers make of the text.
    """

    prompt: Prompt
    rng: Rng
    controls: Controls | None = None
    prediction: Sequence[int] = ()
    context: Context | None = None


class Drafter(ABC):
    """Whatever proposes: a small model, n-gram counts, anything else.

    Whoever keeps a drafter keeps what it has learned of models and machine; every generation gets
    one of its own by `for_text`. A drafter never sees how tokens are verified, and the loop never
    sees how they are found.
    """

    parts: ClassVar[tuple[str, ...]] = ()  # attributes that hold drafters, alone or in a list
    meter: Meter  # of the pair of models; the loop tells it of every step
    reads: tuple[int, ...] = ()  # layers of the target whose states it must be told, see `Features`
    rest: int = 0  # steps to come in which it would draft nothing: it is neither asked nor told

    def __copy__(self) -> Self:
        # Each text makes copies, and what `copy` does for any object takes several times as long.
        own = object.__new__(type(self))
        own.__dict__.update(self.__dict__)
        return own

    def for_text(self, meter: Meter, made: dict[int, Drafter] | None = None) -> Self:
        """Return the drafter of one text: what `start` sets is its own, what is learned is shared.

        Learned is what stands in objects of its own; what is set anew belongs to the text.

        Args:
            meter: of the pair of models.
            made: drafters of this text that there are already, by those they come from: whoever
                shares a drafter goes on sharing it.
        """
        made = {} if made is None else made
        if id(self) not in made:
            made[id(self)] = own = copy.copy(self)
            own.meter = meter
            for name in self.parts:
                part = getattr(self, name)
                several = isinstance(part, list)
                copied = [one.for_text(meter, made) for one in (part if several else [part])]
                setattr(own, name, copied if several else copied[0])
        return made[id(self)]  # type: ignore[return-value]

    def accepts(self, target: Network) -> bool:
        """Whether it can draft for a target: what it proposes is of the target's tokens."""
        return all(one.accepts(target) for one in self._inner())

    def watched(self) -> tuple[int, ...]:
        """Return what it or a part of it `reads`."""
        return next((found for one in self._inner() if (found := one.watched())), self.reads)

    def _inner(self) -> Iterator[Drafter]:
        """Yield the drafters that are parts of it."""
        for name in self.parts:
            part = getattr(self, name)
            yield from part if isinstance(part, list) else [part]

    @abstractmethod
    def start(self, text: Beginning) -> None:
        """Begin a text: set whatever belongs to it.

        Begun again, with a text that begins alike, it may keep what it has read of it.
        """

    @abstractmethod
    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        """Return at most `gamma` tokens that may follow `tokens`; none is a legal answer.

        Args:
            tokens: everything so far, what the sequence began with and its output; not edited.
            gamma: the most tokens wanted, ≥ 0.
            policy: asked before and after each token.
        """

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        """Learn from a finished step.

        Args:
            tokens: everything so far, the emitted tokens at its end.
            num_emitted: how many those are, ≥ 1.
            target_logits: the target's, shape `[≥ num_emitted, vocab]`; row i predicted emitted
                token i.
        """

    def update(self, outcome: StepOutcome) -> None:
        """Learn what a finished step cost and brought; comes after `observe`."""


def admit(
    signals: Iterable[Signal],
    policy: GammaPolicy,
    num_drafted: int = 0,
    draw: Callable[[Signal, int], int] = lambda signal, _: signal.likeliest,
) -> tuple[list[int], bool]:
    """Return the tokens that a policy admits, and whether it would go on after them.

    After a token that ends the text there is nothing to draft.

    Args:
        signals: what is known of one token after another; the next is asked for only when the
            policy has gone on.
        policy: asked before and after each token.
        num_drafted: tokens already in the draft.
        draw: the token of a signal, and how many were drafted before it; the likeliest, unless a
            sampler says otherwise.
    """
    tokens = list[int]()
    for signal in signals:
        before = num_drafted + len(tokens)
        if not policy.before_token(signal, before):
            return tokens, False
        tokens.append(draw(signal, before))
        if not policy.after_token(tokens[-1], signal, before + 1) or tokens[-1] in policy.ends:
            return tokens, False
    return tokens, True


@dataclass(frozen=True)
class DraftParts:
    """What drafters are built from.

    Attributes:
        vocab_size: columns of the target's logits.
        neural: drafts with the draft model; one object, however many drafters use it, so that they
            share one context. None: there is no draft model.
        knows_logits: whether the target's logits are its own, and not made from a recording; else
            nothing is to be learned from them.
        retokenized: the draft model, whose text is cut into the target's tokens; None: no
            tokenizers are known, so both models have one vocabulary.
        intersection: the draft model, of the tokens that both tokenizers spell alike; likewise.
        first: retrieve what belongs to one text: forced and predicted tokens, to be drafted before
            anything else.
    """

    vocab_size: int
    neural: Drafter | None = None
    knows_logits: bool = True
    retokenized: Drafter | None = None
    intersection: Drafter | None = None
    first: tuple[Drafter, ...] = ()


class DraftSource(Checked, ABC):
    """A drafter as it is written down: a frozen dataclass of parameters.

    Attributes:
        retrieves: whether it builds a `RetrievalDrafter`, which may come first in a hybrid.
        chooses_lengths: whether it has a length rule of its own, so that a policy only bounds it.
    """

    retrieves: bool = False
    chooses_lengths: bool = False

    @abstractmethod
    def build(self, parts: DraftParts) -> Drafter:
        """Return a new drafter.

        Raises:
            ConfigError: it needs a draft model and there is none.
        """


DRAFTERS: Registry[DraftSource] = Registry("drafter")


@DRAFTERS.register("model")
@dataclass(frozen=True)
class DraftModel(DraftSource):
    """The draft model; with another tokenizer than the target by the way that suits both."""

    def build(self, parts: DraftParts) -> Drafter:
        return needed(parts.neural)


def needed(neural: Drafter | None) -> Drafter:
    """Return what drafts with the draft model; raise `ConfigError` if there is none."""
    if neural is None:
        raise ConfigError(
            "drafting with a model needs a draft model; load one (drafter=… or --drafter NAME), "
            "or choose a drafter that needs none, e.g. suffix"
        )
    return neural
