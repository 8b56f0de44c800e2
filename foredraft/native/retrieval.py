"""Copying and counting in C (kernels/automaton.c, counts.c): the answers of the readable forms.

Beside a pass that has emptied the caches a line of Python takes several times as long as in a loop;
a look-up that is one call does not. Where there is no C compiler there is nothing here.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias

from foredraft.native.sampling import functions

Pointer: TypeAlias = int
COUNT, CHANCE, PLACE = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
NOTHING = None
FULL, UNKNOWN, HOPELESS = range(3)  # why a run of tokens ended; as in counts.c
SIGNATURES: dict[str, tuple[Any, ...]] = {  # what each returns, and is given
    "automaton_new": (PLACE, COUNT),
    "automaton_free": (NOTHING, PLACE),
    "automaton_length": (COUNT, PLACE),
    "automaton_text": (NOTHING, PLACE, PLACE),
    "automaton_extend": (COUNT, PLACE, PLACE, COUNT),
    "automaton_match": (COUNT, PLACE, PLACE, COUNT, PLACE),
    "automaton_copy": (COUNT, PLACE, COUNT, PLACE, COUNT, COUNT, PLACE),
    "counts_new": (PLACE, COUNT, COUNT, COUNT, COUNT),
    "counts_free": (NOTHING, PLACE),
    "counts_copy": (PLACE, PLACE),
    "counts_size": (COUNT, PLACE),
    "counts_learn": (COUNT, PLACE, PLACE, COUNT, COUNT, PLACE, COUNT),
    "counts_update": (COUNT, PLACE, PLACE, COUNT, COUNT),
    "counts_has": (COUNT, PLACE, PLACE, COUNT),
    "counts_retrieve": (COUNT, PLACE, PLACE, COUNT, COUNT, CHANCE, PLACE, PLACE, PLACE),
}


class _Calls:
    """The functions; they keep Python's lock: what takes a microsecond need not give it up."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, (result, *given) in SIGNATURES.items():
            setattr(self, name, ctypes.PYFUNCTYPE(result, *given)((name, library)))

    def __getattr__(self, name: str) -> Callable[..., int]:
        raise AttributeError(name)  # none but those of `SIGNATURES`


@functools.cache
def calls() -> _Calls | None:
    """Return the compiled functions; None where they cannot be compiled."""
    library = functions()
    return None if library is None else _Calls(library)


def _whole(made: int | None) -> int:
    """Return what a function returned, unless that says that there is no memory."""
    if not made:
        raise MemoryError("there is no memory for what is retrieved")
    return made


