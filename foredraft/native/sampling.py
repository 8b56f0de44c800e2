"""Sampling for a CPU in C (kernels/sampling.c, verdicts.c): logits that become choices when asked.

A row is made when it is first needed, so a verdict pays for the rows that decide it and no others;
each verdict is one call. Where there is no C compiler there is nothing here: whoever asks for
choices gets None and goes by the readable rule.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft.choices import (
    Acceptance,
    Choices,
    Decisive,
    Dense,
    Drawing,
    OneHot,
    Randomness,
    Rule,
    decides_by_numbers,
)
from foredraft.errors import ModelError
from foredraft.logits import Likeliest
from foredraft.native import structures
from foredraft.native.structures import library

TINIEST = 1e-30  # temperature; float32 sees 0 below it, and the result is one-hot already


@functools.cache
def functions() -> ctypes.CDLL | None:
    """Return the compiled functions; None where they cannot be compiled, which is tried once."""
    try:
        return library()
    except ModelError:
        return None


def filtered(
    logits: Tensor, rule: Rule, known: Likeliest | None = None
) -> tuple[Filtered, int] | None:
    """Return the choices of logits `[rows, vocab]`, and how many rows decide theirs.

    Args:
        logits: see `Filtered`.
        rule: of the sampler.
        known: what is likeliest, if that has been found out: other threads may have written the
            logits, and to look at all of them takes as long as to draw.

    None: not in float32 on a CPU, or no compiler.
    """
    if logits.dtype != torch.float32 or not logits.is_cpu or not logits.numel():
        return None
    compiled = functions()
    if compiled is None:
        return None
    choices = Filtered(compiled, logits, rule, known)
    decided = choices.num_decided
    if decided < len(logits):  # what stands for the others means nothing, but must be something
        logits = torch.cat((logits[:decided], torch.zeros_like(logits[decided:])))
        choices = Filtered(compiled, logits, rule)
    return choices, decided


def structure_of(
    compiled: ctypes.CDLL, rule: Rule, shape: Sequence[int], stride: int
) -> tuple[ctypes.Structure, Tensor]:
    """Return choices `[rows, vocab]` as C sees them, without logits, and the memory they need."""
    rows, vocab = shape
    temperature = max(rule.temperature, TINIEST)
    space = torch.empty(_space(compiled, rows, vocab), dtype=torch.float64)
    made = structures.Choices(
        space=space.data_ptr(),
        stride=stride,
        rows=rows,
        vocab=vocab,
        top_k=vocab if rule.top_k is None else rule.top_k,
        top_p=rule.top_p,
        least=least_logit(rule),
        temperature=temperature,
        filtered_at=temperature if rule.temperature_first else 1.0,
    )
    return made, space


def least_logit(rule: Rule) -> float:
    """Return how far below the largest logit a token may be for `min_p`; −∞: as far as it likes."""
    if rule.min_p <= 0:
        return -math.inf
    return math.log(rule.min_p) * (rule.temperature if rule.temperature_first else 1.0)


@functools.cache
def _space(compiled: ctypes.CDLL, rows: int, vocab: int) -> int:
    """Return how many doubles choices need."""
    doubles: int = compiled.choices_space(rows, vocab)
    return doubles


class Filtered(Decisive):
    """Logits under the rule of a sampler: each row is made when it is first needed.

    Args:
        compiled: functions of the kernels.
        logits: float32 on the CPU, `[rows, vocab]`; nobody edits them any more.
        rule: of the sampler.
        known: what is likeliest, if that has been found out.

    Attributes:
        num_decided: rows before the first whose largest logit is no number; if there is one, no row
            may be asked for.
    """

    __slots__ = ("_compiled", "_given", "_logits", "_probs", "_space", "_structure", "num_decided")

    def __init__(
        self, compiled: ctypes.CDLL, logits: Tensor, rule: Rule, known: Likeliest | None = None
    ) -> None:
        self._compiled = compiled
        row_stride, stride = logits.stride()
        if stride != 1:
            logits = logits.contiguous()
            row_stride, _ = logits.stride()
        self._logits = logits
        self._structure, self._space = structure_of(compiled, rule, logits.shape, row_stride)
        self._structure.logits = logits.data_ptr()
        self._given = ctypes.byref(self._structure)
        self._probs: Tensor | None = None
        if known is not None and known.decided == len(logits):
            compiled.open_known(self._given, _integers(known.tokens))
            self.num_decided = known.decided
        else:
            self.num_decided = compiled.open_choices(self._given)

    def __len__(self) -> int:
        return len(self._logits)

    @property
    def probs(self) -> Tensor:
        if self._probs is None:
            self._probs = self._written(0, len(self))
        return self._probs

    def _written(self, begin: int, end: int) -> Tensor:
        """Return probabilities of some rows, `[end − begin, vocab]`."""
        out = torch.empty(end - begin, self._logits.shape[1])
        self._compiled.write_rows(self._given, begin, end, out.data_ptr())
        return out

    def row(self, row: int) -> Choices:
        return Dense(self._written(row, row + 1))

    def draw(self, row: int, rng: Randomness, position: int) -> int:
        if not decides_by_numbers(rng):
            return rng.categorical(self._written(row, row + 1)[0], position)
        [uniform] = rng.ahead(1)
        rng.use(1)
        token: int = self._compiled.draw(self._given, row, uniform)
        return token

    def probabilities(self, tokens: Sequence[int]) -> list[float]:
        if not self._knows(tokens, len(self)):
            return Dense(self.probs).probabilities(tokens)
        found = (ctypes.c_double * len(tokens))()
        self._compiled.probabilities(self._given, _integers(tokens), len(tokens), found)
        return list(found)

    def followed_by(self, tokens: Sequence[int]) -> Choices:
        return Dense(self.probs).followed_by(tokens)

    def residual(self, row: int, draft: Choices, weight: float = 1.0) -> Choices:
        return Dense(self.probs).residual(row, draft, weight)

    def surpluses(self, rows: range, draft: Choices, weights: Sequence[float]) -> list[float]:
        return Dense(self.probs).surpluses(rows, draft, weights)

    def overlaps(self, draft: Choices, count: int) -> list[float]:
        if isinstance(draft, OneHot):
            return self.probabilities(draft.tokens[:count])
        q = self._beside(draft, count)
        if q is None or count > len(self):
            return Dense(self.probs).overlaps(draft, count)
        found = (ctypes.c_double * count)()
        self._compiled.overlaps(self._given, q.data_ptr(), count, found)
        return list(found)

    def dense(self, like: Tensor) -> Tensor:
        return self.probs.to(like)

    def judged(
        self,
        acceptance: Acceptance,
        tokens: Sequence[int],
        draft: Choices,
        uniforms: Sequence[float],
    ) -> tuple[int, int, int] | None:
        count = len(tokens)
        q = None if isinstance(draft, OneHot) else self._beside(draft, count)
        is_looked_up = isinstance(draft, OneHot) and draft.tokens == tokens
        if not (is_looked_up or q is not None) or not self._knows(tokens, len(self) - 1):
            return None
        verdict = (ctypes.c_int64 * 3)()
        self._compiled.judge(
            *(self._given, acceptance, _integers(tokens), None if q is None else q.data_ptr()),
            *(count, (ctypes.c_double * (count + 1))(*uniforms), verdict),
        )
        return verdict[0], verdict[1], verdict[2]

    def _knows(self, tokens: Sequence[int], most: int) -> bool:
        """Whether there are rows and columns for all of the tokens."""
        vocab = self._logits.shape[1]
        return len(tokens) <= most and (not tokens or 0 <= min(tokens) <= max(tokens) < vocab)

    def _beside(self, draft: Choices, count: int) -> Tensor | None:
        """Return the probabilities of a draft, `[≥ count, vocab]`, if C can read them."""
        if not isinstance(draft, Dense | Filtered):
            return None
        probs = draft.probs
        fits = len(probs) >= count and probs.shape[1] == self._logits.shape[1]
        is_plain = probs.dtype == torch.float32 and probs.device.type == "cpu"
        return probs if fits and is_plain and probs.is_contiguous() else None


class DrawsOfPass:
    """How the texts of a pass draw, as C reads it.

    Args:
        functions: of the kernels.
        drawings: one a text; none: nothing is drawn.
        texts: how many there are.
        count: tokens of each.
        columns: of the logits.
        width: tokens that probabilities are told of, those that there are no logits for being 0.

    Attributes:
        given: for C; None: nothing is drawn.
        probs: of each text, `[count, width]`; None where nothing is drawn.
    """

    def __init__(
        self,
        functions: ctypes.CDLL,
        drawings: Sequence[Drawing],
        texts: int,
        count: int,
        columns: int,
        width: int,
    ) -> None:
        self.given = None
        self.probs: list[Tensor] | list[None] = [None] * texts
        if not drawings:
            return
        made = [structure_of(functions, d.rule, (1, columns), columns) for d in drawings]
        self._choices = (structures.Choices * len(made))(*[structure for structure, _ in made])
        self._spaces = [space for _, space in made]
        uniforms = [uniform for d in drawings for uniform in d.uniforms[:count]]
        self._uniforms = (ctypes.c_double * len(uniforms))(*uniforms)
        probs = torch.empty(texts, count, width)
        self.probs = list(probs)
        self._structure = structures.Draws(
            choices=ctypes.addressof(self._choices),
            uniforms=ctypes.addressof(self._uniforms),
            probs=probs.data_ptr(),
            width=width,
        )
        self.given = ctypes.byref(self._structure)


def _integers(tokens: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(tokens))(*tokens)
