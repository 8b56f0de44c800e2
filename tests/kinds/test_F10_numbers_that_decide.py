"""A row of logits that decides a token holds a number; else one error names model and precision."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import foredraft
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import DraftModelDrafter, NGramStorage
from foredraft.errors import ModelError
from foredraft.gamma import GAMMA_POLICIES
from foredraft.logits import num_decided
from foredraft.models import Context, Network, TableModel
from foredraft.sampling import SAMPLERS, rng_for
from foredraft.verification import VERIFIERS
from tests.tiny import ARCHITECTURES, SEQ2SEQ, adapt, build

NAN, INFINITY = math.nan, math.inf
BROKEN = {"nan": NAN, "overflow": INFINITY, "nothing": -INFINITY}
LOSSLESS = [name for name in VERIFIERS.names if VERIFIERS.create(name).is_lossless]


class Spoilt(TableModel):
    """A model of four tokens, one row of which says nothing that could be drawn from.

    Args:
        fault: what stands in that row.
        after: the text after which the row is asked for; None spoils every row.
    """

    def __init__(self, fault: float, after: tuple[int, ...] | None = None) -> None:
        super().__init__({(): [0.1, 0.2, 0.3, 0.4]})
        self.fault, self.after = fault, after

    def logits(self, context: Context, tokens: Any, keep: int) -> torch.Tensor:
        logits = super().logits(context, tokens, keep)
        for row in range(keep):
            held = tuple(context.memory.tokens[: context.length - keep + 1 + row])
            if self.after is None or held == self.after:
                logits[row] = self.fault
        return logits


LENGTH = 12  # tokens: `cost_aware` times eight plain steps before it drafts


def speculate(
    target: Network, drafter: Network, sampler: str, verifier: str, policy: str
) -> list[int]:
    rule, drawn = VERIFIERS.create(verifier), SAMPLERS.create(sampler)
    drafting = DraftModelDrafter(drafter, drawn)
    parts = Speculation(target, drafting, GAMMA_POLICIES.create(policy), rule, drawn)
    request = Request(target.open([0, 1]), rng_for(3, keyed=rule.is_coupled), max_new_tokens=LENGTH)
    for _ in speculative_steps(parts, request):
        pass
    return request.output


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("sampler", SAMPLERS.names)
@pytest.mark.parametrize("verifier", VERIFIERS.names)
def test_a_target_without_numbers_is_refused(verifier: str, sampler: str, fault: str) -> None:
    with pytest.raises(ModelError, match=r"the target gives no distribution.* in float64") as said:
        speculate(Spoilt(BROKEN[fault]), TableModel(table()), sampler, verifier, "fixed")
    assert "\n" not in str(said.value)
    assert "--dtype" in str(said.value)


@pytest.mark.parametrize("sampler", SAMPLERS.names)
@pytest.mark.parametrize("policy", [p for p in GAMMA_POLICIES.names if p != "plain"])
def test_a_draft_model_without_numbers_is_refused_by_name(policy: str, sampler: str) -> None:
    with pytest.raises(ModelError, match="the draft model gives no distribution"):
        speculate(TableModel(table()), Spoilt(NAN), sampler, "rejection", policy)


def table() -> dict[tuple[int, ...], list[float]]:
    return {(): [0.1, 0.2, 0.3, 0.4]}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("sampler", SAMPLERS.names)
@pytest.mark.parametrize("verifier", LOSSLESS)
def test_a_row_that_the_text_never_reaches_may_hold_anything(
    verifier: str, sampler: str, fault: str
) -> None:
    """Plain decoding would not have met it, so speculation does not fail of it either."""

    def drafts(tokens: tuple[int, ...]) -> list[float]:
        return [1.0, 0.0, 0.0, 0.0]  # which the target never says

    def says(tokens: tuple[int, ...]) -> list[float]:
        return [0.0, 0.25, 0.25, 0.5]

    sound, spoilt = TableModel(says), Spoilt(BROKEN[fault], (0, 1, 3, 0))
    spoilt._table = says
    outputs = [
        speculate(target, TableModel(drafts), sampler, verifier, "fixed")
        for target in (sound, spoilt)
    ]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("sampler", SAMPLERS.names)
def test_plain_decoding_is_refused_too(sampler: str) -> None:
    target = Spoilt(NAN)
    request = Request(target.open([0, 1]), rng_for(0, keyed=False), max_new_tokens=4)
    with pytest.raises(ModelError, match="the model gives no distribution"):
        list(autoregressive_steps(request, SAMPLERS.create(sampler)))


def test_forbidden_tokens_are_no_fault() -> None:
    rows = torch.tensor([[-INFINITY, 1.0], [-INFINITY, -INFINITY], [0.0, NAN]])
    assert num_decided(rows[:1]) == 1
    assert [num_decided(rows[i:].to(dtype)) for i in (1, 2) for dtype in KINDS] == [0] * 6


KINDS = (torch.float32, torch.float64, torch.float16)
NETWORKS = ["gpt2", "llama", "llama:native", "t5", "bart"]


def spoilt_network(name: str, value: float) -> Any:
    """Return a network with one weight that is no number, or far too large."""
    network = copy.deepcopy(build(name))
    norms = [p for n, p in network.named_parameters() if "norm" in n or "ln_" in n]
    with torch.no_grad():
        norms[-1][3] = value
    return network


CALLS: dict[str, Callable[[Any], Any]] = {
    "autoregressive": lambda n: foredraft.autoregressive_generate([5, 6], n),
    "beams": lambda n: foredraft.beam_search_generate([5, 6], n),
    "speculative": lambda n: foredraft.speculative_generate([5, 6], n, n),
    "ngram": lambda n: foredraft.ngram_assisted_speculative_generate(
        [5, 6, 5, 6], NGramStorage(3, 64), n
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", [n for n in NETWORKS if n in ARCHITECTURES or n in SEQ2SEQ])
def test_one_spoilt_weight_ends_in_one_sentence(name: str, call: str) -> None:
    network = spoilt_network(name, NAN)
    model = adapt(network) if ":" in name else network
    if ":" in name and call == "speculative":
        return  # one adapter cannot be both
    with pytest.raises(ModelError, match=r"gives no distribution.* in float32"):
        CALLS[call](model)


def test_float16_that_overflows_is_named() -> None:
    network = copy.deepcopy(build("llama")).half()
    with torch.no_grad():
        network.model.norm.weight.fill_(60000.0)
        network.lm_head.weight.mul_(1000.0)
    with pytest.raises(ModelError, match="in float16"):
        foredraft.autoregressive_generate([5, 6], network)
