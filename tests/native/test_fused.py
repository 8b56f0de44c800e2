"""The compiled pass: every layout of weights, bit-equal passes, machines without a compiler."""

from __future__ import annotations

import platform
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.bench.machine import flags
from foredraft.errors import ModelError
from foredraft.loading import runtime
from foredraft.loading.runtime import Runtime, can_fuse
from foredraft.models import Feed, Network
from foredraft.native import compiler, passes, structures
from foredraft.native.blocks import KINDS
from foredraft.native.compiler import load_library
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel, prove_equal
from foredraft.native.passes import PASS_ROWS
from foredraft.native.structures import SOURCE
from tests.native.test_native import FAMILY, every_member, half, network
from tests.texts import first_pass
from tests.tiny import MAX_LENGTH, VOCAB, assert_same_logits, build, full_logits, random_tokens

# What a processor may lack, as flags of the compiler; "plain" is what every one has.
FLAGS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "tiles": ("-DNO_TILES",),
    "integers": ("-DNO_TILES", "-mno-avx512vnni", "-mno-avx512bf16"),
    "wide": ("-DNO_TILES", "-mno-avx512f", "-mno-avxvnni"),
    "plain": ("-DNO_TILES", "-mno-avx512f", "-mno-avx2", "-mno-avx", "-mno-fma", "-mno-f16c"),
}
QUICKLY = "-O1"  # compiled in a quarter of the time
STAND_IN = Path(__file__).with_name("tiles.h")
TILES = (
    *("-include", str(STAND_IN), "-D__AMX_BF16__"),
    f"-DEDITION={zlib.crc32(STAND_IN.read_bytes())}",  # flags tell libraries apart, not this file
)


def processors() -> dict[str, tuple[str, ...]]:
    """Return those that this one can stand for; where it lacks tiles alone, C is them."""
    if platform.machine() != "x86_64":
        return {"nothing": ()}
    has = set(flags().split())
    known = {name: (*told, QUICKLY) if told else () for name, told in FLAGS.items()}
    if "amx_bf16" not in has:
        del known["tiles"]  # it lacks nothing
    if {"avx512_bf16", "avx512_vnni"} <= has and "amx_bf16" not in has:
        known["no tiles but these"] = (*TILES, QUICKLY)
    if "avx512f" not in has:
        del known["integers"], known["wide"]
    return known


LACKS = processors()
needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")


@pytest.fixture(params=LACKS)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compile for a processor that lacks something."""
    found = structures.with_types(load_library(SOURCE, *LACKS[request.param]))
    monkeypatch.setattr(passes, "library", lambda: found)
    return str(request.param)


def wide(seed: int = 0, **changes: Any) -> Any:
    """Return a network whose sizes are no multiples of anything a processor likes."""
    sizes = {"hidden_size": 84, "intermediate_size": 150, "head_dim": 22} | changes
    return build("qwen3", seed, **sizes)


def rounded(model: Any) -> Any:
    """Return the network in float32, its weights such that bfloat16 holds them."""
    import copy

    return copy.deepcopy(model).bfloat16().float()


@needs_a_compiler
@pytest.mark.parametrize("precision", ["single", "half"])
@every_member
def test_every_layout_of_the_weights_gives_the_logits_of_transformers(
    member: str, precision: str, processor: str
) -> None:
    check_layout(network(member), precision, processor)


@needs_a_compiler
@pytest.mark.parametrize("precision", ["single", "half"])
def test_odd_sizes_are_padded(precision: str, processor: str) -> None:
    check_layout(wide(), precision, processor)


def check_layout(reference: Any, precision: str, processor: str) -> None:
    """Raise unless the layout is the one expected, and its logits those of transformers."""
    reference = rounded(reference) if precision == "half" else reference
    model = FusedModel(reference)
    kind = "BF16" if precision == "half" else "F32"
    assert KINDS[model._passes.laid.structure.head.kind] == kind
    tiled = processor in ("nothing", "no tiles but these")
    assert tiled or not passes.library().may_use_tiles()
    tokens = random_tokens(random.Random(processor), PASS_ROWS + 9)
    text = model.open(tokens)
    expected = full_logits(reference, tokens)
    begin = 0
    for count in (PASS_ROWS + 1, 1, 2, 5):
        logits = text.extend(tokens[begin : begin + count], keep=count)
        assert_same_logits(logits, expected[begin : begin + count])
        begin += count


@needs_a_compiler
@pytest.mark.parametrize("precision", ["single", "half"])
@pytest.mark.parametrize("member", ["llama", "llama_biased", "qwen3"])
def test_a_tokens_logits_are_the_same_to_the_bit_whoever_shares_its_pass(
    member: str, precision: str, processor: str
) -> None:
    reference = wide() if member == "qwen3" else network(member)
    model = FusedModel(rounded(reference) if precision == "half" else reference)
    check_bits(model, random.Random(member), 150)


def check_bits(model: FusedModel, source: random.Random, length: int) -> None:
    """Raise unless a token's logits are the same whoever shares its pass, with 1, 2, 5 threads."""
    model.threads = 5  # models this small would take one
    tokens = random_tokens(source, length)
    text, other = model.open(tokens), model.open(tokens)
    whole = text.extend(tokens, keep=len(tokens))
    for threads in threads_in_turn():
        text.rollback_to(0)
        while text.length < len(tokens):
            begin = text.length
            count = min(source.randint(1, 20), len(tokens) - begin)
            beside = random_tokens(source, source.randint(1, 9))
            feed = Feed(text, tokens[begin : begin + count], count)
            feeds = [feed, Feed(other, beside)][:: source.choice((1, -1))]
            feeds = [feed] if source.random() < 0.3 else feeds
            rows = model.forward(feeds)[feeds.index(feed)].logits
            assert torch.equal(rows, whole[begin : begin + count]), threads
            text.rollback_to(begin + source.randint(1, count))
            other.rollback_to(source.randint(0, other.length))


