"""Every error a user can cause, as one tree.

```
ForedraftError
├── ConfigError              a value, flag or file of settings is wrong
│   ├── UnknownComponent     no sampler, drafter, policy or verifier of that name
│   └── BadSpecString        "name(key=value)" cannot be read, or its values are illegal
├── ModelError               a model cannot do what is asked
│   ├── VocabularyMismatch   the drafter's tokens are not the target's, and not translated
│   ├── RollbackUnsupported  the model's memory cannot forget (recurrent, sliding window)
│   └── ContextOverflow      more tokens than the model has positions for
└── RequestError             the prompt or the request itself is wrong
```

Each message names the offending value, the legal range and the remedy, in one sentence.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType


def quoted(value: object, limit: int = 60) -> str:
    """Return the value's repr, shortened: a message stays one sentence whatever was typed."""
    try:
        shown = repr(value)
    except Exception:  # a number of more digits than Python prints, an object of somebody else's
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= limit else f"{shown[: limit - 4]}...{shown[-1]}"


class ForedraftError(Exception):
    """Base of all errors raised for the user; its text is fit to be shown as it is."""


class ConfigError(ForedraftError):
    """A setting is missing, of the wrong type or out of range.

    Give a value from the legal ones, which the message names.
    """


class UnknownComponent(ConfigError):
    """No component is registered under the given name.

    Choose one of the names in the message, or import the module that registers yours.
    """


class BadSpecString(ConfigError):
    """A component's spec string cannot be parsed or does not fit its parameters.

    Write `name(key=value, …)`; the message names the key and its range.
    """


class ModelError(ForedraftError):
    """A model could not be loaded or cannot do what is asked of it.

    Check the name and the folder; for files that are damaged, fetch them anew.
    """


class VocabularyMismatch(ModelError):
    """The drafter's tokens are not the target's, and here nothing can translate them.

    Load both with `Engine.load`, which translates, or take a draft model of the same family.
    """


class RollbackUnsupported(ModelError):
    """The model's memory cannot forget its newest tokens.

    Take a model whose layers are all attention: recurrent states cannot be rolled back.
    """


class ContextOverflow(ModelError):
    """The text is longer than the model's context.

    Shorten the prompt to the number of tokens that the message names.
    """


class RequestError(ForedraftError):
    """The request itself (prompt, tokens, records) cannot be served.

    Give what the message asks for, such as a prompt that is not empty or the ids of one text.
    """


def unfit(name: str, legal: str, value: object, remedy: str) -> ModelError:
    """Return the refusal of a value in a model's files: what it is, should be, and what to do."""
    return ModelError(f"{name} must be {legal}, not {quoted(value)}; {remedy}")


class Border(AbstractContextManager[None]):
    """What `foreign` returns: a class, since a text crosses it twice a token."""

    __slots__ = ("_kind", "_remedy", "_what")

    def __init__(self, what: str, remedy: str, kind: type[ForedraftError]) -> None:
        self._what, self._remedy, self._kind = what, remedy, kind

    def __enter__(self) -> None:
        """Cross it."""

    def __exit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Come back."""
        if error is None or isinstance(error, OURS):
            return
        # A panic inside a tokenizer's Rust is no Exception.
        said = f"{type(error).__name__} {quoted(_said(error), 160)}"
        raise self._kind(f"{self._what} failed with {said}; {self._remedy}") from error


def foreign(what: str, remedy: str, kind: type[ForedraftError] = ModelError) -> Border:
    """Call code that is not ours: whatever it raises becomes one sentence of ours.

    Templates, tokenizers, config classes, torch and the reader of a weight file raise what they
    like, out of memory and recursion included. Our own errors and Ctrl-C pass.

    Args:
        what: was being done, as the subject of the sentence: "the chat template of 'x'".
        remedy: what the user can do, e.g. "switch chat off".
        kind: of the error that is raised.
    """
    return Border(what, remedy, kind)


OURS = (ForedraftError, KeyboardInterrupt, SystemExit, GeneratorExit)  # errors that pass


def _said(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:  # somebody else's __str__
        return ""
