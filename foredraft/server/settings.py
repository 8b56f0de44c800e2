"""The fields of a request → how it is decoded: a method, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass

from foredraft.config import UNSAID, DecodingConfig
from foredraft.method import Method
from foredraft.sampling import SAMPLERS, GreedySampler, TemperedSampler
from foredraft.server.bodies import ChatBody, CompletionBody, Sampled
from foredraft.server.controls import FieldError, controlled

COMPLETION_LENGTH = 16  # tokens of a completion that does not say how many, as clients expect
ONLY_SPECULATIVE = ("drafting", "policy", "num_draft_tokens", "prediction")


@dataclass(frozen=True)
class Defaults:
    """What a request that says nothing is decoded with.

    Attributes:
        config: of the command line.
        allows_trace: whether steps may be asked for.
    """

    config: DecodingConfig
    allows_trace: bool = False


def methods_of(body: Sampled, defaults: Defaults, room: int, count: int = 1) -> list[Method]:
    """Return how the texts of a request are decoded; one without a seed gets a fresh one.

    Args:
        body: the request.
        defaults: of the server.
        room: positions behind the prompt, for an answer that may take them all.
        count: texts, each with the seed behind that of the one before.

    Raises:
        FieldError: a field is not honoured here.
        ConfigError: a spec string is not readable, or a value is illegal.
    """
    _check_fields(body, defaults)
    config = defaults.config.replace(
        length=_length(body, room),
        sampler=_sampler(body),
        seed=body.seed,
        stop=tuple([body.stop] if isinstance(body.stop, str) else body.stop or ()),
        **_drafting(body),
    )
    config = controlled(config, body).with_seed
    name = "target" if body.speculative is False else "speculative"
    methods = [Method.of(config.with_later_seed(i), name) for i in range(count)]
    _check_method(body, methods[0])
    return methods


def _check_fields(body: Sampled, defaults: Defaults) -> None:
    if body.trace and not defaults.allows_trace:
        raise FieldError("trace", "trace needs a server that was started with --allow-trace")
    if body.stream_options is not None and not body.stream:
        raise FieldError("stream_options", "stream_options is for streams; set stream to true")
    if body.speculative is False:
        for name in ONLY_SPECULATIVE:
            if getattr(body, name) is not None:
                raise FieldError(name, f"{name} means nothing where speculative is false")


def _length(body: Sampled, room: int) -> int:
    if isinstance(body, CompletionBody):
        return body.max_tokens or COMPLETION_LENGTH
    assert isinstance(body, ChatBody)
    if None not in (body.max_tokens, body.max_completion_tokens):
        raise FieldError("max_tokens", "give max_tokens or max_completion_tokens, not both")
    return body.max_tokens or body.max_completion_tokens or max(room, 1)


def _sampler(body: Sampled) -> str:
    """Return the spec string of the sampler: the temperature first, then the filters."""
    temperature = 1.0 if body.temperature is None else body.temperature
    if temperature == 0:
        return SAMPLERS.spec(GreedySampler())
    return SAMPLERS.spec(
        TemperedSampler(
            temperature,
            top_k=body.top_k if body.top_k and body.top_k > 0 else None,
            top_p=1.0 if body.top_p is None else body.top_p,
            min_p=body.min_p or 0.0,
        )
    )


def _drafting(body: Sampled) -> dict[str, object]:
    """Return the settings of speculation that a request names."""
    named = {name: getattr(body, name) for name in ("drafting", "policy", "verifier")}
    given: dict[str, object] = {name: spec for name, spec in named.items() if spec is not None}
    if body.num_draft_tokens is not None:
        given["gamma"] = body.num_draft_tokens
    return given


def _keeps(source: object) -> bool:
    """Whether a drafter, or one inside it, remembers other texts."""
    if isinstance(source, tuple):
        return any(map(_keeps, source))
    if not is_dataclass(source):
        return False
    if getattr(source, "keep", False):
        return True
    return any(_keeps(getattr(source, field.name)) for field in fields(source))


def _check_method(body: Sampled, method: Method) -> None:
    """Raise unless what is named is what counts, and of this request alone."""
    if body.drafting is not None and _keeps(method.source):
        told = "a request's drafter keeps nothing of other requests; leave keep out"
        raise FieldError("drafting", told)
    if body.verifier is not None and not method.verifier.is_lossless:
        told = f"{body.verifier!r} would change the text; choose a lossless one"
        raise FieldError("verifier", told)
    if body.num_draft_tokens is None:
        return
    if method.config.policy != UNSAID:
        raise FieldError(
            "num_draft_tokens", "num_draft_tokens is for policy 'fixed'; leave one of them out"
        )
    if method.source is not None and method.source.chooses_lengths:
        raise FieldError(
            "num_draft_tokens",
            f"drafting {method.config.drafting!r} chooses lengths by itself; name another one, or "
            "its gamma_max",
        )
