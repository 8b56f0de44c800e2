"""Passes of fixed shape: on CUDA each is captured once as a graph, and then only replayed.

A graph repeats the same kernels on the same addresses, so a static pass takes everything that
changes from a few integers on the device: the tokens and where they begin. It is padded to a fixed
number of rows, which leave garbage behind `length` that the next write covers, and attends to a
whole bucket of positions under a mask. Nothing here needs CUDA but `capture_graph`: elsewhere the
same functions run as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from foredraft.errors import ModelError
from foredraft.models.base import Context, Drafted, Feed
from foredraft.native.llama import Llama, Pass
from foredraft.native.network import KEYS, NEVER, ROWS, KeyValueMemory, NativeModel
from foredraft.native.weights import Given

SIZES = (1, 2, 4, 8, 16, 32)  # rows of a static pass; more tokens go as a prompt does
WARM_UPS = 2  # runs before a capture: libraries choose kernels and take workspace in them
MOST_SHAPES = 256  # static passes that torch.compile may specialise

Made = tuple[Tensor, Tensor | None]  # what was asked for; and the states that were watched
Compute = Callable[[], Made]
Shape = tuple[int, int, int, tuple[int, ...]]  # rows, drafted tokens, bucket, watched layers
Capture = Callable[[Compute], Compute]


@dataclass(frozen=True, slots=True)
class StaticPass(Pass):
    """A pass whose place in the memory is known on the device only.

    Attributes:
        positions: of the rows, shape `[time]`.
    """

    positions: Tensor = field(kw_only=True)

    def write(self, place: int, new: Tensor) -> None:
        memory = self.written[place]
        memory.index_copy_(2, self.positions, new.to(memory.dtype))


def static_pass(
    llama: Llama,
    input_ids: Tensor,
    begin: Tensor,
    memory: Tensor,
    rotations: Tensor,
    watched: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor | None]:
    """Feed ids at positions that only the device knows.

    Args:
        llama: the network.
        input_ids: shape `[rows]`; those that are padding stand last.
        begin: position of the first, shape `[1]`.
        memory: keys and values of the positions that may be attended to, written in place, shape
            `[layers, 1, 2 · kv_heads, bucket, head_dim]`.
        rotations: of all positions, complex, shape `[≥ bucket, head_dim / 2]`.
        watched: see `Pass`.

    Returns:
        The last hidden states, `[rows, hidden]`; and what was watched, `[rows, width]`.
    """
    positions = begin + torch.arange(len(input_ids), device=begin.device)  # [rows]
    bucket = memory.shape[3]
    later = torch.arange(bucket, device=begin.device) > positions[:, None]  # [rows, bucket]
    mask = memory.new_zeros(later.shape).masked_fill_(later, NEVER).repeat(llama.group, 1)
    turns = llama.for_all_heads(rotations.index_select(0, positions))
    keys, values = memory.chunk(2, dim=2)
    parts = memory.unbind(0), keys.unbind(0), values.unbind(0)
    step = StaticPass(turns, mask, *parts, watched, positions=positions)
    hidden = llama(input_ids[None], step)
    return hidden, step.features if watched else None


def run_eagerly(compute: Compute) -> Compute:
    """Return the function as it is: the capture of a device without graphs."""
    return compute


class GraphCapture:
    """Makes CUDA graphs that share one pool of memory, since only one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> Compute:
        """Return a replay of `compute`; its result is overwritten by the next replay."""
        with torch.cuda.device(self._device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    compute()
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile: a server has more than one.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = compute()

        def replay() -> Made:
            graph.replay()
            return result

        return replay


@dataclass(frozen=True, slots=True)
class Recorded:
    """A static function with the integers it reads; what it uses stays where it is."""

    fed: Tensor
    compute: Compute
    run: Compute

    def __call__(self, numbers: Sequence[int]) -> Made:
        """Return the result for these numbers; it is overwritten by the next one."""
        self.fed.copy_(torch.tensor(numbers))
        return self.run()


class StaticMemory(KeyValueMemory):
    """Keys and values of one text, and the passes that were recorded on them.

    Attributes:
        capture: makes a pass quick; anew whenever the block has moved.
    """

    capture: Capture = run_eagerly

    def __init__(self, num_layers: int, kv_heads: int, head_dim: int, like: Tensor) -> None:
        super().__init__(num_layers, kv_heads, head_dim, like)
        self._recorded: dict[Shape, Recorded] = {}
        self._recorded_on: Tensor | None = None  # the block that they read and write

    def recorded(self, new_capture: Callable[[], Capture]) -> dict[Shape, Recorded]:
        """Return the passes on the block as it lies now."""
        if self.block is not self._recorded_on:
            self._recorded, self._recorded_on = {}, self.block
            self.capture = new_capture()
        return self._recorded

    def copy(self) -> StaticMemory:
        other = super().copy()
        other._recorded_on = None
        return other


class StaticModel(NativeModel):
    """The native runtime with static passes; only a prompt is fed in passes of its own size.

    With `compiled`, torch.compile makes the kernels of a pass. `new_capture` makes what captures
    the static passes, anew whenever the memory has moved; None means CUDA graphs on CUDA and
    nothing elsewhere. The rest is as for `NativeModel`.

    Raises:
        ModelError: another architecture.
    """

    memory_kind: ClassVar[type[KeyValueMemory]] = StaticMemory

    def __init__(
        self,
        network: Given,
        *,
        vocab_size: int | None = None,
        invariant: bool = False,
        compiled: bool = False,
        new_capture: Callable[[], Capture] | None = None,
    ) -> None:
        super().__init__(network, vocab_size=vocab_size, invariant=invariant)
        self._sizes = (ROWS,) if invariant else SIZES
        self._static_pass = compiled_pass() if compiled else static_pass
        self._new_capture = new_capture or self._graphs_where_there_are

    def _graphs_where_there_are(self) -> Capture:
        return GraphCapture(self.device) if self.device.type == "cuda" else run_eagerly

    @torch.inference_mode()
    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        most = self._sizes[-1]
        early = len(tokens) - keep if self.invariant else 0
        if early:
            super().logits(context, tokens[:early], 1)
        elif not self.invariant and (context.length == 0 or len(tokens) > most):
            return super().logits(context, tokens, keep)  # a prompt
        parts = [
            self._extend(context, tokens[i : i + most]) for i in range(early, len(tokens), most)
        ]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._fitted(logits[-keep:])

    @torch.inference_mode()
    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        if self.invariant:
            return super().draft(feeds, count)
        self.check(feeds, count)
        with self.owner.lock:
            return [self._draft(feed.context, feed.tokens, count) for feed in feeds]

    def _draft(self, context: Context, tokens: Sequence[int], count: int) -> Drafted:
        if len(tokens) > 1 and (context.length == 0 or len(tokens) > self._sizes[-1]):
            self.logits(context, tokens[:-1], 1)
            tokens = tokens[-1:]
        memory: StaticMemory = context.memory
        drafted, margins = self._run(memory, tokens, count)[0].tolist()
        memory.length += len(tokens) + count - 1
        return Drafted([int(token) for token in drafted], margins)

    def _extend(self, context: Context, tokens: Sequence[int]) -> Tensor:
        """Feed tokens, as many as a static pass has rows; return logits `[time, vocab]`."""
        memory, features, time = context.memory, context.features, len(tokens)
        logits, states = self._run(memory, tokens, 0, features.layers if features else ())
        if features and states is not None:
            features.write(memory.length, states[:time])
        memory.length += time
        return logits[:time].clone()

    def _run(
        self,
        memory: StaticMemory,
        tokens: Sequence[int],
        drafted: int,
        watched: tuple[int, ...] = (),
    ) -> Made:
        """Return logits after each row `[rows, vocab]`, or tokens and margins, `[2, drafted]`.

        Beside it are the states of the rows after the layers that are watched.
        """
        begin, count = memory.length, len(tokens)
        rows = next(size for size in self._sizes if size >= count)
        bucket = self._bucket(memory, begin + rows + drafted)
        last = self._num_embeddings - 1  # a drafter may be handed a token it has never heard of
        padding = [0] * (rows - count)
        numbers = [*(min(token, last) for token in tokens), *padding, begin, count]
        shape, recorded = (rows, drafted, bucket, watched), memory.recorded(self._new_capture)
        if shape not in recorded:
            recorded[shape] = self._record(memory, shape, numbers)
        return recorded[shape](numbers)

    def _bucket(self, memory: StaticMemory, end: int) -> int:
        """Return how many positions to attend to, with room for them."""
        bucket = KEYS
        while bucket < end:
            bucket *= 2
        self._make_room(memory, bucket)
        return bucket

    def _record(self, memory: StaticMemory, shape: Shape, numbers: list[int]) -> Recorded:
        rows, drafted, bucket, watched = shape
        fed = torch.tensor(numbers, device=self.device)
        held, rotations = memory.block[:, :, :, :bucket], self._rotations
        one_pass = self._static_pass

        def feed(ids: Tensor, begin: Tensor) -> Made:
            return one_pass(self.llama, ids, begin, held, rotations, watched)

        def logits() -> Made:
            hidden, states = feed(fed[:rows], fed[rows : rows + 1])
            return self.llama.logits(hidden), states

        def draft() -> Made:
            begin, count = fed[rows:].split(1)
            hidden = feed(fed[:rows], begin)[0].index_select(0, count - 1)
            found = [self._likeliest(hidden)]
            for i in range(drafted - 1):
                found.append(self._likeliest(feed(found[-1][0], begin + count + i)[0]))
            # One tensor, so that one copy brings tokens and margins: float64 holds every id.
            parts = [torch.cat(part).double() for part in zip(*found, strict=True)]
            return torch.stack(parts), None

        run = compute = draft if drafted else logits
        try:
            run = memory.capture(compute)  # with the first numbers in place
        except RuntimeError as error:
            warnings.warn(f"no CUDA graphs, passes run eagerly: {error}", RuntimeWarning, 2)
            self._new_capture = lambda: run_eagerly
            memory.capture = run_eagerly
        return Recorded(fed, compute, run)

    def _likeliest(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest token after a row and its margin, `[1]` each.

        The token is asked of argmax: of equals topk takes any.
        """
        logits = self._fitted(self.llama.logits(hidden))  # [1, vocab]
        largest = logits.float().topk(min(2, logits.shape[-1]), dim=-1).values
        return logits.argmax(-1), largest[:, 0] - largest[:, -1]


def compiled_pass() -> Callable[..., Made]:
    """Return `static_pass` as torch.compile makes it, at first use of each shape.

    Raises:
        ModelError: when called, if there is no compiler, or it fails.
    """
    compiled = torch.compile(static_pass, dynamic=False, fullgraph=True)

    def call(llama: Llama, *given: Any) -> Made:
        try:
            with torch._dynamo.config.patch(recompile_limit=MOST_SHAPES):
                result: Made = compiled(llama, *given)
        except torch._dynamo.exc.TorchDynamoException as error:
            first = str(error).strip().split("\n")[0]
            raise ModelError(
                f"torch.compile failed ({first}); leave --compile out, or install what it needs: "
                "a C++ compiler for a CPU, Triton for CUDA"
            ) from error
        return result

    return call
