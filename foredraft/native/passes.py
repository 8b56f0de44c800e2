"""Passes of a network as one C function each (kernels), over several texts at once.

Between its products nothing returns to Python, drafts are one call, and a token's logits do not
depend, to the bit, on the tokens and the texts that share its pass.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.models.base import Drafted
from foredraft.models.refusals import check_vocabulary_holds
from foredraft.native import structures
from foredraft.native.network import KeyValueMemory
from foredraft.native.pace import Pace
from foredraft.native.sampling import DrawsOfPass
from foredraft.native.structures import PANEL, AnyWeights, Laid, Pass, library
from foredraft.threads import usable_threads

PASS_ROWS = 64  # rows of a pass, whatever texts they are of; more tokens are fed in several passes

# A text's memory, its next tokens, and how many of the last of these get logits.
Text = tuple[KeyValueMemory, Sequence[int], int]


@dataclass(frozen=True)
class Told:
    """What a head is told of its target, beside the tokens.

    Attributes:
        rows: of all tokens that are fed, `[rows, width]`.
        are_states: whether they are states that the head has made itself, of the tokens before.
    """

    rows: Tensor
    are_states: bool = False


@dataclass
class Fed:
    """What a pass says, text after text.

    Attributes:
        logits: shape `[kept rows, columns]`.
        tokens: the likeliest of each row.
        margins: how far it is ahead of the second; NaN where a row decides nothing.
        states: after the layers that were watched, `[rows, layers · hidden]`.
    """

    logits: Tensor
    tokens: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    states: Tensor = field(default_factory=lambda: torch.empty(0))


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
        words: whose embedding it shares; None: it has one of its own.
        drawn_of: tokens that probabilities are told of, where columns stand for some of them; 0: as
            many as there are columns.

    Attributes:
        columns: of the logits; fewer than wanted if the network has fewer.
        laid: the weights.
        pace: how many threads passes get.

    Raises:
        ModelError: no C compiler.
    """

    def __init__(
        self,
        weights: AnyWeights,
        vocab_size: int,
        threads: int,
        *,
        single: bool = False,
        words: Laid | None = None,
        drawn_of: int = 0,
    ) -> None:
        self._library = library()
        self.laid = Laid(self._library, weights, usable_threads(), single=single, words=words)
        self._last = self.laid.known - 1
        self._known = max(vocab_size, self.laid.known)
        self.columns, self._drawn_of = min(vocab_size, self.laid.columns), drawn_of or vocab_size
        self._hidden = self.laid.hidden
        self._turns, self._nearness_of = weights.rotations, weights.nearness
        self._shape = (weights.num_layers, weights.kv_heads, self.laid.padded_dim)
        self._ids, self._feeds = (ctypes.c_int64 * PASS_ROWS)(), (structures.Feed * PASS_ROWS)()
        self._pass = Pass(columns=self.columns)
        self._pass.ids = ctypes.addressof(self._ids)
        self._pass.feed = ctypes.addressof(self._feeds)
        self._given = (ctypes.byref(self.laid.structure), ctypes.byref(self._pass))
        self._room = (0, 0)  # positions and threads that there is scratch for
        self._draft_logits = torch.empty(0, self.columns)  # nobody else reads them
        self.pace = Pace()
        self.threads = threads
        self.count_threads()

    @property
    def memory_shape(self) -> tuple[tuple[int, int, int], Tensor]:
        """What the memory of a text is made of: layers, heads and dimensions, and its numbers."""
        dtype = torch.float16 if self.laid.rounds else torch.float32
        return self._shape, torch.empty(0, dtype=dtype)

    def memory(self) -> KeyValueMemory:
        """Return the empty memory of a new text."""
        shape, like = self.memory_shape
        return KeyValueMemory(*shape, like)

    def count_threads(self) -> None:
        """Look how many may be used: this process may have been pinned, or forked, meanwhile."""
        self._most_threads = usable_threads()

    def feed(
        self,
        texts: Sequence[Text],
        watched: Sequence[int] = (),
        told: Told | None = None,
        states: Tensor | None = None,
    ) -> Fed:
        """Feed tokens and remember them.

        Args:
            texts: of each its memory, which no other one of them has; its tokens; and how many of
                the last of these get logits, 0 … all.
            watched: numbers of layers after which the states of all tokens are wanted.
            told: what a head is told.
            states: where those that are wanted are written, `[rows, layers · hidden]`.

        Raises:
            RequestError: a token that there is not; nothing is fed.
        """
        self._make_ready(texts)
        return self._fed(texts, watched, told, states)

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

    def _fed(
        self,
        texts: Sequence[Text],
        watched: Sequence[int] = (),
        told: Told | None = None,
        states: Tensor | None = None,
    ) -> Fed:
        num_rows = sum([len(tokens) for _, tokens, _ in texts])
        fed = Fed(torch.empty(sum([keep for _, _, keep in texts]), self.columns))
        if watched:
            width = len(watched) * self._hidden
            fed.states = torch.empty(num_rows, width) if states is None else states
        step, row = self._pass, 0
        for parts in _in_passes(texts):
            self._describe(parts)
            step.logits = fed.logits.data_ptr() + 4 * self.columns * len(fed.tokens)
            if watched:
                self._watch(watched, fed.states[row:], told, row)
            try:
                self._timed(1, self._library.forward)
            finally:  # also where somebody interrupts: the next pass must not write there
                self._watch_nothing()
            kept = sum([keep for _, _, keep in parts])
            for memory, tokens, _ in parts:
                memory.length += len(tokens)
            fed.tokens += self._likeliest[:kept]
            fed.margins += self._margin[:kept]
            row += step.rows
        return fed

    def _watch(
        self, watched: Sequence[int], states: Tensor, told: Told | None, row: int = 0
    ) -> None:
        """Let the next pass write states down, and read what a head is told, from `row` on."""
        step, self._watched = self._pass, (ctypes.c_int64 * len(watched))(*watched)
        step.watched, step.watch = len(watched), ctypes.addressof(self._watched)
        step.states = states.data_ptr()
        if told is not None:
            step.features, step.are_states = told.rows[row:].data_ptr(), told.are_states

    def _watch_nothing(self) -> None:
        step = self._pass
        if step.watched:
            step.watched, step.watch, step.states, step.features = 0, None, None, None

    def _drafted(
        self, parts: Sequence[Text], count: int, drawings: Sequence[Drawing]
    ) -> list[Drafted]:
        """Draft for texts of which what is fed first fits into one pass."""
        size, step = count * len(parts), self._pass
        drafted, margins = (ctypes.c_int64 * size)(), (ctypes.c_float * size)()
        if len(parts) > len(self._draft_logits):
            self._draft_logits = torch.empty(len(parts), self.columns)
        widths = self.columns, self._drawn_of
        draws = DrawsOfPass(self._library, drawings, len(parts), count, *widths)
        self._describe(parts)
        step.logits = self._draft_logits.data_ptr()
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
            feed = self._feeds[place]
            feed.block, feed.layer_stride, feed.head_stride = memory.place
            feed.begin, feed.time, feed.keep = memory.length, len(tokens), keep
            feed.first = memory.first
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
