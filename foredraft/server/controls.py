"""The fields of a request that bend its distribution, and what they change in the config."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from foredraft.config import DecodingConfig
from foredraft.errors import ConfigError, RequestError
from foredraft.sampling.structure import KINDS
from foredraft.server.bodies import ChatBody, CompletionBody, Sampled

NUMBERS = {  # fields and the settings they stand for
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "min_tokens": "min_new_tokens",
    "regex": "regex",
    "grammar": "grammar",
}
ANY_OBJECT = '{"type": "object"}'  # what `json_object` asks for


class FieldError(RequestError):
    """A field of a request that is not honoured as it stands.

    Attributes:
        field: its name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class _Setting:
    """What a field says of a setting."""

    field: str
    name: str
    value: object


def controlled(config: DecodingConfig, body: Sampled) -> DecodingConfig:
    """Return a config with what a request says of controls, predictions and log-probabilities.

    Raises:
        FieldError: one of the fields is illegal; it is named.
    """
    settings = [
        _Setting(field, name, getattr(body, field))
        for field, name in NUMBERS.items()
        if getattr(body, field) is not None
    ]
    for field, name, read in READERS:
        value = read(body)
        if value is not None:
            settings.append(_Setting(field, name, value))
    structures = [s.field for s in settings if s.name in KINDS]
    if len(structures) > 1:
        raise FieldError(structures[1], f"{' and '.join(structures)} exclude each other")
    if structures:  # the server's own gives way
        config = config.replace(**dict.fromkeys(KINDS))
    for one in settings:
        try:
            config = config.replace(**{one.name: one.value})
        except ConfigError as error:
            raise FieldError(one.field, str(error)) from error
    return config


def _biases(body: Sampled) -> tuple[str, ...] | None:
    if body.logit_bias is None:
        return None
    return tuple(f"{token}={bias!r}" for token, bias in body.logit_bias.items())


def _bad_words(body: Sampled) -> tuple[str, ...] | None:
    return None if body.bad_words is None else tuple(body.bad_words)


def _schema(body: Sampled) -> str | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.json_schema is None:
        raise FieldError("response_format", "response_format.json_schema is missing; give a schema")
    return json.dumps(wanted.json_schema.definition)


def _prediction(body: Sampled) -> str | None:
    return None if body.prediction is None else body.prediction.text


def _logprobs(body: Sampled) -> int | None:
    """Return how many likeliest tokens are told beside each; None: nothing is told."""
    if isinstance(body, CompletionBody):
        return body.logprobs
    assert isinstance(body, ChatBody)
    if body.top_logprobs and not body.logprobs:
        raise FieldError("top_logprobs", "top_logprobs needs logprobs; set it to true")
    return (body.top_logprobs or 0) if body.logprobs else None


Reader = Callable[[Sampled], object]
READERS: tuple[tuple[str, str, Reader], ...] = (
    ("logit_bias", "logit_bias", _biases),
    ("bad_words", "bad_words", _bad_words),
    ("response_format", "json_schema", _schema),
    ("prediction", "prediction", _prediction),
    ("logprobs", "logprobs", _logprobs),
)


def num_choices(body: Sampled) -> int:
    """Return how many texts answer each prompt.

    Raises:
        FieldError: it asks for the best of more than it wants.
    """
    wanted = body.n or 1
    best_of = getattr(body, "best_of", None)
    if best_of not in (None, wanted):
        raise FieldError(
            "best_of", f"best_of is {best_of} and n {wanted}; no text is thrown away: give n alone"
        )
    return wanted
