"""Static passes say what passes of any size say, repeated from a record as from a CUDA graph.

On a CPU a tape takes the place of the graph (`tests/tape.py`): it repeats the recorded operations
on the recorded tensors, so a number that the host alone knows would be found out.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from foredraft.errors import ConfigError, ModelError
from foredraft.loading import LoadOptions
from foredraft.loading.runtime import Runtime
from foredraft.models import Feed, Recomputing
from foredraft.native.graphs import SIZES, Capture, StaticModel
from foredraft.native.network import KEYS, ROWS, NativeModel
from tests.native.test_native import FAMILY, half, network, random_tokens, walk
from tests.tape import record
from tests.tiny import MAX_LENGTH, VOCAB, Witness, assert_same_logits, build, full_logits


def static(network: Any, **settings: Any) -> StaticModel:
    return StaticModel(network, new_capture=lambda: record, **settings)


class Counter:
    """Captures by tape, and counts."""

    def __init__(self) -> None:
        self.pools, self.captures = 0, 0

    def __call__(self) -> Capture:
        self.pools += 1
        return self.capture

    def capture(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.captures += 1
        return record(compute)


@pytest.mark.parametrize("invariant", [False, True], ids=["free", "invariant"])
@pytest.mark.parametrize("member", FAMILY)
def test_replayed_logits_are_those_of_transformers(member: str, invariant: bool) -> None:
    source = random.Random(member)
    model = Witness(network(member), static(network(member), invariant=invariant))
    for prompt_length in (1, 7, 40):
        text = model.open(random_tokens(source, prompt_length))
        text.extend(text.begin, keep=min(prompt_length, 20))
        walk(text, source, 8)


def test_the_memory_grows_under_the_graphs_and_prompts_are_fed_in_chunks() -> None:
    source = random.Random(0)
    model = Witness(build("llama"), static(build("llama")))
    text = model.open(random_tokens(source, KEYS - 6))
    text.extend(text.begin, keep=3)
    for _ in range(4):  # over the end of the first bucket
        text.extend(random_tokens(source, 3), keep=3)
    text.rollback_to(KEYS - 8)  # and back into it
    text.extend(random_tokens(source, 2), keep=2)
    text.extend(random_tokens(source, SIZES[-1] + 1), keep=SIZES[-1] + 1)
    text.extend(random_tokens(source, MAX_LENGTH - text.length))


def test_each_shape_is_recorded_once_until_the_memory_moves() -> None:
    counter = Counter()
    model = StaticModel(build("llama"), new_capture=counter)
    tokens = random_tokens(random.Random(0), KEYS - 40)
    text = model.open(tokens)
    text.extend(tokens)
    assert counter.captures == 0  # a prompt is not recorded
    for count in (1, 3, 4, 1, 2):
        text.extend(tokens[:count], keep=count)
    assert (counter.captures, counter.pools) == (3, 1)  # of 1, 4 and 2 rows
    text.close()
    text = model.open(tokens)
    text.extend(tokens)
    text.extend([5])
    assert (counter.captures, counter.pools) == (3, 1)  # another text, the same memory
    for _ in range(15):
        text.extend(tokens[:4], keep=4)
    assert counter.pools == 2  # of the larger memory
    assert text.length + len(SIZES) < 2 * KEYS


def test_every_open_text_has_records_of_its_own() -> None:
    counter = Counter()
    inner = StaticModel(build("llama"), new_capture=counter)
    model = Witness(build("llama"), inner)
    texts = [model.open(prompt) for prompt in ([3, 4], [5, 6, 7])]
    for text in texts:
        text.extend(text.begin)
    for count in (1, 2, 1, 2):
        for text in texts:  # replays between replays of the other
            text.extend(list(range(count)), keep=count)
    assert (counter.captures, counter.pools) == (4, 2)  # of 1 and 2 rows, on two memories
    fork = texts[0].fork()
    for text in (fork, texts[0], fork):
        text.extend([8])
    assert (counter.captures, counter.pools) == (5, 3)
    texts[0].rollback_to(1)
    for text in (texts[0], fork, texts[1]):
        text.extend([9, 8], keep=2)
    assert (counter.captures, counter.pools) == (6, 3)


def test_a_memory_that_grows_leaves_the_records_of_the_others_right() -> None:
    model = Witness(build("llama"), static(build("llama")))
    short, long = model.open([3, 4]), model.open(random_tokens(random.Random(0), KEYS - 2))
    for text in (short, long):
        text.extend(text.begin)
        text.extend([5])
    long.extend([6, 7, 8, 9], keep=4)  # the rotations move with it
    for text in (short, long, short):
        text.extend([5])


def test_what_was_returned_is_not_overwritten_by_the_next_pass() -> None:
    model = static(build("llama"))
    text, other = model.open([3, 4]), model.open([7, 8])
    for each in (text, other):
        each.extend(each.begin)
    first = text.extend([5])
    copy = first.clone()
    text.extend([6])
    other.extend([6])
    assert torch.equal(first, copy)
    for each in (text, other):
        each.rollback_to(2)
    together = model.forward([Feed(text, [5]), Feed(other, [9])])
    assert_same_logits(together[0].logits, copy)
    assert_same_logits(together[1].logits, full_logits(build("llama"), [7, 8, 9])[-1:])


@pytest.mark.parametrize("unseen", [1, 2, 3, 5, SIZES[-1] + 8])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_draft_at_once_is_the_draft_token_by_token(unseen: int, count: int) -> None:
    ours, theirs = static(build("qwen3")), NativeModel(build("qwen3"))
    source = random.Random(unseen)
    for held in (0, 9):
        for _ in range(4):
            tokens = random_tokens(source, held + unseen)
            text, other = ours.open(tokens), theirs.open(tokens)
            for each in (text, other) if held else ():
                each.extend(tokens[:held])
            drafted, expected = (each.draft(tokens[held:], count) for each in (text, other))
            assert drafted.tokens == expected.tokens
            assert drafted.margins == pytest.approx(expected.margins, abs=1e-4)
            assert text.length == other.length == len(tokens) + count - 1
            said = [*tokens, *drafted.tokens]
            text.rollback_to(len(said) - 2)
            after = text.extend(said[text.length :])
            assert_same_logits(after, full_logits(build("qwen3"), said)[-1:])


def test_drafts_of_several_texts_are_those_of_each_alone() -> None:
    model, source = static(build("llama")), random.Random(0)
    texts = [model.open(random_tokens(source, length)) for length in (1, 3, SIZES[-1] + 2)]
    alone = [model.open(text.begin).draft(text.begin, 4) for text in texts]
    together = model.draft([Feed(text, text.begin) for text in texts], 4)
    assert [drafted.tokens for drafted in together] == [drafted.tokens for drafted in alone]
    for drafted, expected in zip(together, alone, strict=True):
        assert drafted.margins == pytest.approx(expected.margins, abs=1e-4)
    assert [text.length for text in texts] == [4, 6, SIZES[-1] + 5]


@pytest.mark.parametrize("vocab_size", [VOCAB - 10, VOCAB + 10])
def test_a_drafter_gets_the_targets_columns(vocab_size: int) -> None:
    ours = static(build("llama"), vocab_size=vocab_size)
    theirs = NativeModel(build("llama"), vocab_size=vocab_size)
    text, other = ours.open([3, 4]), theirs.open([3, 4])
    for each in (text, other):
        each.extend(each.begin)
    tokens = [3, vocab_size - 1]
    assert_same_logits(text.extend(tokens, keep=2), other.extend(tokens, keep=2))
    drafted = text.draft([7], 30).tokens
    assert drafted == other.draft([7], 30).tokens
    assert max(drafted) < min(VOCAB, vocab_size)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_invariant_logits_do_not_depend_on_the_size_of_the_pass(precision: str) -> None:
    source = random.Random(0)
    tokens = random_tokens(source, 90)
    model = static(build("llama") if precision == "float32" else half("llama"), invariant=True)
    text = model.open(tokens[:9])
    text.extend(text.begin)
    plain = [text.extend([t])[0] for t in tokens[9:]]
    text.rollback_to(9)
    while text.length < len(tokens):
        begin = text.length
        count = min(source.randint(1, ROWS + 3), len(tokens) - begin)
        for i, row in enumerate(text.extend(tokens[begin : begin + count], keep=count)):
            assert torch.equal(row, plain[begin - 9 + i])
        text.rollback_to(begin + source.randint(1, count))


def test_after_forks_and_without_a_cache_it_says_the_same() -> None:
    model = Witness(build("llama"), static(build("llama")))
    text = model.open([5, 6, 7])
    text.extend(text.begin)
    text.extend([8])
    forks = [text.fork() for _ in range(3)]
    model.forward([Feed(fork, [token]) for fork, token in zip(forks, (1, 2, 3), strict=True)])
    for fork in (text, *forks):
        fork.extend([4])
        fork.close()
    for _ in range(2):
        new = model.open([9, 8])
        new.extend(new.begin)
        new.extend([8, 9], keep=2)
    uncached = Witness(build("llama"), Recomputing(static(build("llama")))).open([5, 6, 7])
    uncached.extend(uncached.begin)
    uncached.extend([8, 9], keep=2)


def test_a_capture_that_fails_is_said_once_and_done_without() -> None:
    def fail(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model = StaticModel(build("llama"), new_capture=lambda: fail)
    witness = Witness(build("llama"), model)
    text, other = witness.open([3, 4]), witness.open([5])
    for each in (text, other):
        each.extend(each.begin)
    with pytest.warns(RuntimeWarning, match="no CUDA graphs, passes run eagerly: operation not"):
        text.extend([5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text.extend([6, 7], keep=2)
        text.extend(random_tokens(random.Random(0), KEYS))  # the memory moves
        text.extend([5])
        other.extend([6])  # another text is not told again


# --- torch.compile --------------------------------------------------------------------------------


def test_compile_is_of_the_native_runtime() -> None:
    with pytest.raises(ConfigError, match="--compile makes kernels for CUDA; on a CPU the native"):
        Runtime("auto", compile=True).adapt(build("llama"))
    assert LoadOptions(compile=True).runtime_for(build("llama").config).compile
    with pytest.raises(ConfigError, match="--compile needs the native runtime, which does not kno"):
        Runtime("auto", compile=True).adapt(build("gpt2"))
    with pytest.raises(ConfigError, match="--compile needs the native runtime; use --runtime nati"):
        Runtime("transformers", compile=True)


def test_without_a_compiler_one_sentence_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(function: Any, **_: Any) -> Any:
        def call(*_: Any) -> Tensor:
            raise torch._dynamo.exc.InternalTorchDynamoError("No working C++ compiler found\nmore")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    model = StaticModel(build("llama"), compiled=True)
    text = model.open([3, 4])
    text.extend(text.begin)
    with pytest.raises(ModelError, match=r"\(No working C\+\+ compiler found\); leave --comp"):
        text.extend([5])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the compiler's own modules warn of
def test_compiled_logits_are_those_of_transformers() -> None:
    model = Witness(build("llama"), StaticModel(build("llama"), compiled=True))
    text = model.open([3, 4])
    text.extend(text.begin)
    for tokens in ([5], [6], [7, 8]):
        text.extend(tokens, keep=len(tokens))


# --- on a device ----------------------------------------------------------------------------------
