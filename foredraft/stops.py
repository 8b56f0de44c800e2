"""Stop strings that can never come, since no token spells a character of them, are refused."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.text import REMEDY, UNFINISHED, decoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_known_letters: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, set[str]]] = (
    weakref.WeakKeyDictionary()
)


def check_stop_strings(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
    """Raise unless a tokenizer's tokens can spell every stop string.

    Raises:
        ConfigError: a stop string holds a character that is in none of them, so it can never come.
    """
    wanted = {c: s for s in stop for c in s if not c.isspace()}
    with foreign("the tokenizer", REMEDY):
        missing = _unspelt(tokenizer, set(wanted)) if hasattr(tokenizer, "get_vocab") else set()
    if missing:
        odd = min(missing)
        raise ConfigError(
            f"the stop string {quoted(wanted[odd])} can never come: no token of this model holds "
            f"{quoted(odd)}; leave it out"
        )


def _unspelt(tokenizer: PreTrainedTokenizerBase, characters: set[str]) -> set[str]:
    """Return the characters that no token holds; none of a tokenizer of bytes."""
    missing = characters - _letters(tokenizer) if characters else characters
    for token in range(len(tokenizer)):
        if not missing:
            break
        said = decoded(tokenizer, [token], with_special=True)
        missing = set() if UNFINISHED in said else missing - set(said)
    return missing


def _letters(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the characters of a vocabulary; a server asks for them with every stop string."""
    known = _known_letters.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        known = len(tokenizer), set[str]().union(*tokenizer.get_vocab())
        _known_letters[tokenizer] = known
    return known[1]
