"""Structure: only texts that a JSON schema, a regular expression or a grammar allows.

The automaton is that of llguidance (extra `structure`): which tokens may follow a prefix, and which
must. It walks back as fast as forth, so that a draft may be followed and given up.
"""

from __future__ import annotations

import copy
import functools
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.sampling.controls import Booleans, Control, ControlledText, Tracker, forbid
from foredraft.sampling.filters import NEVER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_KEPT = 64  # grammars that are kept, read
KINDS = ("json_schema", "regex", "grammar")
# JSON without white space between its parts: where any may come, a small model may never stop. A
# schema's own `x-guidance` is heard first.
SPACING = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
MISSING = "a structure needs llguidance; install it: pip install 'foredraft[structure]'"


class Vocabulary(Protocol):
    """What llguidance has made of a tokenizer."""

    vocab_size: int


class Automaton(Protocol):
    """What this room asks of llguidance's `LLMatcher`."""

    def try_consume_tokens(self, tokens: list[int]) -> int:
        """Go on, and return over how many tokens."""

    def rollback(self, count: int) -> bool:
        """Go back over so many tokens."""

    def unsafe_compute_mask_ptr(self, address: int, num_bytes: int) -> None:
        """Write a bit for each token that may follow."""

    def compute_ff_tokens(self) -> list[int]:
        """Return the tokens that must follow."""

    def validate_tokens(self, tokens: list[int]) -> int:
        """Return how many of some tokens may follow, going nowhere."""

    def is_accepting(self) -> bool:
        """Whether the text may end here."""

    def is_stopped(self) -> bool:
        """Whether nothing but an end may follow."""


_tokenizers: weakref.WeakKeyDictionary[
    PreTrainedTokenizerBase, dict[tuple[int, ...], Vocabulary]
] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Structure(Control):
    """What a text may be as a whole.

    Attributes:
        kind: `json_schema`, `regex` or `grammar` (Lark's, as llguidance reads it).
        source: the schema, expression or grammar.
        tokenizer: of the target; None where whoever decodes has it.
    """

    kind: str
    source: str
    tokenizer: PreTrainedTokenizerBase | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ConfigError(f"kind must be one of {', '.join(KINDS)}, not {quoted(self.kind)}")
        if self.kind == "json_schema":
            check_is_schema(self.source)
        _grammar(self.kind, self.source)

    def of_text(self, text: ControlledText) -> Tracker:
        text = replace(text, tokenizer=self.tokenizer or text.tokenizer)
        if text.tokenizer is None:
            raise ConfigError(
                f"{self.kind} needs the target's tokenizer; give Structure(…, tokenizer=…)"
            )
        return _Structured(_automaton(self, text), text)


def check_is_schema(source: str) -> None:
    """Raise `ConfigError` unless a text is JSON that may be a schema: an object."""
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"json_schema is no JSON: {error}; correct {quoted(source)}") from None
    if not isinstance(schema, dict):
        raise ConfigError(
            f"json_schema must be a JSON object, not {quoted(source)}; {{}} is any JSON"
        )


def _automaton(structure: Structure, text: ControlledText) -> Automaton:
    """Return the automaton of a structure at its beginning; errors as of `Structure.of_text`."""
    vocabulary, grammar = _vocabulary_of(text), _grammar(structure.kind, structure.source)
    # Its own complaints would go to standard error.
    made = _llguidance().LLMatcher(vocabulary, grammar, log_level=0)
    _check(structure.kind, structure.source, made.get_error())
    automaton: Automaton = made
    return automaton


@functools.lru_cache(MOST_KEPT)
def _grammar(kind: str, source: str) -> str:
    """Return a structure as llguidance writes grammars down.

    Raises:
        ConfigError: llguidance is missing, or cannot obey this.
    """
    matcher = _llguidance().LLMatcher
    with foreign(f"reading the {kind}", "correct it", ConfigError):
        if kind == "json_schema":
            grammar = matcher.grammar_from_json_schema(source, defaults=SPACING)
        else:
            read = {"regex": matcher.grammar_from_regex, "grammar": matcher.grammar_from_lark}
            grammar = read[kind](source)
        said = matcher.validate_grammar(grammar)
    _check(kind, source, said)
    return str(grammar)


def _check(kind: str, source: str, said: str) -> None:
    """Raise if llguidance has found fault with a structure."""
    if said:
        told = " ".join(said.split("<state>")[0].split())
        raise ConfigError(
            f"{kind} {quoted(source)} cannot be obeyed: {quoted(told, 300)}; correct it"
        )


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise ConfigError(MISSING) from None
    return llguidance


def _vocabulary_of(text: ControlledText) -> Vocabulary:
    """Return llguidance's view of a tokenizer: to make one takes a third of a second."""
    tokenizer, ends = text.tokenizer, tuple(sorted(text.ends))
    assert tokenizer is not None
    known = _tokenizers.setdefault(tokenizer, {})
    key = (len(tokenizer), *ends)
    if key not in known:
        made = _llguidance().LLTokenizer
        with foreign("llguidance", "it takes fast tokenizers; choose another model", ConfigError):
            end = list(ends) or tokenizer.eos_token_id
            known[key] = made(_written(tokenizer), eos_token=end)
    return known[key]


def _written(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a fast tokenizer as JSON, without what a prompt alone is treated to.

    A space before the text is one of these: forced tokens would be spelt as if it were there.
    """
    backend = copy.copy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    return str(backend.to_str()).replace('"add_prefix_space":true', '"add_prefix_space":false')


class _Structured(Tracker):
    """Follows a text through an automaton."""

    def __init__(self, automaton: Automaton, text: ControlledText) -> None:
        self._automaton, self._num_known = automaton, _vocabulary_of(text).vocab_size
        self._astray = 0  # tokens followed since one that may not come: what is behind it never is
        self._mask: Booleans | None = None  # which tokens may not follow, [vocab]
        self._words = np.zeros((self._num_known + 31) // 32, dtype=np.int32)
        self._vocab_size = text.vocab_size

    def push(self, token: int) -> None:
        self._mask = None
        # After a token that the tokenizer lacks the automaton would never go back.
        is_known = 0 <= token < self._num_known
        if self._astray or not is_known or not self._automaton.try_consume_tokens([token]):
            self._astray += 1

    def pop(self, token: int) -> None:
        self._mask = None
        if self._astray:
            self._astray -= 1
        else:
            self._automaton.rollback(1)

    def edit(self, logits: Tensor) -> None:
        if self._astray:  # whatever is said here follows a token that never comes
            logits.fill_(NEVER)
            return
        if self._mask is None:
            self._mask = self._forbidden()
        forbid(logits, self._mask)

    def forced(self) -> list[int]:
        if self._astray or self._automaton.is_stopped():
            return []
        return self._automaton.compute_ff_tokens()

    def num_allowed(self, tokens: Sequence[int]) -> int:
        return 0 if self._astray else self._automaton.validate_tokens(list(tokens))

    @property
    def is_unfinished(self) -> bool:
        return self._astray > 0 or not self._automaton.is_accepting()

    def _forbidden(self) -> Booleans:
        """Return which tokens may not follow, `[vocab]`; a column without a token never may."""
        self._automaton.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")
        forbidden = np.ones(self._vocab_size, dtype=bool)
        known = min(len(bits), self._vocab_size)
        forbidden[:known] = bits[:known] == 0
        return forbidden