def threads_in_turn() -> Iterator[int]:
    """Yield numbers of threads, each in force while it is used."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            yield threads
    finally:
        torch.set_num_threads(before)


@needs_a_compiler
@pytest.mark.parametrize("vocab_size", [VOCAB - 10, VOCAB, VOCAB + 10])
def test_a_draft_in_one_call_is_the_draft_token_by_token(vocab_size: int, processor: str) -> None:
    source = random.Random(vocab_size)
    model = FusedModel(build("llama"), vocab_size=vocab_size)
    for length in (1, 3, PASS_ROWS + 2):
        tokens = [*random_tokens(source, length - 1), vocab_size - 1]
        text, alone = model.open(tokens), model.open(tokens)
        [one_by_one] = Network.draft(model, [Feed(alone, tokens)], 6)
        drafted = text.draft(tokens, 6)
        assert drafted.tokens == one_by_one.tokens
        assert drafted.margins == pytest.approx(one_by_one.margins, abs=1e-5)
        assert text.length == alone.length == length + 5
        text.rollback_to(length)
        assert text.draft(one_by_one.tokens[:1], 3).tokens == one_by_one.tokens[1:4]


@needs_a_compiler
def test_drafts_of_several_texts_are_those_of_each_alone() -> None:
    model, source = FusedModel(build("llama")), random.Random(0)
    for lengths in ((1, 3, 2), (5, PASS_ROWS, 1)):  # in one pass, and in more than one
        texts = [model.open(random_tokens(source, length)) for length in lengths]
        alone = [model.open(text.begin).draft(text.begin, 4) for text in texts]
        together = model.draft([Feed(text, text.begin) for text in texts], 4)
        assert together == alone
        assert [text.length for text in texts] == [length + 3 for length in lengths]


@needs_a_compiler
def test_a_draft_may_outgrow_the_memory() -> None:
    model = FusedModel(build("llama"))
    tokens = random_tokens(random.Random(0), 254)
    [one_by_one] = Network.draft(model, [Feed(model.open(tokens), tokens)], 6)
    fresh = FusedModel(build("llama"))
    assert fresh.open(tokens).draft(tokens, 6).tokens == one_by_one.tokens


@needs_a_compiler
def test_a_network_in_bfloat16_is_computed_more_exactly_than_transformers_does() -> None:
    tokens = random_tokens(random.Random(0), 30)
    model = FusedModel(half("llama"))
    exact = full_logits(half("llama").float(), tokens)
    assert_same_logits(first_pass(model, tokens, keep=30), exact)
    assert prove_equal(model, half("llama")) <= 1e-4


@needs_a_compiler
def test_several_models_share_the_functions() -> None:
    models = [FusedModel(network(member)) for member in FAMILY]
    tokens = random_tokens(random.Random(0), 12)
    texts = [model.open(tokens) for model in models]
    for text in texts:
        text.extend(tokens)
    for text, member in zip(texts, FAMILY, strict=True):
        expected = full_logits(network(member), [*tokens, 3])[-1:]
        assert_same_logits(text.extend([3]), expected)


@needs_a_compiler
def test_the_last_position_can_be_used() -> None:
    tokens = random_tokens(random.Random(0), MAX_LENGTH)
    text = FusedModel(build("llama")).open(tokens[:-1])
    text.extend(text.begin)
    logits = text.extend(tokens[-1:])
    assert_same_logits(logits, full_logits(build("llama"), tokens)[-1:])


# --- machines without a compiler ------------------------------------------------------------------


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Begin without a compiled function, in this process and on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (structures.library, runtime.can_fuse):
        cached.cache_clear()
    yield
    for cached in (structures.library, runtime.can_fuse):
        cached.cache_clear()


@pytest.mark.usefixtures("nothing_compiled")
def test_without_a_compiler_torch_computes_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler, "COMPILERS", ("no-such-compiler",))
    with pytest.warns(RuntimeWarning, match="slower than it could be: there is no C compiler"):
        model = Runtime("native").adapt(build("llama"))
    assert type(model) is NativeModel
    with pytest.raises(ModelError, match="install gcc or clang"):
        FusedModel(build("llama"))


@pytest.mark.usefixtures("nothing_compiled")
def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'no such header' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(ModelError, match="broken-cc fails: no such header; set CC"):
        FusedModel(build("llama"))


@needs_a_compiler
@pytest.mark.usefixtures("nothing_compiled")
def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (source := tmp_path / "small.c").write_text("int answer(void) { return 42; }")
    load_library(source)
    [built] = (tmp_path / "foredraft").iterdir()
    monkeypatch.setattr(compiler, "_compile", None)
    load_library(source)
    assert [*(tmp_path / "foredraft").iterdir()] == [built]
