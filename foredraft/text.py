"""Text ↔ tokens: prompts and chat template, incremental detokenizing, stop strings.

The only room that knows a tokenizer; everything after it deals in token ids.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from foredraft.doors import check_is_text
from foredraft.errors import RequestError, foreign, quoted
from foredraft.spelling import BYTE_PIECE, bytes_of_letters
from foredraft.template import render_messages, user_message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT_TOKENS = 8  # tokens of the prompt that decide how the first new token reads
UNFINISHED = "\ufffd"  # what an incomplete UTF-8 sequence decodes to
REMEDY = "load the model with a tokenizer that reads text"


_lengths: WeakKeyDictionary[PreTrainedTokenizerBase, dict[int, int]] = WeakKeyDictionary()


class PromptNote(UserWarning):
    """What was changed between a prompt and the tokens that the model reads."""


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    chat: bool = False,
    end_tokens: Collection[int] = (),
    keeps_end: bool = False,
) -> list[int]:
    """Return the prompt's tokens, through the chat template if asked for.

    They begin with one begin token at most, and do not end with an end token; a `PromptNote` is
    given where the tokenizer saw it otherwise.

    Args:
        tokenizer: a Hugging Face tokenizer.
        prompt: text.
        chat: send it through the tokenizer's chat template.
        end_tokens: of the model, besides the tokenizer's own.
        keeps_end: leave an end token where it is: an encoder wants it.

    Raises:
        RequestError: the prompt is empty, not text, or the tokenizer makes nothing of it.
        ConfigError: `chat` without a chat template.
        ModelError: template or tokenizer failed.
    """
    check_is_text(prompt)
    text = render_messages(tokenizer, [user_message(prompt)]) if chat else prompt
    return encode_text(
        tokenizer, text, is_rendered=chat, end_tokens=end_tokens, keeps_end=keeps_end
    )


def encode_text(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    is_rendered: bool,
    end_tokens: Collection[int] = (),
    keeps_end: bool = False,
) -> list[int]:
    """Return the tokens of a prompt as it stands, or as a chat template made it.

    Their begin and end, and the errors: as of `encode_prompt`.
    """
    tokens = tokens_of(tokenizer, text, with_special=not is_rendered)
    if not tokens:
        raise RequestError(f"the tokenizer makes no token of the prompt {quoted(text)}")
    tokens = _with_one_begin(tokenizer, tokens)
    if keeps_end:
        return tokens
    return _without_end(tokenizer, tokens, text, end_tokens, is_written=is_rendered)


def tokens_of(
    tokenizer: PreTrainedTokenizerBase, text: str, *, with_special: bool = False
) -> list[int]:
    """Return the tokens of a text, and what the tokenizer puts around them if asked for."""
    with foreign("the tokenizer", REMEDY):
        options = {} if with_special else {"add_special_tokens": False}
        return [operator.index(t) for t in tokenizer(text, **options)["input_ids"]]


def _with_one_begin(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[int]:
    """Drop begin tokens behind the first: one was typed or templated, one is the tokenizer's."""
    begin = getattr(tokenizer, "bos_token_id", None)
    count = _run_of(begin, tokens)
    if count < 2:
        return tokens
    _note(f"the prompt began with {count} begin tokens {_said(tokenizer, tokens[0])}; one stays")
    return tokens[count - 1 :]


