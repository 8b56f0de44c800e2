"""A model that is used by hand has one owner too: every adapter, every method, every wrapper."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator

import torch
from torch import Tensor

from foredraft.bench.replay import Clock, TimedModel
from foredraft.checks.remembered import Noted, Remembered
from foredraft.errors import RequestError
from foredraft.models import LanguageModel, Recomputing, TableModel
from foredraft.models.base import USES_OF_MEMORY
from foredraft.ownership import Owner, held
from tests.kinds.test_F1_one_owner import THREADS, in_threads, pair, runtimes
from tests.tiny import random_tokens


@runtimes
def test_passes_by_hand_are_right_or_told(runtime: str) -> None:
    model = pair(runtime)[0].model
    reference = pair(runtime)[0].model
    texts = [random_tokens(random.Random(i), 6) for i in range(THREADS)]

    def logits_of(model: LanguageModel, text: list[int]) -> Iterator[Tensor]:
        model.start(text)
        yield model.extend(text[:3], keep=2)
        model.rollback_to(1)
        yield model.extend(text[1:], keep=1)
        model.rollback_to(2)
        tokens, margins = model.draft(text[2:3], 2)
        yield torch.tensor([*tokens, *margins])
        yield model.extend_beams([0, 0], text[:2])

    expected = [list(logits_of(reference, text)) for text in texts]
    told: list[str] = []

    def work(number: int) -> None:
        for _ in range(10):
            try:
                for ours, right in zip(
                    logits_of(model, texts[number]), expected[number], strict=True
                ):
                    torch.testing.assert_close(ours, right)
            except RequestError as error:
                told.append(str(error))

    in_threads(work)
    with held(model):
        assert len(list(logits_of(model, texts[0]))) == 4
    assert told, "threads never met"
    assert all("another thread has begun a sequence" in message for message in told)


# --- every adapter, by enumeration ----------------------------------------------------------------


def every_adapter(kind: type[LanguageModel] = LanguageModel) -> Iterator[type[LanguageModel]]:
    for below in kind.__subclasses__():
        yield below
        yield from every_adapter(below)


def test_every_method_that_uses_a_memory_is_alone_with_it() -> None:
    adapters = [LanguageModel, *every_adapter()]
    assert len(adapters) > 8
    for adapter in adapters:
        for name in vars(adapter).keys() & set(USES_OF_MEMORY):
            is_abstract = getattr(vars(adapter)[name], "__isabstractmethod__", False)
            assert is_abstract or hasattr(vars(adapter)[name], "__wrapped__"), (adapter, name)


def test_what_wraps_a_model_shares_its_owner() -> None:
    inner = TableModel({(): [0.5, 0.5]})
    for wrapper in (
        Recomputing(inner),
        Remembered(inner),
        Noted(inner),
        TimedModel(inner, 1.0, 0.0, Clock()),
        Recomputing(Noted(inner)),
    ):
        assert wrapper.owner is inner.owner, type(wrapper).__name__


def test_a_copy_of_a_model_has_a_memory_and_an_owner_of_its_own() -> None:
    inner = TableModel({(): [0.5, 0.5]})
    for other in (copy.deepcopy(inner), pickle.loads(pickle.dumps(inner))):
        assert isinstance(other.owner, Owner)
        assert other.owner is not inner.owner
        assert other.extend(other.start([1]), keep=1).shape == (1, 2)
    wrapper = copy.deepcopy(Recomputing(inner))
    assert wrapper.owner is wrapper.inner.owner
