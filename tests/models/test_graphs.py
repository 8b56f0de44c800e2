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
from foredraft.models import LoadOptions, Recomputing
from foredraft.models.graphs import SIZES, Capture, StaticModel
from foredraft.models.native import KEYS, ROWS, NativeModel, prove_equal
from foredraft.models.runtime import Runtime
from tests.models.test_native import FAMILY, half, network, random_tokens, walk
from tests.tape import record
from tests.tiny import MAX_LENGTH, VOCAB, Witness, assert_same_logits, build, full_logits

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


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
        model.extend(model.start(random_tokens(source, prompt_length)), keep=min(prompt_length, 20))
        walk(model, source, 8)


def test_the_memory_grows_under_the_graphs_and_prompts_are_fed_in_chunks() -> None:
    source = random.Random(0)
    model = Witness(build("llama"), static(build("llama")))
    model.extend(model.start(random_tokens(source, KEYS - 6)), keep=3)
    for _ in range(4):  # over the end of the first bucket
        model.extend(random_tokens(source, 3), keep=3)
    model.rollback_to(KEYS - 8)  # and back into it
    model.extend(random_tokens(source, 2), keep=2)
    model.extend(random_tokens(source, SIZES[-1] + 1), keep=SIZES[-1] + 1)
    model.extend(random_tokens(source, MAX_LENGTH - model.length), keep=1)


def test_each_shape_is_recorded_once_until_the_memory_moves() -> None:
    counter = Counter()
    model = StaticModel(build("llama"), new_capture=counter)
    tokens = random_tokens(random.Random(0), KEYS - 40)
    model.extend(model.start(tokens), keep=1)
    assert counter.captures == 0  # a prompt is not recorded
    for count in (1, 3, 4, 1, 2):
        model.extend(tokens[:count], keep=count)
    assert (counter.captures, counter.pools) == (3, 1)  # of 1, 4 and 2 rows
    model.extend(model.start(tokens), keep=1)
    model.extend([5], keep=1)
    assert (counter.captures, counter.pools) == (3, 1)  # another text, the same memory
    for _ in range(15):
        model.extend(tokens[:4], keep=4)
    assert counter.pools == 2  # of the larger memory
    assert model.length + len(SIZES) < 2 * KEYS


def test_what_was_returned_is_not_overwritten_by_the_next_pass() -> None:
    model = static(build("llama"))
    model.extend(model.start([3, 4]), keep=1)
    first = model.extend([5], keep=1)
    copy = first.clone()
    model.extend([6], keep=1)
    assert torch.equal(first, copy)


@pytest.mark.parametrize("unseen", [1, 2, 3, 5, SIZES[-1] + 8])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_draft_at_once_is_the_draft_token_by_token(unseen: int, count: int) -> None:
    ours, theirs = static(build("qwen3")), NativeModel(build("qwen3"))
    source = random.Random(unseen)
    for held in (0, 9):
        for _ in range(4):
            tokens = random_tokens(source, held + unseen)
            for model in (ours, theirs):
                model.start(tokens)
                if held:
                    model.extend(tokens[:held], keep=1)
            drafted, margins = ours.draft(tokens[held:], count)
            theirs_drafted, theirs_margins = theirs.draft(tokens[held:], count)
            assert drafted == theirs_drafted
            assert margins == pytest.approx(theirs_margins, abs=1e-4)
            assert ours.length == theirs.length == len(tokens) + count - 1
            text = [*tokens, *drafted]
            ours.rollback_to(len(text) - 2)
            after = ours.extend(text[ours.length :], keep=1)
            assert_same_logits(after, full_logits(build("qwen3"), text)[-1:])


@pytest.mark.parametrize("vocab_size", [VOCAB - 10, VOCAB + 10])
def test_a_drafter_gets_the_targets_columns(vocab_size: int) -> None:
    ours = static(build("llama"), vocab_size=vocab_size)
    theirs = NativeModel(build("llama"), vocab_size=vocab_size)
    for model in (ours, theirs):
        model.extend(model.start([3, 4]), keep=1)
    tokens = [3, vocab_size - 1]
    assert_same_logits(ours.extend(tokens, keep=2), theirs.extend(tokens, keep=2))
    drafted, _ = ours.draft([7], 30)
    assert drafted == theirs.draft([7], 30)[0]
    assert max(drafted) < min(VOCAB, vocab_size)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_invariant_logits_do_not_depend_on_the_size_of_the_pass(precision: str) -> None:
    source = random.Random(0)
    tokens = random_tokens(source, 90)
    model = static(build("llama") if precision == "float32" else half("llama"), invariant=True)
    model.extend(model.start(tokens[:9]), keep=1)
    plain = [model.extend([t], keep=1)[0] for t in tokens[9:]]
    model.rollback_to(9)
    while model.length < len(tokens):
        begin = model.length
        count = min(source.randint(1, ROWS + 3), len(tokens) - begin)
        for i, row in enumerate(model.extend(tokens[begin : begin + count], keep=count)):
            assert torch.equal(row, plain[begin - 9 + i])
        model.rollback_to(begin + source.randint(1, count))


