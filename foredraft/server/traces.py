"""What a step did, for whoever looks closely: tokens, chances, coins and where copies come from.

A sampler and a verifier that write down what passes through them; the text is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foredraft.choices import Choices, OneHot, Randomness
from foredraft.core import Draft, StepRecord, Verdict
from foredraft.files import Json
from foredraft.generation import Generation
from foredraft.logits import Likeliest
from foredraft.sampling import Rng, Sampler
from foredraft.text import decoded
from foredraft.verification import Verifier
from foredraft.verification.rejection import RejectionVerifier

BARS = 8  # likeliest tokens of target and drafter that are shown at a position
LEAST_MATCH = 1  # tokens before a copy that must be those before its source


class Coins(Rng):
    """Randomness that passes on what another says, and remembers the numbers it used.

    Args:
        inner: whose numbers decide.
    """

    def __init__(self, inner: Rng) -> None:
        self._inner, self.used = inner, list[float]()
        self.is_keyed = inner.is_keyed

    @property
    def foresees(self) -> bool:
        return self._inner.foresees

    def ahead(self, count: int) -> list[float]:
        return self._inner.ahead(count)

    def use(self, count: int) -> None:
        if not self.is_keyed:
            self.used += self._inner.ahead(count)
        self._inner.use(count)

    def accepts(self, probability: float) -> bool:
        self.used += self._inner.ahead(1)
        return self._inner.accepts(probability)

    def categorical(self, probs: Tensor, position: int) -> int:
        return self._inner.categorical(probs, position)

    def categorical_ahead(self, probs: Tensor, position: int) -> Tensor:
        return self._inner.categorical_ahead(probs, position)


@dataclass(frozen=True)
class _WatchedSampler(Sampler):
    """Samples as another does, and tells a tracer what it was given and made."""

    inner: Sampler
    tracer: Tracer

    def probs(self, logits: Tensor) -> Tensor:
        return self.inner.probs(logits)

    @property
    def is_greedy(self) -> bool:
        return self.inner.is_greedy

    def choices(self, logits: Tensor, known: Likeliest | None = None) -> tuple[Choices, int]:
        made = self.inner.choices(logits, known)
        self.tracer.target, self.tracer.logits = made[0], logits
        self.tracer.draft, self.tracer.coins = Draft([]), []
        return made


@dataclass(frozen=True)
class _WatchedVerifier(Verifier):
    """Judges as another does, and tells a tracer what was judged, and by which numbers."""

    inner: Verifier
    tracer: Tracer

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("is_lossless", "is_coupled", "accepts_overlap"):
            object.__setattr__(self, name, getattr(self.inner, name))

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        assert isinstance(rng, Rng)
        coins = Coins(rng)
        verdict = self.inner.judge(draft, target, coins, position)
        # Token rejection alone holds a number against each token in turn.
        each = isinstance(self.inner, RejectionVerifier)
        self.tracer.draft, self.tracer.coins = draft, coins.used if each else []
        return verdict


class Tracer:
    """Follows one text.

    Attributes:
        target: what the newest step drew from, `drafted + 1` rows.
        logits: it was made of.
        draft: of that step.
        coins: the numbers that judged it, in order.
    """

    def __init__(self) -> None:
        self.target: Choices = OneHot([])
        self.logits = torch.empty(0, 0)
        self.draft, self.coins = Draft([]), list[float]()
        self._steps = 0

    def watched(self, generation: Generation) -> Generation:
        """Return a generation, its parts replaced by those that tell this tracer."""
        self._generation = generation
        self._tokenizer = generation.stream.tokenizer
        parts = generation.parts
        verifier = None if parts.verifier is None else _WatchedVerifier(parts.verifier, self)
        sampler = _WatchedSampler(parts.sampler, self)
        generation.parts = replace(parts, sampler=sampler, verifier=verifier)
        return generation

    def described(self, record: StepRecord) -> dict[str, Json]:
        """Return what the newest step did; asked before the next one."""
        request = self._generation.request
        begin = request.length - len(record.emitted)
        kept, drafted = record.num_accepted, record.drafted
        self._steps += 1
        rejected = drafted[kept:] if record.is_rejection else []
        kinds = ["accepted"] * kept
        if record.extra_token is not None:
            kinds += ["recovered" if record.is_rejection else "bonus" if drafted else "plain"]
        return {
            "step": self._steps,
            "position": begin,
            "tokens": [
                self._token(token, row, kind, is_tested=kind == "accepted")
                for row, (token, kind) in enumerate(zip(record.emitted, kinds, strict=True))
            ],
            "rejected": [
                self._token(token, kept + i, "rejected", is_tested=i == 0)
                for i, token in enumerate(rejected)
            ],
            "stopped": None if record.stopped is None else str(record.stopped),
            "entropy": self._entropies(),
            "num_draft_calls": record.num_draft_calls,
            "num_written": len(drafted) + 1,
            "num_rolled_back": len(drafted) + 1 - len(record.emitted),
            "draft_ms": 1e3 * record.draft_seconds,
            "verify_ms": 1e3 * record.verify_seconds,
            "bars": self._bars(min(kept, len(self.target) - 1)),
            "source": self._source(record, begin),
        }

    def _token(self, token: int, row: int, kind: str, *, is_tested: bool) -> dict[str, Json]:
        said: dict[str, Json] = {"id": token, "text": self._text(token), "kind": kind}
        if row < len(self.target):
            said["p"] = self._chance(self.target, token, row)
        if row < len(self.draft.tokens):
            said["q"] = self._chance(self.draft.choices, token, row)
            if is_tested and row < len(self.coins):
                said["coin"] = self.coins[row]
        return said

    def _chance(self, choices: Choices, token: int, row: int) -> float:
        return choices.row(row).probabilities([token])[0]

    def _text(self, token: int) -> str:
        return decoded(self._tokenizer, [token], with_special=True)

    def _bars(self, row: int) -> Json:
        """Return the likeliest tokens of target and drafter where the draft ended, and overlap."""
        like = self.logits[:1].float()
        p = self.target.row(row).dense(like)[0]
        model = self.logits[row].float().softmax(-1)
        q = None
        if row < len(self.draft.tokens):
            q = self.draft.choices.row(row).dense(like)[0]
        shown = list(dict.fromkeys([*_top(p), *([] if q is None else _top(q)), *_top(model)]))
        return {
            "row": row,
            "overlap": None if q is None else float(torch.minimum(p, q).sum()),
            "tokens": [
                {
                    "text": self._text(token),
                    "id": token,
                    "p": float(p[token]),
                    "q": None if q is None else float(q[token]),
                    "model": float(model[token]),
                }
                for token in shown
            ],
        }

    def _entropies(self) -> list[float] | None:
        """Return the entropy of each row that was drawn from, in nats; None: nothing was drawn."""
        if self.draft.drawn_from is None or not self.draft.tokens:
            return None
        q = self.draft.drawn_from.dense(self.logits[:1].float())[: len(self.draft.tokens)]
        return [float(-(row[row > 0] * row[row > 0].log()).sum()) for row in q]

    def _source(self, record: StepRecord, begin: int) -> Json:
        """Return where the text says what was copied: its newest place with the longest match."""
        if not record.drafted or record.num_draft_calls:
            return None
        text = self._generation.request.tokens[:begin]
        found = source_of(text, record.drafted)
        if found is None:
            return None
        start, matched = found
        return {"begin": start, "length": len(record.drafted), "matched": matched}


def source_of(text: Sequence[int], copied: Sequence[int]) -> tuple[int, int] | None:
    """Return where a text says some tokens after what it ends with, and how much of that.

    Of the places with the longest match before them the newest one; None if there is none.
    """
    best: tuple[int, int] | None = None
    count = len(copied)
    for start in range(len(text) - 1, 0, -1):
        ahead = [*text[start : start + count]]
        ahead += [*copied][: count - len(ahead)] if start + count > len(text) else []
        if ahead != [*copied]:
            continue
        matched = 0
        while matched < start and text[start - 1 - matched] == text[len(text) - 1 - matched]:
            matched += 1
        if matched >= LEAST_MATCH and (best is None or matched > best[1]):
            best = start, matched
    return best


def _top(probs: Tensor) -> list[int]:
    """Return the likeliest tokens that may come at all."""
    found = probs.topk(min(BARS, len(probs)))
    return [
        token
        for token, p in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        if p > 0 and math.isfinite(p)
    ]
