"""Translation: a text in the target's tokens, and the same text in those of another tokenizer.

What both have in common is bytes: every token spells some, and special ones spell none. Knows
tokenizers; knows no model and no drafting.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from foredraft.spelling import SPACE, Spelling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_RUN = 64  # target tokens that are translated together where no word ends among them


def difference(
    ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase, names: tuple[str, str]
) -> str | None:
    """Return how two tokenizers differ; None if every id that both know means the same text.

    Args:
        ours: of the target.
        theirs: of the drafter.
        names: of target and drafter.
    """
    if ours is theirs:
        return None
    one, other = ({i: t for t, i in tokenizer.get_vocab().items()} for tokenizer in (ours, theirs))
    whose = f"the tokenizers of target {names[0]!r}"
    for i in sorted(one.keys() & other.keys()):
        if one[i] != other[i]:
            return (
                f"{whose} and drafter {names[1]!r} differ: id {i} is {one[i]!r} for one and "
                f"{other[i]!r} for the other"
            )
    if other.keys() - one.keys() and one.keys() - other.keys():
        return (
            f"{whose} ({len(one)} tokens) and drafter {names[1]!r} ({len(other)}) each have tokens "
            "that the other lacks"
        )
    return None


class Translation:
    """Two tokenizers, and what can be said in both.

    Args:
        target: the target's tokenizer.
        drafter: the drafter's.
    """

    def __init__(self, target: PreTrainedTokenizerBase, drafter: PreTrainedTokenizerBase) -> None:
        self._tokenizers = target, drafter

    @cached_property
    def target(self) -> Spelling:
        """What the target's tokens say."""
        return Spelling(self._tokenizers[0])

    @cached_property
    def drafter(self) -> Spelling:
        """What the drafter's tokens say."""
        return Spelling(self._tokenizers[1])

    @cached_property
    def special(self) -> dict[int, int]:
        """Tokens of the target that say nothing → the drafter's: of one name, or both end texts."""
        ours, theirs = self.target.special, self.drafter.special
        pairs = {ours[name]: theirs[name] for name in ours.keys() & theirs.keys()}
        ends = [tokenizer.eos_token_id for tokenizer in self._tokenizers]
        if None not in ends and ends[0] not in pairs and ends[1] not in pairs.values():
            pairs[ends[0]] = ends[1]
        return pairs

    @cached_property
    def shared(self) -> dict[int, int]:
        """Tokens of the target → those of the drafter that say the same, each at most once."""
        ours, theirs = self.target.ids, self.drafter.ids
        return {ours[piece]: theirs[piece] for piece in ours.keys() & theirs.keys()} | self.special

    @property
    def coverage(self) -> float:
        """Share of the drafter's tokens that the target spells alike, in [0, 1]."""
        return len(self.shared) / max(1, len(self.drafter.ids))


def translation_between(
    target: PreTrainedTokenizerBase, drafter: PreTrainedTokenizerBase
) -> Translation | None:
    """Return the translation between two tokenizers; None if they are one for every id."""
    is_one = difference(target, drafter, ("", "")) is None
    return None if is_one else Translation(target, drafter)


class Reading:
    """A text in the target's tokens, and the same in the drafter's.

    It grows and shrinks at its end, and only what stands behind the last border before the change
    is translated again. A border lies where a word ends and a space follows: no tokenizer that cuts
    texts into words has a token across it. Where there is none for long, as between ideographs, one
    is made: the draft model then reads the text a little otherwise than it was taught, no more.

    Attributes:
        tokens: the target's.
        translated: the drafter's, with what its tokenizer puts before a text.
    """

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        self.tokens = list[int]()
        self.translated = list(translation.drafter.begin)
        self._borders = [(0, len(self.translated))]  # in both
        self._changed = 0  # drafter's tokens before this are as they were when last asked

    def copy(self) -> Reading:
        """Return one of its own of the same text."""
        other = copy.copy(self)
        other.tokens, other.translated = [*self.tokens], [*self.translated]
        other._borders = [*self._borders]
        return other

    def changed(self) -> int:
        """Return how many of the drafter's tokens are certainly what they were when last asked."""
        changed, self._changed = self._changed, len(self.translated)
        return changed

    def following(self, data: bytes, given: Sequence[int] = ()) -> list[int]:
        """Return the target's tokens of what is said after the text and some tokens more.

        They are those that the tokenizer gives from the last border on, if it gives the text's own
        before them.
        """
        spelling, begin = self._translation.target, self._borders[-1][0]
        known = [*self.tokens[begin:], *given]
        whole = spelling.said(known) + data
        if begin == 0 and spelling.adds_space:
            whole = whole.removeprefix(SPACE)
        found = spelling.tokens(whole, begins=begin == 0)
        if found[: len(known)] == known:
            return found[len(known) :]
        return spelling.tokens(data)

    def write(self, place: int, tokens: Sequence[int]) -> None:
        """Let the text go on with `tokens` from a place on, whatever stood there.

        Args:
            place: tokens of the target that stay.
            tokens: the target's.
        """
        if self.tokens[place:] == list(tokens):
            return
        self.tokens[place:] = tokens
        while len(self._borders) > 1 and self._borders[-1][0] >= place:
            self._borders.pop()
        first, border = self._borders[-1][0], 0
        for i in range(first + 1, len(self.tokens)):
            if self._is_border(i):
                border = i
            elif i - max(border, first) >= LONGEST_RUN and self._begins_a_letter(i):
                self._put_border(border)
                self._put_border(i)
                first = i
        self._put_border(border)
        self._translate(len(self.tokens))

    def _put_border(self, place: int) -> None:
        if place > self._borders[-1][0]:
            self._translate(place)
            self._borders.append((place, len(self.translated)))

    def _translate(self, end: int) -> None:
        """Translate what stands between the last border and `end`."""
        begin, count = self._borders[-1]
        self._changed = min(self._changed, count)
        del self.translated[count:]
        spelling, drafter = self._translation.target, self._translation.drafter
        run = self.tokens[begin:end]
        for is_special, part in groupby(run, lambda token: spelling.piece(token) is None):
            if is_special:
                known = map(self._translation.special.get, part)
                self.translated += [token for token in known if token is not None]
                continue
            data = spelling.said(list(part))
            begins = begin == 0 and count == len(self.translated)
            if begins and spelling.adds_space:
                data = data.removeprefix(SPACE)
            self.translated += drafter.tokens(data, begins=begins)

    def _is_border(self, place: int) -> bool:
        return self._translation.target.is_border(*self.tokens[place - 1 : place + 1])

    def _begins_a_letter(self, place: int) -> bool:
        after = self._translation.target.piece(self.tokens[place]) or SPACE
        return not 0x80 <= after[0] < 0xC0
