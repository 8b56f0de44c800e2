"""Tiny models that converse: a random Llama with its noisy double, and a template of turns."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch

from foredraft.config import DecodingConfig
from foredraft.conversation import Conversation
from foredraft.core import StepRecord
from foredraft.decoding import Request, speculative_steps
from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.method import Method
from foredraft.models import Network
from tests.tiny import adapt, build, noisy, tokenizer

START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHATML
)
GREEDY = DecodingConfig(length=12, seed=3)
SAMPLED = GREEDY.replace(sampler="multinomial(temperature=0.8)")


@cache
def speaker(template: str = CHATML) -> Any:
    """Return a tokenizer that knows where turns begin and end, with a template."""
    made = copy.deepcopy(tokenizer())
    made.add_special_tokens({"additional_special_tokens": [START, END]})
    made.chat_template = template
    return made


def token(text: str) -> int:
    """Return the one token that a text is."""
    (only,) = speaker()(text, add_special_tokens=False)["input_ids"]
    return int(only)


def talkers(
    *,
    alone: bool = False,
    template: str = CHATML,
    runtime: str = "llama:native",
    says_end: int | None = None,
    **changes: Any,
) -> Engine:
    """Return an engine of two random models.

    Args:
        alone: leave the draft model out.
        template: of the tokenizer.
        runtime: an architecture of `tests.tiny`.
        says_end: a token in whose place the target says the end of a turn; None: it says none,
            unless it is drawn.
        changes: of the models' config.
    """
    words = speaker(template)
    pair = [make(runtime, vocab_size=len(words), **changes) for make in (build, noisy)]
    pair[0] = copy.deepcopy(pair[0])
    with torch.no_grad():
        rows = pair[0].lm_head.weight
        rows[token(END)] = rows[0]  # of two that are equally likely the first is said
        if says_end is not None:
            rows[[says_end, token(END)]] = rows[[token(END), says_end]]
    ends = (token(END),)
    target, drafter = (
        LoadedModel(name, adapt(network), words, ends)
        for name, network in zip(("target", "drafter"), pair, strict=True)
    )
    return Engine(target, None if alone else drafter)


def fresh(
    engine: Engine, tokens: list[int], config: DecodingConfig, method: str
) -> list[StepRecord]:
    """Return the steps of a generation that reads its whole text anew."""
    parts = engine.speculation(method, config)
    request = Request(
        parts.target.open(tokens),
        Method.of(config, method).rng,
        max_new_tokens=config.length,
        eos_token_ids=engine.target.eos_token_ids,
    )
    return list(speculative_steps(parts, request))


def steps(records: Any) -> list[tuple[list[int], list[int]]]:
    """Return what was drafted and what was emitted: all but the clock."""
    return [(record.drafted, record.emitted) for record in records]


def text_of(conversation: Conversation) -> list[int]:
    """Return the tokens of the newest turn, up to where its answer begins."""
    opened = conversation._open
    assert opened is not None
    return opened.tokens


class Listener:
    """Keeps what a network is fed in each of its passes."""

    def __init__(self, network: Network, monkeypatch: Any) -> None:
        self.fed: list[list[int]] = []
        for name in ("forward", "draft"):
            monkeypatch.setattr(network, name, self._heard(getattr(network, name)))

    def _heard(self, run: Any) -> Any:
        def heard(feeds: Any, *count: int) -> Any:
            self.fed += [list(feed.tokens) for feed in feeds]
            return run(feeds, *count)

        return heard