def test_after_beams_and_without_a_cache_it_says_the_same() -> None:
    inner = static(build("llama"))
    model = Witness(build("llama"), inner)
    model.extend(model.start([5, 6, 7]), keep=1)
    model.extend([8], keep=1)
    inner.extend_beams([0, 0, 0], [1, 2, 3])
    for _ in range(2):
        model.extend(model.start([9, 8]), keep=1)
        model.extend([8, 9], keep=2)
    uncached = Witness(build("llama"), Recomputing(static(build("llama"))))
    uncached.extend(uncached.start([5, 6, 7]), keep=1)
    uncached.extend([8, 9], keep=2)


def test_a_capture_that_fails_is_said_once_and_done_without() -> None:
    def fail(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model = StaticModel(build("llama"), new_capture=lambda: fail)
    witness = Witness(build("llama"), model)
    witness.extend(witness.start([3, 4]), keep=1)
    with pytest.warns(RuntimeWarning, match="no CUDA graphs, passes run eagerly: operation not"):
        witness.extend([5], keep=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        witness.extend([6, 7], keep=2)
        witness.extend(random_tokens(random.Random(0), KEYS), keep=1)  # the memory moves
        witness.extend([5], keep=1)


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
    model.extend(model.start([3, 4]), keep=1)
    with pytest.raises(ModelError, match=r"\(No working C\+\+ compiler found\); leave --comp"):
        model.extend([5], keep=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the compiler's own modules warn of
def test_compiled_logits_are_those_of_transformers() -> None:
    model = Witness(build("llama"), StaticModel(build("llama"), compiled=True))
    model.extend(model.start([3, 4]), keep=1)
    for tokens in ([5], [6], [7, 8]):
        model.extend(tokens, keep=len(tokens))


# --- on a device ----------------------------------------------------------------------------------


def on_gpu(member: str, dtype: torch.dtype = torch.float32) -> Any:
    import copy

    return copy.deepcopy(network(member)).to("cuda", dtype)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("member", FAMILY)
def test_gpu_graphs_say_what_eager_passes_say(member: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    ours, theirs = StaticModel(on_gpu(member)), NativeModel(on_gpu(member))
    prove_equal(ours, on_gpu(member))
    source = random.Random(member)
    for prompt_length in (1, 7, KEYS - 5):
        tokens = random_tokens(source, prompt_length)
        for model in (ours, theirs):
            model.start(tokens)
        for count in (prompt_length, 1, 3, 8, 2, 5, 1):
            new = tokens if count == prompt_length else random_tokens(source, count)
            kept = min(len(new), 8)
            assert_same_logits(ours.extend(new, keep=kept), theirs.extend(new, keep=kept))
            for model in (ours, theirs):
                model.rollback_to(max(1, ours.length - count // 2))
        assert ours.draft([5], 6)[0] == theirs.draft([5], 6)[0]


@pytest.mark.gpu
@needs_gpu
def test_gpu_passes_are_really_captured() -> None:
    model = StaticModel(on_gpu("llama", torch.bfloat16))
    model.extend(model.start([3, 4, 5]), keep=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.extend([6], keep=1)
        model.extend([6, 7, 8], keep=3)
        model.draft([9, 8], 5)
    assert len(model._recorded) == 3


@pytest.mark.gpu
@needs_gpu
def test_gpu_invariance_is_to_the_bit_in_bfloat16() -> None:
    model = StaticModel(on_gpu("llama", torch.bfloat16), invariant=True)
    tokens = random_tokens(random.Random(0), 60)
    model.extend(model.start(tokens[:9]), keep=1)
    plain = torch.cat([model.extend([t], keep=1) for t in tokens[9:]])
    for count in (2, 5, ROWS):
        model.rollback_to(9)
        parts = torch.tensor(tokens[9:]).split(count)
        again = torch.cat([model.extend(part.tolist(), keep=len(part)) for part in parts])
        assert torch.equal(again, plain)