def _without_end(
    tokenizer: PreTrainedTokenizerBase,
    tokens: list[int],
    text: str,
    end_tokens: Collection[int],
    *,
    is_written: bool,
) -> list[int]:
    """Drop end tokens from the end, behind which a model would begin something else.

    Those that a chat template wrote stay: its author knows why. So does one that was typed where
    it is a begin token as well, or an end token of the model alone, as that of a turn often is.
    """
    own = getattr(tokenizer, "eos_token_id", None)
    begin = getattr(tokenizer, "bos_token_id", None)
    ends = {*end_tokens, own, getattr(tokenizer, "sep_token_id", None)} - {None}
    kept = tokens
    while kept[-1] in ends and len(kept) > 1:
        end, count = kept[-1], _run_of(kept[-1], kept[::-1])
        written = _said(tokenizer, end).strip()
        typed, text = _cut_from_end(text, written, count)
        stays = typed if is_written or end != own or end == begin else 0
        if stays < count:
            kept = kept[: max(1, len(kept) - count + stays)]
            _note(
                f"the prompt ended with the end token {quoted(written)}, behind which a model "
                "begins another text; it was left out"
            )
        if stays:
            break
    return kept


def _cut_from_end(text: str, word: str, most: int) -> tuple[int, str]:
    """Return how many times the text ends with a word, `most` at most, and the text before."""
    text, count = text.rstrip(), 0
    while word and count < most and text.endswith(word):
        text, count = text.removesuffix(word).rstrip(), count + 1
    return count, text


def _run_of(token: int | None, tokens: Sequence[int]) -> int:
    """Return how many times the tokens begin with this one."""
    return next((i for i, t in enumerate(tokens) if t != token), len(tokens))


def _note(what: str) -> None:
    warnings.warn(what, PromptNote, stacklevel=1)


def _said(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    return decoded(tokenizer, [token], with_special=True)


def decoded(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], *, with_special: bool = False
) -> str:
    """Return the text of tokens, special ones left out unless they are asked for."""
    with foreign("the tokenizer", REMEDY):
        return _text(tokenizer.decode(tokens, skip_special_tokens=not with_special))


