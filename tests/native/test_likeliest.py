"""What a compiled pass says is likeliest: what a look at its logits finds, in whatever order."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import torch

from foredraft.logits import likeliest
from foredraft.models import Feed
from foredraft.native.fused import FusedModel
from foredraft.native.passes import PASS_ROWS
from foredraft.sampling import NucleusSampler, Sampler, TopKSampler
from tests.native.test_fused import needs_a_compiler, processor
from tests.native.test_seq2seq import by_c, network
from tests.tiny import VOCAB, build, random_tokens

assert processor  # a fixture
pytestmark = needs_a_compiler


def spoilt(value: float, *rows: int) -> Any:
    """Return a network of which some logits are no numbers."""
    llama = copy.deepcopy(build("llama"))
    llama.lm_head = torch.nn.Linear(llama.lm_head.in_features, VOCAB, bias=False)
    torch.manual_seed(5)
    with torch.no_grad():
        llama.lm_head.weight.normal_()
        for row in rows:
            llama.lm_head.weight[row] = value
    return llama


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("vocab_size", [1, 7, 16, VOCAB - 3, VOCAB, VOCAB + 10])
def test_the_likeliest_of_each_row_are_those_of_its_logits(
    vocab_size: int, threads: int, processor: str
) -> None:
    source, model = random.Random(vocab_size), FusedModel(build("llama"), vocab_size=vocab_size)
    model.threads = threads
    known = min(vocab_size, VOCAB)
    for lengths in ((1,), (5,), (3, 1, 4), (PASS_ROWS + 9,), (40, 40)):
        feeds = []
        for length in lengths:
            tokens = [source.randrange(known) for _ in range(length)]
            keep = source.randint(1, min(length, 9))
            feeds.append(Feed(model.open(tokens), tokens, keep))
        for output in model.forward(feeds):
            assert output.likeliest == likeliest(output.logits)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [(0,), (3, 9), (VOCAB - 1,), tuple(range(VOCAB))])
def test_rows_that_decide_nothing_are_not_counted(
    value: float, rows: tuple[int, ...], processor: str
) -> None:
    model = FusedModel(spoilt(value, *rows))
    tokens = [1, 2, 3, 4]
    [output] = model.forward([Feed(model.open(tokens), tokens, 4)])
    assert output.likeliest is not None
    expected = likeliest(output.logits)
    assert output.likeliest.decided == expected.decided
    assert output.likeliest.tokens[: expected.decided] == expected.tokens[: expected.decided]
    drafted = model.open(tokens).draft(tokens, 2)
    assert [math.isnan(margin) for margin in drafted.margins] == [expected.decided == 0] * 2


@pytest.mark.parametrize("sampler", [NucleusSampler(0.8, 0.9), TopKSampler(1.3, 5)])
def test_choices_are_the_same_whether_that_is_known_or_not(sampler: Sampler) -> None:
    model = FusedModel(build("llama"))
    tokens = random_tokens(random.Random(3), 6)
    [output] = model.forward([Feed(model.open(tokens), tokens, 6)])
    like = torch.zeros(1, VOCAB)
    told, decided = sampler.choices(output.logits, output.likeliest)
    found, looked = sampler.choices(output.logits)
    assert decided == looked == 6
    assert torch.equal(told.dense(like), found.dense(like))


def test_a_t5_drafter_has_read_its_source_before_it_draws() -> None:
    model = by_c(network("t5"))
    source, sampler = random.Random(1), NucleusSampler(0.9, 0.9)
    prompt, begin = random_tokens(source, 9), [2, 5, 7]
    drawing = sampler.drawing([source.random() for _ in range(5)])
    assert drawing is not None
    at_once = model.open(prompt).draw(begin, 5, drawing)
    text = model.open(prompt)
    text.extend(begin[:1])  # whatever is first: the source has been read
    after = text.draw(begin[1:], 5, drawing)
    assert at_once.tokens == after.tokens
    assert at_once.margins == pytest.approx(after.margins, abs=1e-5)
