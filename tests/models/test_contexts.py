"""Several texts in one network: each is what it would be alone, whatever computes it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from foredraft.errors import ContextOverflow, RequestError, RollbackUnsupported
from foredraft.loading.runtime import can_fuse
from foredraft.models import (
    Context,
    DecoderOnlyModel,
    EncoderDecoderModel,
    Feed,
    Network,
    Recomputing,
    Seq2SeqModel,
    TableModel,
    Wrapper,
)
from foredraft.native.fused import FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel
from tests.doubles import random_table
from tests.native.test_seq2seq import by_c, by_torch
from tests.tape import record
from tests.tiny import VOCAB, assert_same_logits, build

KINDS: dict[str, Callable[[], Network]] = {
    "transformers": lambda: DecoderOnlyModel(build("llama")),
    "sliding": lambda: DecoderOnlyModel(build("mistral_sliding")),
    "native": lambda: NativeModel(build("llama")),
    "invariant": lambda: NativeModel(build("llama"), invariant=True),
    "static": lambda: StaticModel(build("llama"), new_capture=lambda: record),
    "fused": lambda: FusedModel(build("llama")),
    "table": lambda: TableModel(random_table(VOCAB, seed=0)),
    "native_seq2seq": lambda: by_torch(build("t5")),
    "compiled_seq2seq": lambda: by_c(build("t5")),
    "encoder_decoder": lambda: EncoderDecoderModel(build("bart")),
    "wrapper": lambda: Wrapper(NativeModel(build("llama"))),
    "recomputing": lambda: Recomputing(DecoderOnlyModel(build("llama"))),
    "recomputing_table": lambda: Recomputing(TableModel(random_table(VOCAB, seed=0))),
    "recomputing_encoder_decoder": lambda: Recomputing(EncoderDecoderModel(build("bart"))),
    "recomputing_native_seq2seq": lambda: Recomputing(by_torch(build("t5"))),
}
needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
every_kind = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=needs_a_compiler if kind in ("fused", "compiled_seq2seq") else ())
        for kind in KINDS
    ],
)
PROMPTS = ([9, 8, 7], [20, 21, 22, 23, 24, 25, 26])

Move = Callable[[Context], Tensor | None]


def moves_of(number: int) -> list[Move]:
    """Return what befalls a text after its first pass."""
    source, moves = random.Random(number), list[Move]()
    for count in (1, 3, 2, 1, 4, 1, 2):
        tokens, keep = [source.randrange(8, VOCAB) for _ in range(count)], source.randint(1, count)
        back = source.randint(0, 2)
        moves.append(lambda text, tokens=tokens, keep=keep: text.extend(tokens, keep))  # type: ignore[misc]
        moves.append(lambda text, back=back: text.rollback_to(text.length - back))  # type: ignore[misc]
    moves.append(lambda text: torch.tensor(text.draft([number + 8], 3).tokens))
    return moves


def lives(model: Network, number: int) -> tuple[Context, list[Move]]:
    """Return a new text and all that befalls it."""
    return model.open(PROMPTS[number]), [lambda text: text.extend(text.begin), *moves_of(number)]


@every_kind
def test_a_context_that_is_reopened_keeps_what_both_texts_begin_with(kind: str) -> None:
    model = KINDS[kind]()
    text = model.open(PROMPTS[1])
    held = [*text.begin, 9, 10, 11]
    text.extend(held)
    alone = not isinstance(getattr(model, "inner", model), Seq2SeqModel)
    for prompt, shared in (([*held, 12], 10), (held[:4], 3), ([1, 2, 3], 0)):
        again = text.reopen(prompt, held)
        assert again.length == (shared if alone else 0)
        assert (again is text) is alone
        expected = KINDS[kind]().open(prompt)
        new = again.begin[again.length :]
        assert_same_logits(again.extend(new), expected.extend(expected.begin))
        text, held = again, list(again.begin)


def test_a_context_that_cannot_be_reopened_stays_as_it_was() -> None:
    model = TableModel(random_table(VOCAB, seed=0), max_length=8)
    text = model.open([1, 2, 3])
    text.extend([1, 2, 3])
    with pytest.raises(ContextOverflow, match="has 9 tokens but the model has 8 positions"):
        text.reopen([1] * 9, [1, 2, 3])
    assert (text.length, text.begin) == (3, [1, 2, 3])
    text.close()
    with pytest.raises(RequestError, match="closed"):
        text.reopen([1, 2], [])


@every_kind
def test_two_texts_in_turn_are_each_as_alone(kind: str) -> None:
    alone = []
    for number in range(2):
        text, moves = lives(KINDS[kind](), number)
        alone.append([move(text) for move in moves])
    model = KINDS[kind]()
    (first, moves), (second, others) = lives(model, 0), lives(model, 1)
    for step, pair in enumerate(zip(moves, others, strict=True)):
        for text, move, expected in zip((first, second), pair, alone, strict=True):
            said = move(text)
            before = expected[step]
            assert (said is None) == (before is None)
            if said is not None and before is not None:
                assert_same_logits(said, before)


@every_kind
def test_texts_that_share_a_pass_are_each_as_alone(kind: str) -> None:
    tokens = ([30], [31, 32, 33], [34, 35])
    model, reference = KINDS[kind](), KINDS[kind]()
    texts, others = ([m.open(p) for p in (*PROMPTS, [11])] for m in (model, reference))
    model.forward([Feed(text, text.begin) for text in texts])
    for other in others:
        other.extend(other.begin)
    for _ in range(2):
        feeds = [Feed(c, t, len(t)) for c, t in zip(texts, tokens, strict=True)]
        outputs = model.forward(feeds)
        for output, other, fed in zip(outputs, others, tokens, strict=True):
            assert output.logits.shape == (len(fed), VOCAB)
            assert_same_logits(output.logits, other.extend(fed, keep=len(fed)))
    drafts = model.draft([Feed(text, [36]) for text in texts], 3)
    expected = [other.draft([36], 3) for other in others]
    assert [d.tokens for d in drafts] == [d.tokens for d in expected]
    for ours, theirs in zip(drafts, expected, strict=True):
        assert ours.margins == pytest.approx(theirs.margins, abs=1e-4)
    assert [text.length for text in texts] == [other.length for other in others]


@pytest.mark.parametrize("has_read", [False, True], ids=["unread", "read"])
@every_kind
def test_a_fork_equals_a_text_fed_alone_and_so_does_its_parent(kind: str, has_read: bool) -> None:
    model, reference = KINDS[kind](), KINDS[kind]()
    parent = model.open(PROMPTS[0])
    begin = list(parent.begin)
    held = [*begin, 30, 31] if has_read else []
    if held:
        parent.extend(held)
    fork = parent.fork()
    assert fork.length == parent.length == len(held)
    assert (fork.begin, fork.prompt) == (parent.begin, parent.prompt)
    texts, tokens = (parent, fork), (list(held), list(held))
    later = ([40], [41, 42, 43]), ([44, 45], [46]), ([47], [48])
    for step in later if has_read else ((begin, begin), *later):
        for text, known, new in zip(texts, tokens, step, strict=True):
            known += new
            alone = reference.open(PROMPTS[0]).extend(known, keep=len(new))
            assert_same_logits(text.extend(new, keep=len(new)), alone)
    parent.rollback_to(1)
    parent.extend([50, 51, 52, 53, 54, 55])
    parent.close()
    model.open(PROMPTS[1]).extend([50] * 9)  # in the memory that was given back
    alone = reference.open(PROMPTS[0]).extend([*tokens[1], 60])
    assert_same_logits(fork.extend([60]), alone)


# --- refusals -------------------------------------------------------------------------------------


@every_kind
def test_what_no_pass_takes_is_refused_and_nothing_is_fed(kind: str) -> None:
    model = KINDS[kind]()
    text, other = model.open(PROMPTS[0]), model.open(PROMPTS[1])
    stranger = KINDS[kind]().open(PROMPTS[0])
    for each in (text, other):
        each.extend(each.begin)
    held = text.length, other.length
    for feeds in ([Feed(text, [9]), Feed(text, [9])], [Feed(other, [9]), Feed(stranger, [9])]):
        for use in (model.forward, lambda feeds: model.draft(feeds, 2)):
            with pytest.raises(RequestError, match="contexts of its own network, each once"):
                use(feeds)
    for keep in (-1, 0, 3):
        with pytest.raises(RequestError, match=f"keep is {keep}; legal: 1 … 2, the tokens"):
            text.extend([9, 10], keep)
    with pytest.raises(RequestError, match="keep is 1; legal: 1 … 0"):
        text.extend([])
    assert (text.length, other.length, stranger.length) == (*held, 0)


@every_kind
def test_nothing_but_what_is_held_can_be_forgotten(kind: str) -> None:
    text = KINDS[kind]().open(PROMPTS[0])
    text.extend([*text.begin, 9])
    held = text.length
    for length in (-1, held + 1):
        with pytest.raises(RollbackUnsupported, match=rf"back to {length} tokens; .* 0 … {held}"):
            text.rollback_to(length)
    text.rollback_to(held)
    assert text.length == held


@every_kind
def test_a_closed_text_is_refused_and_cannot_touch_the_next(kind: str) -> None:
    model = KINDS[kind]()
    closed = model.open(PROMPTS[0])
    closed.extend(closed.begin)
    assert closed.is_open
    closed.close()
    closed.close()
    assert not closed.is_open
    text = model.open(PROMPTS[1])
    text.extend(text.begin)
    held = text.length
    for use in (
        lambda: closed.extend([9]),
        lambda: closed.draft([9], 2),
        closed.fork,
        lambda: closed.rollback_to(0),
        lambda: model.forward([Feed(text, [9]), Feed(closed, [9])]),
    ):
        with pytest.raises(RequestError, match="this context was closed; open another one"):
            use()
    assert text.length == held
    alone = KINDS[kind]().open(PROMPTS[1]).extend([*text.begin, 30])
    assert_same_logits(text.extend([30]), alone)


@pytest.mark.parametrize(
    "kind", ["native", "static", "transformers", "encoder_decoder", "native_seq2seq"]
)
def test_the_memory_of_a_closed_text_serves_the_next(kind: str) -> None:
    model = KINDS[kind]()
    for network in (model, Wrapper(model), Recomputing(model)):
        text = network.open(PROMPTS[0])
        text.extend(text.begin)
        inner = text if network is model else text.memory.context
        memory = inner.memory
        text.close()
        assert model.open(PROMPTS[1]).memory is memory
