"""Controls once more, naively: each bends a row by the whole prefix, and remembers nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from foredraft.core import FinishReason
from foredraft.models import TableModel
from foredraft.sampling import Control, ControlledText, Sampler
from foredraft.sampling.penalties import (
    BadWords,
    CountPenalty,
    LogitBias,
    MinNewTokens,
    NoRepeatNgrams,
    Repetition,
)
from foredraft.sampling.processors import Processors
from foredraft.sampling.structure import Structure
from tests.doubles import logits_of

NEVER = -math.inf
END = 0
SPELT = ("</s>", "a", "b", "ab")  # tokens of `letters`
Row = list[float]
Outcome = tuple[tuple[int, ...], FinishReason]


@cache
def letters() -> Any:
    """Return a tokenizer of four tokens, of which one is two others."""
    model = models.BPE(
        vocab={spelt: token for token, spelt in enumerate(SPELT)}, merges=[("a", "b")]
    )
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPELT[END])


# Regular expression → every text that it matches.
LANGUAGES = {
    "a(b|ab)b?": ("ab", "abb", "aab", "aabb"),
    "abab|b": ("abab", "b"),  # one way on, once it has begun
    "(a|b){4}": tuple(map("".join, itertools.product("ab", repeat=4))),
}


def structure(source: str) -> Structure:
    return Structure("regex", source, letters())


def later_is_less(ids: Tensor, scores: Tensor) -> Tensor:
    """Stand for anybody's processor: the newest token, and the length, decide."""
    scores = scores.clone()
    if ids.shape[1]:
        scores[:, ids[0, -1] % scores.shape[1]] -= 0.7 * ids.shape[1]
    return scores


def _spelt(tokens: Sequence[int]) -> str:
    return "".join(SPELT[token] if 0 < token < len(SPELT) else "?" for token in tokens)


def _bias(control: LogitBias, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    return [x + sum(b for token, b in control.biases if token == i) for i, x in enumerate(row)]


def _repetition(control: Repetition, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    came, penalty = {*text.begin, *output}, control.penalty
    return [
        x if i not in came else x * penalty if x < 0 else x / penalty for i, x in enumerate(row)
    ]


def _counts(control: CountPenalty, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    times = [list(output).count(i) for i in range(len(row))]
    return [
        x - control.presence * (n > 0) - control.frequency * n
        for x, n in zip(row, times, strict=True)
    ]


def _ngrams(control: NoRepeatNgrams, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    whole, n = [*text.begin, *output], control.size
    came = [whole[k : k + n] for k in range(len(whole) - n + 1)]
    return [NEVER if [*whole, i][len(whole) + 1 - n :] in came else x for i, x in enumerate(row)]


def _bad_words(control: BadWords, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    def ends(i: int) -> bool:
        whole = (*text.begin, *output, i)
        return any(whole[len(whole) - len(s) :] == s for s in control.sequences if s)

    return [NEVER if ends(i) else x for i, x in enumerate(row)]


def _growing(control: MinNewTokens, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    is_short = len(output) < control.count
    return [NEVER if is_short and i in text.ends else x for i, x in enumerate(row)]


def _structured(control: Structure, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    said, language = _spelt(output), LANGUAGES[control.source]
    left = {whole.removeprefix(said) for whole in language if whole.startswith(said)}
    # Of the one text that is left, the tokenizer's own spelling.
    forced = letters().encode(*left)[:1] if len(left) == 1 else []

    def may_come(i: int) -> bool:
        if i in text.ends:
            return "" in left
        return i in forced or (not forced and any(rest.startswith(_spelt([i])) for rest in left))

    return [x if may_come(i) else NEVER for i, x in enumerate(row)]


def _processed(control: Processors, text: ControlledText, output: Sequence[int], row: Row) -> Row:
    ids = torch.tensor([[*text.begin, *output]], dtype=torch.long)
    bent: Row = control.processors(ids, torch.tensor([row], dtype=torch.float64))[0].tolist()
    return bent


NAIVE: dict[type[Control], Callable[[Any, ControlledText, Sequence[int], Row], Row]] = {
    LogitBias: _bias,
    Repetition: _repetition,
    CountPenalty: _counts,
    NoRepeatNgrams: _ngrams,
    BadWords: _bad_words,
    MinNewTokens: _growing,
    Structure: _structured,
    Processors: _processed,
}


def known_controls() -> set[type[Control]]:
    """Return every control that the package has; `NAIVE` imports the rooms they live in."""

    def below(kind: type[Control]) -> set[type[Control]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    every = below(Control) - {Control}
    return {kind for kind in every if kind.__module__.startswith("foredraft.")}


def bent(controls: Sequence[Control], text: ControlledText, output: Sequence[int], row: Row) -> Row:
    """Return a row after all controls, in order."""
    for control in controls:
        row = NAIVE[type(control)](control, text, output, row)
    return row


def is_unfinished(controls: Sequence[Control], output: Sequence[int]) -> bool:
    return any(
        isinstance(one, Structure) and _spelt(output) not in LANGUAGES[one.source]
        for one in controls
    )


def controlled_law(
    model: TableModel,
    sampler: Sampler,
    controls: Sequence[Control],
    text: ControlledText,
    length: int,
) -> dict[Outcome, float]:
    """Return the probability of every text, and of what ends it, by plain decoding's definition."""
    outcomes, open_texts = dict[Outcome, float](), {(): 1.0}
    for size in range(1, length + 1):
        grown = dict[tuple[int, ...], float]()
        for output, chance in open_texts.items():
            logits = logits_of(model.next_probs((*text.begin, *output))).tolist()
            row = bent(controls, text, output, logits)
            if max(row) == NEVER:
                outcomes[output, FinishReason.BLOCKED] = chance
                continue
            for token, p in enumerate(sampler.probs(torch.tensor(row, dtype=torch.float64))):
                grown[(*output, token)] = chance * float(p)
        grown = {output: chance for output, chance in grown.items() if chance}
        ended = {o: c for o, c in grown.items() if o[-1] in text.ends or size == length}
        for output, chance in ended.items():
            outcomes[output, _reason(controls, text, output)] = chance
        open_texts = {o: c for o, c in grown.items() if o not in ended}
    return outcomes


def _reason(
    controls: Sequence[Control], text: ControlledText, output: tuple[int, ...]
) -> FinishReason:
    if output[-1] in text.ends:
        return FinishReason.EOS
    return FinishReason.UNSATISFIED if is_unfinished(controls, output) else FinishReason.LENGTH
