"""A network that is used by hand is alone in each pass: every runtime, every wrapper."""

from __future__ import annotations

import copy
import gc
import pickle
import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from foredraft.bench.timed import Clock, TimedModel
from foredraft.checks.remembered import Noted, Remembered
from foredraft.errors import RequestError
from foredraft.models import Feed, Network, Recomputing, TableModel
from foredraft.ownership import Owner
from tests.kinds.test_F1_one_owner import THREADS, in_threads, pair, runtimes
from tests.texts import first_pass
from tests.tiny import random_tokens


@runtimes
def test_passes_by_hand_of_several_threads_are_right(runtime: str) -> None:
    model, reference = pair(runtime)[0].model, pair(runtime)[0].model
    texts = [random_tokens(random.Random(i), 6) for i in range(THREADS)]

    def logits_of(model: Network, tokens: list[int]) -> Iterator[Tensor]:
        text = model.open(tokens)
        yield text.extend(tokens[:3], keep=2)
        text.rollback_to(1)
        yield text.extend(tokens[1:])
        text.rollback_to(2)
        drafted = text.draft(tokens[2:3], 2)
        yield torch.tensor([*drafted.tokens, *drafted.margins])
        other = text.fork()
        outputs = model.forward([Feed(text, tokens[:1]), Feed(other, tokens[1:2])])
        yield torch.cat([output.logits for output in outputs])
        other.close()

    expected = [list(logits_of(reference, text)) for text in texts]

    def work(number: int) -> None:
        for _ in range(10):
            for ours, right in zip(logits_of(model, texts[number]), expected[number], strict=True):
                torch.testing.assert_close(ours, right)

    in_threads(work)


def test_a_closed_text_is_refused_and_its_memory_serves_the_next() -> None:
    model = pair("torch")[0].model
    text = model.open([3, 4])
    right = text.extend([3, 4])
    memory = text.memory
    text.close()
    text.close()
    for use in (lambda: text.extend([5]), lambda: text.draft([5], 1), text.fork):
        with pytest.raises(RequestError, match="closed"):
            use()
    other = model.open([3, 4])
    assert other.memory is memory
    assert torch.equal(other.extend([3, 4]), right)


def test_what_is_dropped_unclosed_is_closed() -> None:
    model = pair("torch")[0].model
    text = model.open([3, 4])
    memory = text.memory
    del text
    gc.collect()
    assert model.open([5]).memory is memory


@runtimes
def test_a_pass_takes_its_own_networks_texts_each_once(runtime: str) -> None:
    model, other = (part.model for part in pair(runtime))
    text = model.open([3, 4])
    for feeds in ([Feed(text, [3]), Feed(text, [4])], [Feed(other.open([3]), [3])]):
        for use in (model.forward, lambda feeds: model.draft(feeds, 2)):
            with pytest.raises(RequestError, match="own network, each once"):
                use(feeds)
    with pytest.raises(RequestError, match="keep is 3; legal: 1 … 1"):
        text.extend([3], keep=3)
    for count in (0, -1):
        with pytest.raises(RequestError, match=f"count is {count}; legal: ≥ 1"):
            text.draft([3], count)
    for use in (model.forward, lambda feeds: model.draft(feeds, 2)):
        with pytest.raises(RequestError, match="needs a text"):
            use([])
    assert text.length == 0


def test_what_wraps_a_model_shares_its_owner() -> None:
    inner = TableModel({(): [0.5, 0.5]})
    for wrapper in (
        Recomputing(inner),
        Remembered(inner),
        Noted(inner),
        TimedModel(inner, float, Clock()),
        Recomputing(Noted(inner)),
    ):
        assert wrapper.owner is inner.owner, type(wrapper).__name__


def test_a_copy_of_a_model_has_a_memory_and_an_owner_of_its_own() -> None:
    inner = TableModel({(): [0.5, 0.5]})
    for other in (copy.deepcopy(inner), pickle.loads(pickle.dumps(inner))):
        assert isinstance(other.owner, Owner)
        assert other.owner is not inner.owner
        assert first_pass(other, [1]).shape == (1, 2)
    wrapper = copy.deepcopy(Recomputing(inner))
    assert wrapper.owner is wrapper.inner.owner
