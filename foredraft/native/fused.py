"""The native runtime of a CPU: networks whose passes are compiled C (`Passes`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.logits import Likeliest
from foredraft.models.base import Context, Drafted, Feed, Output
from foredraft.models.decoder_only import CausalModel
from foredraft.models.positions import positions_of
from foredraft.native.network import KeyValueMemory, check_is_in_family
from foredraft.native.passes import Passes
from foredraft.native.weights import Given, Weights
from foredraft.threads import threads_for


class CompiledModel(CausalModel):
    """What every network has whose passes are compiled C; several texts share one."""

    _passes: Passes

    @property
    def threads(self) -> int:
        """Of a pass, at most: as many as its weights are worth, or were asked for."""
        return self._passes.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._passes.threads = threads

    @property
    def pass_threads(self) -> int | None:
        return self._passes.pace.threads or None  # none yet

    def weights(self) -> Iterator[Tensor]:
        yield from self._passes.laid.tensors

    def embedding(self) -> Tensor:
        laid = self._passes.laid
        return laid.rows("embedding", torch.arange(laid.known))

    def output_rows(self, tokens: Tensor) -> Tensor:
        return self._passes.laid.rows("head", tokens)

    def last_norm(self) -> tuple[Tensor, float]:
        laid = self._passes.laid
        return laid.gain, float(laid.structure.epsilon)

    def open(self, prompt: Prompt) -> Context:
        self._passes.count_threads()
        return super().open(prompt)

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        self.check(feeds)
        with self.owner.lock:
            texts = [(feed.context.memory, feed.tokens, feed.keep) for feed in feeds]
            watched = _watched(feeds)
            room = _room_for(feeds[0], watched, self.state_size) if len(feeds) == 1 else None
            fed = self._passes.feed(texts, watched, states=room)
        if room is not None and (features := feeds[0].context.features):
            features.confirm(len(room))
        elif watched:
            _tell(feeds, watched, fed.states)
        logits = self._fitted(fed.logits)
        parts = [logits] if len(feeds) == 1 else logits.split([feed.keep for feed in feeds])
        outputs, end = list[Output](), 0
        for feed, part in zip(feeds, parts, strict=True):
            begin, end = end, end + feed.keep
            likeliest = Likeliest.by(fed.tokens[begin:end], fed.margins[begin:end])
            outputs.append(Output(part, likeliest))
        return outputs

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self.check(feeds, count)
        with self.owner.lock:
            return self._passes.draft([(f.context.memory, f.tokens) for f in feeds], count)

    def draw(self, feeds: Sequence[Feed], count: int, drawings: Sequence[Drawing]) -> list[Drafted]:
        self.check(feeds, count)
        with self.owner.lock:
            texts = [(feed.context.memory, feed.tokens) for feed in feeds]
            return self._passes.draft(texts, count, drawings)

    def _new_memory(self) -> KeyValueMemory:
        return self._passes.memory()

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        return self.forward([Feed(context, tokens, keep)])[0].logits


class FusedModel(CompiledModel):
    """A network of the Llama family whose passes are compiled C (`Passes`).

    Args:
        network: a causal LM on the CPU whose config `is_in_family`.
        vocab_size: columns wanted, see `CausalModel`.
        single: see `Passes`.

    Attributes:
        rounds: whether activations are rounded to 8 bits.

    Raises:
        ModelError: another architecture, weights that do not fit its config, or no C compiler.
    """

    def __init__(
        self, network: Given, *, vocab_size: int | None = None, single: bool = False
    ) -> None:
        check_is_in_family(network)
        weights = Weights(network)  # refuses a config that is not theirs
        num_embeddings, positions = int(network.config.vocab_size), positions_of(network.config)
        super().__init__(num_embeddings, vocab_size, positions, torch.device("cpu"))
        threads = threads_for(network)
        self._passes = Passes(weights, self.vocab_size, threads, single=single)
        self.weight_bytes = self._passes.laid.weight_bytes
        self.rounds = self._passes.laid.rounds
        self.position_bytes = self._new_memory().position_bytes
        self.num_watchable, self.state_size = weights.num_layers, self._passes.laid.hidden


def _watched(feeds: Sequence[Feed]) -> list[int]:
    """Return the layers that somebody watches, of whatever text."""
    features = [feed.context.features for feed in feeds if feed.context.features is not None]
    return sorted({layer for one in features for layer in one.layers}) if features else []


def _room_for(feed: Feed, watched: Sequence[int], size: int) -> Tensor | None:
    """Return where a text of its own pass wants its states; None: nowhere, or in another order."""
    context = feed.context
    if context.features is None or list(context.features.layers) != watched:
        return None
    like = torch.empty(0, len(watched) * size)
    return context.features.room_for(context.length, len(feed.tokens), like)


def _tell(feeds: Sequence[Feed], watched: Sequence[int], states: Tensor) -> None:
    """Give every text that is watched its states, of `[rows, layers · hidden]`, text after text."""
    for feed, rows in zip(feeds, states.split([len(feed.tokens) for feed in feeds]), strict=True):
        context = feed.context
        if context.features is not None:
            if list(context.features.layers) != list(watched):
                apart = rows.unflatten(1, (len(watched), -1))
                places = [watched.index(layer) for layer in context.features.layers]
                rows = apart[:, places].flatten(1)
            context.features.write(context.length - len(rows), rows)
