"""How a verifier of somebody else's is called: by the names of its parameters.

Three ways are known. Ours, which anybody's function can be given with a few lines:

    def verify(draft_tokens, draft_probs, target_probs, rng) -> list[int]

`draft_tokens` are the γ ≥ 1 drafted ids, a list; `draft_probs` a tensor `[γ, vocab]`, what each was
drawn from; `target_probs` a tensor `[γ + 1, vocab]`, what the target says after each prefix of the
draft; `rng` has `random()`, `accepts(probability)`, `categorical(weights)`, and need not be used:
torch's own random functions are enumerated as well. Returned are the emitted tokens, one to γ + 1.

The others are `_speculative_sampling` of transformers, and vLLM's `rejection_random_sample_pytorch`
(what its CPU and Ascend workers run in the place of the Triton kernel) with the
`sample_recovered_tokens_pytorch` beside it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from foredraft.checks.scripted import Script
from foredraft.errors import ConfigError, quoted

Values: TypeAlias = dict[str, object]  # arguments by their names
PLAIN = "(draft_tokens, draft_probs, target_probs, rng)"
TRANSFORMERS = ("candidate_input_ids", "candidate_logits", "candidate_length", "new_logits")
VLLM = (
    *("output_token_ids", "cu_num_draft_tokens", "draft_token_ids", "draft_probs", "target_probs"),
    *("bonus_token_ids", "recovered_token_ids", "uniform_probs", "is_greedy"),
)
RECOVERS = "sample_recovered_tokens_pytorch"  # vLLM's draw after a rejection, in the same module
NOTHING = -1  # in vLLM's output: no token


@dataclass(frozen=True)
class Question:
    """What a verifier is asked.

    Attributes:
        draft: the tokens, at least one.
        draft_probs: `[drafted, vocab]`, float32.
        target_probs: `[drafted + 1, vocab]`, float32.
        is_one_hot: whether the draft was looked up, not drawn: q is 1 at each of its tokens.
    """

    draft: tuple[int, ...]
    draft_probs: Tensor
    target_probs: Tensor
    is_one_hot: bool


Answer = Callable[[Question, Script], object]


@dataclass(frozen=True)
class Protocol:
    """A way to call a verifier.

    Attributes:
        name: for a person.
        answer: asks it one question; under `Scripted`.
    """

    name: str
    answer: Answer


def protocol_of(function: Callable[..., object]) -> Protocol:
    """Return how a function is called.

    Raises:
        ConfigError: its parameters fit no way that is known.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:  # a builtin may have none
        raise _unknown(function, "it tells no parameters") from error
    needed = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if set(TRANSFORMERS) <= set(parameters):
        return _checked(function, "transformers' _speculative_sampling", needed, _transformers)
    if set(VLLM) <= set(parameters):
        return _checked(function, "vLLM's rejection_random_sample_pytorch", needed, _vllm)
    try:
        inspect.signature(function).bind(*range(4))
    except TypeError as error:
        raise _unknown(function, f"it takes ({', '.join(parameters)})") from error
    return Protocol("plain", lambda asked, rng: _plain(function, asked, rng))


def _unknown(function: object, why: str) -> ConfigError:
    return ConfigError(
        f"{quoted(getattr(function, '__name__', function))} is no verifier that is known ({why}); "
        f"give a function of {PLAIN} that returns the emitted tokens, or one with the parameters "
        "of transformers' _speculative_sampling or of vLLM's rejection_random_sample_pytorch"
    )


def _checked(
    function: Callable[..., object],
    name: str,
    needed: Sequence[str],
    arguments: Callable[[Callable[..., object], Question], Values],
) -> Protocol:
    """Return a protocol whose arguments are given by name; none that is needed may lack."""
    given = set(TRANSFORMERS_GIVEN if arguments is _transformers else VLLM_GIVEN)
    missing = [one for one in needed if one not in given]
    if missing:
        raise _unknown(function, f"nobody knows its {', '.join(missing)}")
    wanted = inspect.signature(function).parameters

    def answer(asked: Question, rng: Script) -> object:
        values = arguments(function, asked)
        out = function(**{n: value for n, value in values.items() if n in wanted})
        written = values.get("output_token_ids")
        if isinstance(written, Tensor):
            return [token for token in written[0].tolist() if token != NOTHING]
        return out[0] if isinstance(out, tuple) and out else out

    return Protocol(name, answer)


def _plain(function: Callable[..., object], asked: Question, rng: Script) -> object:
    return function(list(asked.draft), asked.draft_probs.clone(), asked.target_probs.clone(), rng)


TRANSFORMERS_GIVEN = (*TRANSFORMERS, "is_done_candidate")


def _transformers(function: Callable[..., object], asked: Question) -> Values:
    """Return its arguments; releases up to 5.1 are told whether the draft ends the text as well."""
    return {
        "candidate_input_ids": torch.tensor([asked.draft]),
        "candidate_logits": asked.draft_probs.log()[None],
        "candidate_length": len(asked.draft),
        "new_logits": asked.target_probs.log()[None],
        "is_done_candidate": False,
    }


VLLM_GIVEN = (
    *VLLM,
    *("max_spec_len", "vocab_size", "IS_NGRAM", "no_draft_probs", "num_draft_tokens_per_req"),
)


def _vllm(function: Callable[..., object], asked: Question) -> Values:
    """Return its arguments, for a batch of one; what vLLM draws before the call is drawn here.

    A draft that was looked up comes without probabilities, as in vLLM.
    """
    drafted, vocab = asked.draft_probs.shape
    values: Values = {
        "output_token_ids": torch.full((1, drafted + 1), NOTHING, dtype=torch.int32),
        "cu_num_draft_tokens": torch.tensor([drafted], dtype=torch.int32),
        "draft_token_ids": torch.tensor(asked.draft),
        "draft_probs": None if asked.is_one_hot else asked.draft_probs.clone(),
        "target_probs": asked.target_probs[:-1].clone(),
        "is_greedy": torch.tensor([False]),
        "max_spec_len": drafted,
        "vocab_size": vocab,
        "IS_NGRAM": asked.is_one_hot,
        "no_draft_probs": asked.is_one_hot,
        "num_draft_tokens_per_req": [drafted],
    }
    return {
        **values,
        "recovered_token_ids": _recovered(function, values, asked),
        "uniform_probs": torch.rand(drafted),
        "bonus_token_ids": torch.multinomial(asked.target_probs[-1:], 1).to(torch.int32),
    }


def _recovered(function: Callable[..., object], values: Values, asked: Question) -> Tensor:
    """Return the tokens that come after a rejection, one a position, by its neighbour."""
    beside: Values = getattr(inspect.unwrap(function), "__globals__", {})
    recover = beside.get(RECOVERS)
    if not callable(recover):
        raise ConfigError(
            f"beside {quoted(getattr(function, '__name__', function))} there is no {RECOVERS}, "
            "which vLLM draws with after a rejection; define or import it in the same module"
        )
    out = torch.zeros(len(asked.draft), dtype=torch.int64)
    waiting = torch.empty(1, asked.draft_probs.shape[-1]).exponential_()
    given = values | {
        "target_probs": asked.target_probs[:-1].clone(),  # a form of it writes into them
        "output_token_ids": out,
        "q": waiting,
        "inv_q": waiting.reciprocal(),
    }
    wanted = inspect.signature(recover).parameters
    recover(**{name: value for name, value in given.items() if name in wanted})
    return out