class Automaton:
    """A suffix automaton: see `drafting.suffix_automaton.SuffixAutomaton`.

    Args:
        compiled: functions of the kernels.
        max_tokens: bound on memory, ≥ 2.
    """

    def __init__(self, compiled: _Calls, max_tokens: int) -> None:
        self._compiled, self.max_tokens = compiled, max_tokens
        self._place = _whole(compiled.automaton_new(max_tokens))
        weakref.finalize(self, compiled.automaton_free, self._place).atexit = False
        self._end = COUNT()
        self._at_end = ctypes.addressof(self._end)

    def __len__(self) -> int:
        return self._compiled.automaton_length(self._place)

    @property
    def text(self) -> list[int]:
        """The tokens held."""
        found = (COUNT * len(self))()
        self._compiled.automaton_text(self._place, ctypes.addressof(found))
        return list(found)

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text."""
        given = array("q", tokens)
        place, count = given.buffer_info()
        _whole(self._compiled.automaton_extend(self._place, place, count))

    def append(self, token: int) -> None:
        """Add a token to the text."""
        self.extend([token])

    def longest_match(self, drafted: Sequence[int] = ()) -> tuple[int, int]:
        """Return (length, end): the longest end of text and `drafted` that occurred before."""
        given = array("q", drafted)
        place, count = given.buffer_info()
        length = self._compiled.automaton_match(self._place, place, count, self._at_end)
        return length, self._end.value

    def copy_from(self, begin: int, drafted: Sequence[int], most: int) -> list[int]:
        """Return up to `most` tokens of the text from a position on, and then of themselves."""
        given, out = array("q", drafted), (COUNT * most)()
        place, count = given.buffer_info()
        found = self._compiled.automaton_copy(
            self._place, begin, place, count, most, ctypes.addressof(out)
        )
        return out[:found]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[int, list[int]]]:
        return _automaton_of, (self.max_tokens, self.text)


def _automaton_of(max_tokens: int, text: list[int]) -> Automaton:
    compiled = calls()
    if compiled is None:
        raise RuntimeError("there is no C compiler here; install gcc or clang")
    made = Automaton(compiled, max_tokens)
    made.extend(text)
    return made


class Counts:
    """Counts of n-grams: see `drafting.ngram_storage`.

    Args:
        compiled: functions of the kernels.
        n: longest n-gram, in tokens.
        one_level: whether contexts of n − 1 tokens alone are counted; else of 1 … n − 1.
        vocab_size: tokens from it on are not counted.
        max_contexts: bound on memory.
    """

    def __init__(
        self, compiled: _Calls, n: int, *, one_level: bool, vocab_size: int, max_contexts: int
    ) -> None:
        self._compiled, self._window, self._uncounted = compiled, n - 1, vocab_size
        self._take(_whole(compiled.counts_new(n, one_level, vocab_size, max_contexts)))

    def _take(self, place: Pointer) -> None:
        self._place = place
        weakref.finalize(self, self._compiled.counts_free, place).atexit = False
        self._survival, self._ended = CHANCE(), COUNT()
        self._said = ctypes.addressof(self._survival), ctypes.addressof(self._ended)

    def __deepcopy__(self, memo: object) -> Self:
        other = type(self).__new__(type(self))
        other._compiled, other._window = self._compiled, self._window
        other._uncounted = self._uncounted
        other._take(_whole(self._compiled.counts_copy(self._place)))
        return other

    def __len__(self) -> int:
        return self._compiled.counts_size(self._place)

    def learn(self, tokens: Sequence[int], first: int, fillers: Sequence[Sequence[int]]) -> None:
        """Count what stands at each position from `first` on, and the fillers of each."""
        few = max(map(len, fillers), default=0)
        begin = max(0, first - self._window)
        given = array("q", tokens[begin:])
        beside = array("q")
        for row in fillers:
            beside.extend([*row, *[self._uncounted] * (few - len(row))])
        place, count = given.buffer_info()
        _whole(
            self._compiled.counts_learn(
                self._place, place, count, first - begin, beside.buffer_info()[0], few
            )
        )

    def update(self, context: Sequence[int], token: int) -> None:
        """Count one token after the end of a context."""
        given = array("q", context[-self._window :])
        place, count = given.buffer_info()
        _whole(self._compiled.counts_update(self._place, place, count, token))

    def __contains__(self, context: Sequence[int]) -> bool:
        given = array("q", context)
        place, count = given.buffer_info()
        return bool(self._compiled.counts_has(self._place, place, count))

    def find(self, context: Sequence[int]) -> tuple[int, float] | None:
        """Return the likeliest token after the longest known end of a context, and its chance."""
        tokens, chances, _, _ = self.retrieve(context, 1, 0.0)
        return (tokens[0], chances[0]) if tokens else None

    def retrieve(
        self, context: Sequence[int], most: int, least: float, survival: float = 1.0
    ) -> tuple[list[int], list[float], float, int]:
        """Return likeliest tokens one after another, their chances, that of all, and the end.

        Args:
            context: tokens so far.
            most: tokens wanted.
            least: the chance that all are right below which there are no more.
            survival: of what comes before them.
        """
        given = array("q", context[-self._window :])
        before = len(given)
        given.extend([0] * most)
        chances = array("d", bytes(8 * most))
        self._survival.value = survival
        found = self._compiled.counts_retrieve(
            *(self._place, given.buffer_info()[0], before, most, least),
            *(self._said[0], chances.buffer_info()[0], self._said[1]),
        )
        tokens = given[before : before + found].tolist()
        return tokens, chances[:found].tolist(), self._survival.value, self._ended.value
