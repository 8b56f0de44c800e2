"""The native runtime of a CPU: a network of the family as one C function a pass (kernels).

A pass serves several texts at once. Between its products nothing returns to Python, drafts are one
call, and a token's logits do not depend, to the bit, on the tokens and the texts that share its
pass.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.logits import Likeliest
from foredraft.models.base import Context, Drafted, Feed, Output
from foredraft.models.decoder_only import CausalModel
from foredraft.models.positions import positions_of
from foredraft.models.refusals import check_vocabulary_holds
from foredraft.native import structures
from foredraft.native.network import KeyValueMemory, check_is_in_family
from foredraft.native.pace import Pace
from foredraft.native.sampling import DrawsOfPass
from foredraft.native.structures import PANEL, Laid, Pass, library
from foredraft.native.t5_weights import T5Weights
from foredraft.native.weights import Given, Weights
from foredraft.threads import threads_for, usable_threads

PASS_ROWS = 64  # rows of a pass, whatever texts they are of; more tokens are fed in several passes

# A text's memory, its next tokens, and how many of the last of these get logits.
Text = tuple[KeyValueMemory, Sequence[int], int]


class Passes:
    """The passes of a network of the family as compiled C.

    A text is a memory of its own and tokens that follow what it holds; a pass feeds several. What
    it says of one does not depend, to the bit, on the others. One thread at a time may ask, for
    what `Network.check` lets pass.

    Args:
        weights: of the network.
        vocab_size: columns wanted, see `CausalModel`.
        threads: of a pass, at most; more would wake for nothing.
        single: activations stay in float32 where weights are quantised; else they are rounded to 8
            bits, in blocks of 32, and multiplied as integers, and keys and values to 16 bits.

    Attributes:
        columns: of the logits; fewer than wanted if the network has fewer.
        laid: the weights.
        pace: how many threads passes get.

    Raises:
        ModelError: no C compiler.
    """

    def __init__(
        self,
        weights: Weights | T5Weights,
        vocab_size: int,
        threads: int,
        *,
        single: bool = False,
    ) -> None:
        self._library = library()
        self.laid = Laid(self._library, weights, usable_threads(), single=single)
        self._last = self.laid.known - 1
        self._known = max(vocab_size, self.laid.known)
        self.columns, self._wanted = min(vocab_size, self.laid.known), vocab_size
        self._turns, self._nearness_of = weights.rotations, weights.nearness
        self._shape = (weights.num_layers, weights.kv_heads, self.laid.padded_dim)
        self._ids, self._feeds = (ctypes.c_int64 * PASS_ROWS)(), (structures.Feed * PASS_ROWS)()
        self._pass = Pass(columns=self.columns)
        self._pass.ids = ctypes.addressof(self._ids)
        self._pass.feed = ctypes.addressof(self._feeds)
        self._given = (ctypes.byref(self.laid.structure), ctypes.byref(self._pass))
        self._room = (0, 0)  # positions and threads that there is scratch for
        self.pace = Pace()
        self.threads = threads
        self.count_threads()

    def memory(self) -> KeyValueMemory:
        """Return the empty memory of a new text."""
        dtype = torch.float16 if self.laid.rounds else torch.float32
        return KeyValueMemory(*self._shape, torch.empty(0, dtype=dtype))

    def count_threads(self) -> None:
        """Look how many may be used: this process may have been pinned, or forked, meanwhile."""
        self._most_threads = usable_threads()

    def feed(self, texts: Sequence[Text]) -> tuple[Tensor, list[int], list[float]]:
        """Feed tokens and remember them.

        Args:
            texts: of each its memory, which no other one of them has; its tokens; and how many of
                the last of these get logits, 0 … all.

        Returns:
            Logits, text after text, shape `[sum of those counts, columns]`; of each row the
            likeliest token, and how far it is ahead of the second, NaN where a row decides nothing.

        Raises:
            RequestError: a token that there is not; nothing is fed.
        """
        self._make_ready(texts)
        return self._fed(texts)

    def draft(
        self,
        texts: Sequence[tuple[KeyValueMemory, Sequence[int]]],
        count: int,
        drawings: Sequence[Drawing] = (),
    ) -> list[Drafted]:
        """Feed tokens, then each text's next token but the last: the likeliest, or drawn ones.

        Args:
            texts: of each its memory, which no other one of them has, and its tokens, at least one.
            count: tokens wanted of each, ≥ 1.
            drawings: one a text; none: nothing is drawn.

        Returns:
            As `Network.draft` or `Network.draw`, text after text.

        Raises:
            RequestError: a token that there is not; nothing is fed.
        """
        fed = [(memory, tokens, 1) for memory, tokens in texts]
        self._make_ready(fed, count - 1)
        drafts = list[Drafted]()
        for first in range(0, len(fed), PASS_ROWS):
            together = fed[first : first + PASS_ROWS]
            if sum([len(tokens) for _, tokens, _ in together]) > PASS_ROWS:
                early = [(m, tokens[:-1], 0) for m, tokens, _ in together if len(tokens) > 1]
                self._fed(early)
                together = [(memory, tokens[-1:], 1) for memory, tokens, _ in together]
            drafts += self._drafted(together, count, drawings[first : first + PASS_ROWS])
        return drafts

    def _fed(self, texts: Sequence[Text]) -> tuple[Tensor, list[int], list[float]]:
        logits = torch.empty(sum([keep for _, _, keep in texts]), self.columns)
        tokens, margins = list[int](), list[float]()
        for parts in _in_passes(texts):
            self._describe(parts)
            self._pass.logits = logits.data_ptr() + 4 * self.columns * len(tokens)
            self._timed(1, self._library.forward)
            kept = sum([keep for _, _, keep in parts])
            for memory, fed, _ in parts:
                memory.length += len(fed)
            tokens += self._likeliest[:kept]
            margins += self._margin[:kept]
        return logits, tokens, margins

    def _drafted(
        self, parts: Sequence[Text], count: int, drawings: Sequence[Drawing]
    ) -> list[Drafted]:
        """Draft for texts of which what is fed first fits into one pass."""
        size, step = count * len(parts), self._pass
        drafted, margins = (ctypes.c_int64 * size)(), (ctypes.c_float * size)()
        logits = torch.empty(len(parts), self.columns)
        widths = self.columns, self._wanted
        draws = DrawsOfPass(self._library, drawings, len(parts), count, *widths)
        self._describe(parts)
        step.logits = logits.data_ptr()
        further = drafted, margins, ctypes.c_int64(count), draws.given
        self._timed(count, self._library.draft, *further)
        for memory, tokens, _ in parts:
            memory.length += len(tokens) + count - 1
        ends = range(count, size + 1, count)
        return [
            Drafted(drafted[end - count : end], margins[end - count : end], probs)
            for end, probs in zip(ends, draws.probs, strict=True)
        ]

    def _timed(self, count: int, compute: Callable[..., object], *further: object) -> None:
        """Let C compute `count` passes with as many threads as suit the machine just now."""
        step, most = self._pass, self._room[1]
        step.threads = self.pace.choose(most)
        begin = time.perf_counter()
        compute(*self._given, *further)
        self.pace.passed(step.rows, (time.perf_counter() - begin) / count, most)

    def _describe(self, parts: Sequence[Text]) -> None:
        """Write down what the texts add to the next pass."""
        ids = list[int]()
        for place, (memory, tokens, keep) in enumerate(parts):
            feed, block = self._feeds[place], memory.block
            feed.block = block.data_ptr()
            layer_stride, _, head_stride, *_ = block.stride()
            feed.layer_stride = layer_stride * block.itemsize
            feed.head_stride = head_stride * block.itemsize
            feed.begin, feed.time, feed.keep = memory.length, len(tokens), keep
            if memory.read is not None:
                source, feed.source_length = memory.read
                feed.source = source.data_ptr()
                feed.source_layer_stride, feed.source_head_stride = (
                    stride * source.itemsize for stride in source.stride()[:2]
                )
            ids += tokens
        if max(ids) > self._last:
            # A drafter may be handed a token it has never heard of; any other will do in its place.
            ids = [min(token, self._last) for token in ids]
        self._ids[: len(ids)] = [*ids]
        self._pass.feeds, self._pass.rows = len(parts), len(ids)

    def _make_ready(self, texts: Sequence[Text], further: int = 0) -> None:
        """Refuse tokens there are not; have room for them, and for `further` ones of each text."""
        for _, tokens, _ in texts:
            if not 0 <= min(tokens) <= max(tokens) < self._known:
                check_vocabulary_holds(tokens, self._known)
        threads = min(torch.get_num_threads(), self._most_threads, self.threads)
        positions, _ = self._room
        for memory, tokens, _ in texts:
            end = memory.length + len(tokens) + further
            memory.reserve(end)
            if end > positions:
                positions = memory.capacity
            if memory.read is not None:
                positions = max(positions, memory.read.length)
        if (positions, threads) != self._room:
            self._make_room(positions, threads)

    def _make_room(self, positions: int, threads: int) -> None:
        """Have rotations and scratch for passes that see so many positions."""
        self._room = (0, 0)  # until all of it is there: memory may run out in between
        step = self._pass
        turns = [turned(positions) for turned in self._turns]
        self._rotations = torch.stack(turns) if turns else torch.empty(0)
        if self._nearness_of:
            nearest_last = self._nearness_of(positions).float().flip(1)
            # Whole panels are read, and of rows that are read together what the last one sees.
            self._nearness = F.pad(nearest_last, (0, 2 * PANEL))
            step.nearness = self._nearness.data_ptr()
        floats = self._library.scratch_floats(self._given[0], PASS_ROWS, positions, threads)
        self._scratch = torch.empty(floats)
        self._likeliest = (ctypes.c_int64 * ((1 + threads) * PASS_ROWS))()
        self._margin = (ctypes.c_float * ((1 + threads) * PASS_ROWS))()
        step.likeliest = ctypes.addressof(self._likeliest)
        step.margin = ctypes.addressof(self._margin)
        step.rotations, step.positions = self._rotations.data_ptr(), positions
        step.scratch = self._scratch.data_ptr()
        self._room = (positions, threads)


def _in_passes(texts: Sequence[Text]) -> list[Sequence[Text]]:
    """Return texts cut into passes of `PASS_ROWS` rows at most; all tokens are in their order."""
    if len(texts) <= PASS_ROWS and 0 < sum([len(tokens) for _, tokens, _ in texts]) <= PASS_ROWS:
        return [texts]
    passes, parts, room = list[Sequence[Text]](), list[Text](), PASS_ROWS
    for memory, tokens, keep in texts:
        left = len(tokens)
        while left:
            if not room:
                passes.append(parts)
                parts, room = [], PASS_ROWS
            part = tokens[len(tokens) - left :][:room]
            left -= len(part)
            room -= len(part)
            parts.append((memory, part, min(max(keep - left, 0), len(part))))
    return [*passes, parts] if parts else passes


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

    def open(self, prompt: Prompt) -> Context:
        self._passes.count_threads()
        return super().open(prompt)

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        self.check(feeds)
        with self.owner.lock:
            texts = [(feed.context.memory, feed.tokens, feed.keep) for feed in feeds]
            logits, tokens, margins = self._passes.feed(texts)
        logits = self._fitted(logits)
        parts = [logits] if len(feeds) == 1 else logits.split([feed.keep for feed in feeds])
        outputs, end = list[Output](), 0
        for feed, part in zip(feeds, parts, strict=True):
            begin, end = end, end + feed.keep
            outputs.append(Output(part, Likeliest.by(tokens[begin:end], margins[begin:end])))
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
