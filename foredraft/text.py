"""Text ↔ tokens: prompts and chat template, incremental detokenizing, stop strings.

The only room that knows a tokenizer; everything after it deals in token ids.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from foredraft.errors import ConfigError, RequestError

CONTEXT_TOKENS = 8  # tokens of the prompt that decide how the first new token reads
UNFINISHED = "\ufffd"  # what an incomplete UTF-8 sequence decodes to


def encode_prompt(tokenizer: Any, prompt: str, *, chat: bool = False) -> list[int]:
    """Return the prompt's tokens, through the chat template if asked for.

    Raises:
        RequestError: the prompt is empty, not text, or the tokenizer makes nothing of it.
        ConfigError: `chat` without a chat template.
    """
    if not prompt.strip():
        raise RequestError("the prompt is empty; give at least one character that is not a space")
    odd = next(
        (c for c in prompt if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n\r"), None
    )
    if odd is not None:
        raise RequestError(
            f"the prompt is not text: it holds the character U+{ord(odd):04X}; give valid UTF-8 "
            "without control characters"
        )
    if not chat:
        tokens = list(tokenizer(prompt)["input_ids"])
    elif getattr(tokenizer, "chat_template", None) is None:
        raise ConfigError("this model's tokenizer has no chat template; switch chat off")
    else:
        message = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not tokens:
        raise RequestError(f"the tokenizer makes no token of the prompt {prompt[:40]!r}")
    return tokens


class TextStream:
    """Tokens in, readable text out, as early as it is certain.

    Holds back incomplete UTF-8 and anything that may become a stop string.

    Args:
        tokenizer: a Hugging Face tokenizer.
        context: the prompt's tokens; a first piece reads differently after a space.
        stop: strings that end the text; they are cut off.
    """

    def __init__(self, tokenizer: Any, context: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(context[-CONTEXT_TOKENS:])
        self._begin, self._read = 0, len(self._tokens)  # decode window, and how much of it is out
        self._stop = [s for s in stop if s]
        self._held = ""
        self._ready: list[str] = []
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> bool:
        """Take one token; return whether the text now holds a stop string."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._begin : self._read])
        now = self._decode(self._tokens[self._begin :])
        new = now[len(before) :]
        # An unfinished character waits for its next token, unless a stop string stands before it.
        if new and (not now.endswith(UNFINISHED) or self._find_stop(self._held + new) >= 0):
            self._begin, self._read = self._read, len(self._tokens)
            self._add(new)
        return self.stopped

    def take(self) -> str:
        """Return the text that has become certain since the last call."""
        new, self._ready = "".join(self._ready), []
        return new

    def finish(self) -> None:
        """Release what was held back: no more tokens will come."""
        if self.stopped:
            return
        before = self._decode(self._tokens[self._begin : self._read])
        self._add(self._decode(self._tokens[self._begin :])[len(before) :])
        self._begin = self._read = len(self._tokens)
        if not self.stopped:
            self._release(len(self._held))

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _add(self, piece: str) -> None:
        self._held += piece
        found = self._find_stop(self._held)
        self.stopped = found >= 0
        self._release(found if self.stopped else len(self._held) - self._possible_stop())

    def _find_stop(self, text: str) -> int:
        """Return where the first stop string begins, or −1."""
        return min((i for i in (text.find(s) for s in self._stop) if i >= 0), default=-1)

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(s) for s in self._stop), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-size:]) for s in self._stop):
                return size
        return 0

    def _release(self, size: int) -> None:
        self._ready.append(self._held[:size])
        self.text += self._held[:size]
        self._held = self._held[size:]
