"""Chat templates are programs of somebody else's: they run apart, with limits of time and memory.

A template that loops or grows cannot be stopped from inside its process. So one that might runs in
a copy of the process that may be killed; where the system cannot make one (Windows), it runs here,
unlimited.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from foredraft.errors import ConfigError, ForedraftError, ModelError, foreign

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]  # its `role` and its `content`
SECONDS = 3.0
MEGABYTES = 256
CHARACTERS = 200_000  # beside four times the prompt
WHAT = "the chat template"
REMEDY = "switch chat off, or mend chat_template.jinja of the model"
TEXT, ERROR = b"T", b"E"  # first byte of what the copy answers


def user_message(prompt: str) -> Message:
    """Return what a user says, as templates want it."""
    return {"role": "user", "content": prompt}


def render_messages(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """Return what a tokenizer's template makes of messages, up to where the answer begins.

    Raises:
        ConfigError: there is no template.
        ModelError: as for `rendered`.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ConfigError("this model's tokenizer has no chat template; switch chat off")

    def render() -> str:
        made: object = tokenizer.apply_chat_template(
            [*messages], tokenize=False, add_generation_prompt=True
        )
        if not isinstance(made, str):
            raise TypeError(f"it made {type(made).__name__} instead of text")
        return made

    prompt = "".join(message["content"] for message in messages)
    is_little = len(messages) * len(prompt) <= CHARACTERS
    return rendered(render, prompt, apart=not (is_little and _is_bounded(tokenizer)))


def _is_bounded(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether what a tokenizer makes of messages is known to end soon."""
    from transformers import PreTrainedTokenizerBase

    from foredraft.template_bounds import is_bounded  # reads templates, which few prompts need

    template = tokenizer.chat_template
    return (
        isinstance(template, str)
        and getattr(type(tokenizer), "apply_chat_template", None)
        is PreTrainedTokenizerBase.apply_chat_template
        and is_bounded(template)
    )


def rendered(render: Callable[[], str], prompt: str, *, apart: bool = True) -> str:
    """Return what a template makes of a prompt.

    Args:
        render: runs it.
        prompt: what it is given.
        apart: run it in a process of its own, where the system can.

    Raises:
        ModelError: it failed, took too long, needed too much memory or wrote too much.
    """
    most = CHARACTERS + 4 * len(prompt)
    with foreign(WHAT, REMEDY):
        text = _apart(render, most) if apart and hasattr(os, "fork") else render()
    if len(text) > most:
        raise _over(f"wrote more than {most} characters")
    return text


def _apart(render: Callable[[], str], most: int) -> str:
    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of threads, which the copy does not touch
        copy = os.fork()
    if copy == 0:
        _answer(render, writer)
    os.close(writer)
    try:
        answer = _read(reader, 4 * most)
    finally:
        os.close(reader)
        os.kill(copy, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the caller may have asked for none to wait
            os.waitpid(copy, 0)
    content = answer[1:].decode("utf-8", "surrogatepass")
    if answer[:1] == TEXT:
        return content
    name, _, said = content.partition("\n")
    if name == "MemoryError":
        raise _over(f"needed more than {MEGABYTES} MB")
    raise type(name or "an abrupt end", (Exception,), {})(said)


def _answer(render: Callable[[], str], writer: int) -> NoReturn:
    """Run the template in the copy and leave it, whatever happens, without any cleaning up."""
    try:
        faulthandler.disable()
        _limit()
        answer = TEXT + render().encode("utf-8", "surrogatepass")
    except BaseException as error:
        answer = ERROR + f"{type(error).__name__}\n{error}".encode("utf-8", "replace")
    try:
        while answer:
            answer = answer[os.write(writer, answer) :]
    finally:
        os._exit(0)


def _limit() -> None:
    import resource  # there is none where there is no fork

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's, who kills it
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, math.ceil(SECONDS) + 1)  # should its parent be gone
    with contextlib.suppress(OSError):  # only Linux says how much there is already
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + MEGABYTES * 2**20)


def _lower(limit: int, value: int) -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):  # lower already
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


def _read(reader: int, most: int) -> bytes:
    """Return what the copy answers, as far as it is in time and of a sane size."""
    end, answer = time.monotonic() + SECONDS, b""
    while len(answer) <= most:
        ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise _over(f"took more than {SECONDS:g} s")
        piece = os.read(reader, 2**20)
        if not piece:
            return answer
        answer += piece
    raise _over(f"wrote more than {most // 4} characters")


def _over(limit: str) -> ForedraftError:
    return ModelError(f"{WHAT} {limit}; {REMEDY}")
