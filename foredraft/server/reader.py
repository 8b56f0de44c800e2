"""Text ↔ tokens beside the scheduler: one thread with a tokenizer of its own.

The tokenizer that writes answers belongs to the scheduler's thread; neither waits for the other.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from foredraft.doors import check_is_text
from foredraft.errors import ConfigError, ContextOverflow, RequestError, foreign
from foredraft.loading import LoadedModel
from foredraft.models import Seq2SeqModel
from foredraft.models.refusals import check_vocabulary_holds
from foredraft.template import Message, render_messages
from foredraft.text import REMEDY, encode_prompt, encode_text, tokens_of

T = TypeVar("T")
SYSTEM = "system"


class Reader:
    """Reads prompts for a target.

    Args:
        target: whose tokenizer and limits count.
    """

    def __init__(self, target: LoadedModel) -> None:
        self._target, self._network = target, target.model
        self._tokenizer = copy.deepcopy(target.tokenizer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._keeps_end = isinstance(target.model, Seq2SeqModel)

    @property
    def converses(self) -> bool:
        """Whether there is a chat template."""
        has_template = getattr(self._tokenizer, "chat_template", None) is not None
        return has_template and not self._keeps_end

    async def prompt(self, text: str) -> list[int]:
        """Return the tokens of a prompt.

        Raises:
            RequestError: it is empty, or not text.
            ContextOverflow: it leaves no position for an answer.
        """
        return await self._done(lambda: self._fits(self._prompt(text)))

    async def ids(self, tokens: Sequence[int]) -> list[int]:
        """Return token ids that a prompt may hold; errors as of `prompt`."""
        return self._fits(list(tokens))

    async def conversation(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of messages, as the chat template writes them; errors as of `prompt`.

        Raises:
            ConfigError: there is no template, or it drops system messages.
            ModelError: the template failed.
        """
        return await self._done(lambda: self._fits(self._conversation(messages)))

    async def tokens(self, text: str, *, with_special: bool) -> list[int]:
        """Return the tokens of a text, however long."""
        return await self._done(lambda: tokens_of(self._tokenizer, text, with_special=with_special))

    async def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        check_vocabulary_holds(tokens, self._network.prompt_vocab_size)
        return await self._done(lambda: self._decoded(tokens))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _done(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _prompt(self, text: str) -> list[int]:
        ends = self._target.eos_token_ids
        return encode_prompt(self._tokenizer, text, end_tokens=ends, keeps_end=self._keeps_end)

    def _conversation(self, messages: Sequence[Message]) -> list[int]:
        for message in messages:
            if message["role"] != "assistant":  # an answer may have been empty
                check_is_text(message["content"], f"the {message['role']} message")
        if self._keeps_end:
            raise ConfigError(
                f"{self._target.name!r} is an encoder–decoder, which answers one prompt; use "
                "/v1/completions"
            )
        rendered = render_messages(self._tokenizer, messages)
        for message in messages:
            if message["role"] == SYSTEM and message["content"].strip() not in rendered:
                raise ConfigError(
                    "the chat template of this model drops system messages; say it in the first "
                    "user message"
                )
        ends = self._target.eos_token_ids
        return encode_text(self._tokenizer, rendered, is_rendered=True, end_tokens=ends)

    def _fits(self, tokens: list[int]) -> list[int]:
        check_vocabulary_holds(tokens, self._network.prompt_vocab_size)
        most = self._network.max_length
        if not self._keeps_end and len(tokens) >= most:
            raise ContextOverflow(
                f"the prompt has {len(tokens)} tokens but the model has {most} positions, one of "
                f"them for a new token; shorten the prompt to {most - 1} tokens"
            )
        return tokens

    def _decoded(self, tokens: Sequence[int]) -> str:
        with foreign("the tokenizer", REMEDY, RequestError):
            return str(self._tokenizer.decode(list(tokens)))
