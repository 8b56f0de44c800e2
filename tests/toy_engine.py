"""A toy engine: two tables and a small tokenizer that tell one story and sing one song.

Every row is all but certain, so output, drafts and acceptance can be counted by hand, and a sampler
that cuts the tail draws what greedy takes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.models import TableModel
from foredraft.zoo.tokenizer import EOS, PAD, train_tokenizer

PROMPT = "Once upon a time"
STORY = " there was one little fox who lived by the sea and loved his garden."  # then the end token
RETOLD = f"{PROMPT}{STORY} {PROMPT}"  # a prompt in which n-grams find the whole story
SINGER = "Sing"
SLIP = (" little", " sea")  # after the one, the drafter says the other; the target says " fox"
CERTAINTY = 0.95  # of the drafter in the token it says

Rows = dict[tuple[int, ...], list[float]]


@cache
def tokenizer() -> Any:
    """Return a tokenizer in which each word of the story and the song is one token."""
    return train_tokenizer([RETOLD, SINGER + song(6)] * 3, 400)


def song(num_tokens: int) -> str:
    """Return the first tokens of what follows `SINGER`; it has no end."""
    return "".join(f" {('la', 'di', 'da')[i % 3]}" for i in range(num_tokens))


def token(text: str) -> int:
    """Return the one token that `text` is."""
    (only,) = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return int(only)


def _rows(certainty: float, slip: tuple[str, str] | None) -> Rows:
    """Last token → row. Whatever is not known is followed by the story."""
    story = tokenizer()(STORY, add_special_tokens=False)["input_ids"]
    following = dict(zip(story, [*story[1:], token(EOS)], strict=True))
    following |= {token(a): token(b) for a, b in (("Sing", " la"), (" la", " di"))}
    following |= {token(" di"): token(" da"), token(" da"): token(" la")}
    if slip:
        following[token(slip[0])] = token(slip[1])
    rows: Rows = {(last,): _row(said, certainty) for last, said in following.items()}
    rows[()] = _row(story[0], certainty)
    return rows


def _row(said: int, certainty: float) -> list[float]:
    row = [0.0] * len(tokenizer())
    row[token(PAD)] = 1 - certainty
    row[said] = certainty
    return row


def toy_target(max_length: int = 200) -> TableModel:
    """Return the model that tells the story and sings the song without fail."""
    return _model(_rows(1.0, None), max_length)


def toy_drafter(max_length: int = 200) -> TableModel:
    """Return the model that makes the one `SLIP`, and is never quite certain."""
    return _model(_rows(CERTAINTY, SLIP), max_length)


def _model(rows: Rows, max_length: int) -> TableModel:
    return TableModel(lambda tokens: rows.get(tokens[-1:], rows[()]), max_length=max_length)


def toy_engine(
    target: TableModel | None = None, drafter: TableModel | None = None, *, alone: bool = False
) -> Engine:
    """Return an engine of the two tables; `alone` leaves out the drafter."""
    loaded = [
        LoadedModel(name, model, tokenizer(), (token(EOS),))
        for name, model in (
            ("toy-target", target or toy_target()),
            ("toy-drafter", drafter or toy_drafter()),
        )
    ]
    return Engine(loaded[0]) if alone else Engine(*loaded)
