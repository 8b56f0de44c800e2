"""Documents → one stream of tokens → batches, for a causal language model.

The run folder keeps the streams (`train.bin`, `heldout.bin`), so that a resumed run reads on where
it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from foredraft.errors import ConfigError
from foredraft.files import write_whole, writing
from foredraft.zoo.corpus import HELD_OUT_PERCENT, Document, Tokens, split, token_stream
from foredraft.zoo.recipe import TrainingRecipe
from foredraft.zoo.run import Batch, Run
from foredraft.zoo.teacher import continuations
from foredraft.zoo.tokenizer import chat_document

HELD_OUT_TOKENS = 65_536
HELD_OUT_ROW = 256  # tokens of a held-out sequence


class StreamBatches:
    """The batches of a run, cut from its streams; writes them first, once.

    `wrote` is called with the number of tokens that the teacher has written, if it writes any.
    """

    def __init__(
        self,
        run: Run,
        tokenizer: PreTrainedTokenizerFast,
        wrote: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._training = t = run.recipe.training
        # The held-out one first: that there is none is noticed before a teacher writes for hours.
        sizes = {"heldout.bin": HELD_OUT_TOKENS, "train.bin": t.steps * t.tokens_per_step + 1}
        for name, num_tokens in sizes.items():
            path = run.run_dir / name
            if not path.is_file() or path.stat().st_size != 2 * num_tokens:  # absent, or cut off
                documents = _documents(run, tokenizer, wrote, held_out=name == "heldout.bin")
                stream = token_stream(*documents, num_tokens, run.recipe.seed)
                with writing(path, "make room, then the same command continues"):
                    write_whole(path, stream.data.cast("B"))
        self._stream = np.memmap(run.run_dir / "train.bin", dtype=np.uint16, mode="r")
        self._held_out = np.fromfile(run.run_dir / "heldout.bin", dtype=np.uint16)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        return batch_at(self._stream, step, self._training)

    def held_out(self) -> Iterator[Batch]:
        """Yield held-out batches."""
        row = HELD_OUT_ROW + 1
        stream = self._held_out.astype(np.int64)
        rows = torch.from_numpy(stream[: len(stream) // row * row]).view(-1, row)
        for ids in rows.split(16):
            yield Batch({"input_ids": ids[:, :-1]}, ids[:, 1:])


def batch_at(stream: Tokens, step: int, training: TrainingRecipe) -> Batch:
    """Return the batch of a step: labels are the inputs, one token on."""
    long = step >= training.steps * (1 - training.final_share)
    time_ = training.final_sequence_length if long else training.sequence_length
    start = step * training.tokens_per_step
    rows = training.tokens_per_step // time_
    window = np.stack(
        [stream[start + r * time_ : start + (r + 1) * time_ + 1] for r in range(rows)]
    )
    ids = torch.from_numpy(window.astype(np.int64))  # [batch, time + 1]
    return Batch({"input_ids": ids[:, :-1]}, ids[:, 1:])


def _documents(
    run: Run, tokenizer: PreTrainedTokenizerFast, wrote: Callable[[int], None], *, held_out: bool
) -> tuple[list[list[Tokens]], list[float]]:
    """Return the documents of a split as tokens, by source, and the shares of the sources."""
    documents = [split(s, run.data_dir, held_out=held_out) for s in run.recipe.data]
    encoded = [
        _encode(of_source, source.chat_share, tokenizer)
        for source, of_source in zip(run.recipe.data, documents, strict=True)
    ]
    present = [i for i, docs in enumerate(encoded) if docs]
    if not present:
        raise too_little(held_out=held_out)
    streams, shares = [encoded[i] for i in present], [run.recipe.data[i].share for i in present]
    distillation = run.recipe.distillation
    if distillation and distillation.continued_tokens and not held_out:
        wanted, share = distillation.continued_tokens, distillation.continued_share
        streams.append(continuations(run, tokenizer, documents, wanted, wrote))
        shares.append(sum(shares) * share / (1 - share))
    return streams, shares


def too_little(*, held_out: bool) -> ConfigError:
    """Return the error of a split without a document."""
    kind = "held-out" if held_out else "training"
    return ConfigError(
        f"the data holds no {kind} document; {HELD_OUT_PERCENT} of 100 documents are held out, "
        "so give more text"
    )


def _encode(
    documents: list[Document], chat_share: float, tokenizer: PreTrainedTokenizerFast
) -> list[Tokens]:
    every = round(1 / chat_share) if chat_share else 0
    texts = [
        _as_chat(d) if every and i % every == 0 and d.prompt else d.text
        for i, d in enumerate(documents)
    ]
    ids = tokenizer(texts, add_special_tokens=True)["input_ids"] if texts else []
    return [np.array([*i, tokenizer.eos_token_id], dtype=np.uint16) for i in ids]


def _as_chat(document: Document) -> str:
    return chat_document(document.prompt, document.answer)