def bytes_of(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """Return the bytes that a token says, which may be a part of a character."""
    said = decoded(tokenizer, [token], with_special=True)
    if UNFINISHED not in said:
        return said.encode()
    with foreign("the tokenizer", REMEDY):
        piece = str(tokenizer.convert_ids_to_tokens(token))
    if BYTE_PIECE.fullmatch(piece):  # as SentencePiece spells a byte
        return bytes([int(piece[3:5], 16)])
    letters = bytes_of_letters()
    return b"".join(letters[c] for c in piece) if set(piece) <= letters.keys() else said.encode()


def _reader(
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Callable[[list[int]], str], dict[int, int]]:
    """Return what reads tokens, special ones left out: without a detour, where it changes nothing.

    Two calls a token are a tenth of a small model's time. With it comes how many characters single
    tokens read as, as far as texts before have found out.
    """
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    kind: type[object] = type(tokenizer)
    ours = {PreTrainedTokenizerBase.decode, PreTrainedTokenizerFast._decode}
    is_plain = (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and {getattr(kind, "decode", None), getattr(kind, "_decode", None)} == ours
        and not {"decode", "_decode"} & vars(tokenizer).keys()
        and not tokenizer.clean_up_tokenization_spaces
    )
    if not is_plain:
        return lambda tokens: _text(tokenizer.decode(tokens, skip_special_tokens=True)), {}
    backend, lengths = tokenizer.backend_tokenizer, _lengths.setdefault(tokenizer, {})
    return lambda tokens: _text(backend.decode(tokens, skip_special_tokens=True)), lengths


def _text(made: object) -> str:
    if not isinstance(made, str):
        raise TypeError(f"it made {type(made).__name__} instead of text")
    return made


class TextStream:
    """Tokens in, readable text out, as early as it is certain.

    Special tokens are said but not shown: a stop string may hold them, the text does not. Holds
    back incomplete UTF-8 and anything that may become a stop string.

    Args:
        tokenizer: a Hugging Face tokenizer.
        context: the prompt's tokens; a first piece reads differently after a space.
        stop: strings that end the text; they are cut off.
        hidden: further tokens that are not shown: end tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context: Sequence[int],
        stop: Sequence[str] = (),
        hidden: Collection[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self._read_by, self._lengths = _reader(tokenizer)
        self._tokens = list(context[-CONTEXT_TOKENS:])
        self._begin, self._read = 0, len(self._tokens)  # decode window, and how much of it is out
        self._pending = ""  # what the tokens that are not out read as so far
        self._stop = [s for s in stop if s]
        self._hidden = hidden
        self._held: list[tuple[str, bool]] = []  # characters, and whether they are shown
        self._ready: list[str] = []
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> bool:
        """Take one token; return whether what was said now holds a stop string."""
        if self.stopped:
            return True
        if token in self._hidden:
            self._hide(token)
            return self.stopped
        self._tokens.append(token)
        new = self._unread()
        if new == self._pending and self._is_special(token):
            self._tokens.pop()
            self._hide(token)
        # An unfinished character waits for its next token, unless a stop string stands before it.
        elif new and (not new.endswith(UNFINISHED) or self._stops_before_the_unfinished(new)):
            self._begin, self._read = self._read, len(self._tokens)
            self._pending = ""
            self._add(new)
        else:
            self._pending = new
        return self.stopped

    def take(self) -> str:
        """Return the text that has become certain since the last call."""
        new, self._ready = "".join(self._ready), []
        return new

    def finish(self) -> None:
        """Release what was held back: no more tokens will come."""
        if not self.stopped:
            self._flush()
        if not self.stopped:
            self._release(len(self._held))

    def _unread(self) -> str:
        """Return how the tokens that are not out yet read behind those that are."""
        with foreign("the tokenizer", REMEDY):
            before = self._length_of(self._tokens[self._begin : self._read])
            return self._read_by(self._tokens[self._begin :])[before:]

    def _length_of(self, tokens: list[int]) -> int:
        """Return how many characters tokens read as: nearly always one that has come before."""
        if len(tokens) != 1:
            return len(self._read_by(tokens))
        length = self._lengths.get(tokens[0])
        if length is None and (length := len(self._read_by(tokens))):
            self._lengths[tokens[0]] = length  # a token that says nothing may be none yet
        return length or 0

    def _is_special(self, token: int) -> bool:
        return not decoded(self.tokenizer, [token]) and bool(_said(self.tokenizer, token))

    def _hide(self, token: int) -> None:
        """Say a token without showing it; a character it cuts in two will never be finished."""
        self._flush()
        if self._stop:
            self._add(_said(self.tokenizer, token), shown=False)

    def _flush(self) -> None:
        """Give out the unfinished character; its tokens are no context for what follows."""
        if self._pending:
            pending, self._pending = self._pending, ""
            del self._tokens[self._read :]
            self._add(pending)

    def _add(self, piece: str, *, shown: bool = True) -> None:
        if not self._stop:  # there is nothing to wait for
            self._show(piece)
            return
        self._held += [(character, shown) for character in piece]
        found = self._find_stop(self._said_so_far())
        self.stopped = found >= 0
        self._release(found if self.stopped else len(self._held) - self._possible_stop())

    def _said_so_far(self) -> str:
        return "".join(character for character, _ in self._held)

    def _stops_before_the_unfinished(self, new: str) -> bool:
        return self._find_stop(self._said_so_far() + new.rstrip(UNFINISHED)) >= 0

    def _find_stop(self, text: str) -> int:
        """Return where the stop string begins that is complete first, or −1.

        Whichever ends first would have ended the text had its tokens come one by one.
        """
        found = [(i + len(s), i) for s in self._stop if (i := text.find(s)) >= 0]
        return min(found)[1] if found else -1

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(s) for s in self._stop), default=1) - 1
        held = self._said_so_far()[-longest:] if longest else ""
        for size in range(len(held), 0, -1):
            if any(s.startswith(held[-size:]) for s in self._stop):
                return size
        return 0

    def _release(self, size: int) -> None:
        self._show("".join(character for character, shown in self._held[:size] if shown))
        del self._held[:size]

    def _show(self, new: str) -> None:
        self._ready.append(new)
        self.text += new
