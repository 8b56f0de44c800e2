"""The network that a recipe distils: its weights, and what it writes itself.

A drafter is judged on its target's text, not on people's, so part of what it learns from are the
target's own continuations of training documents (Kim and Rush, 2016; Zhou et al., 2024).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationMixin,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.files import PATH_LIMIT, append_whole, lines_of, read_text, writing
from foredraft.zoo.corpus import Document, Tokens
from foredraft.zoo.networks import check_finite
from foredraft.zoo.run import Run, model_folder
from foredraft.zoo.tokenizer import chat_document, ids_of

TOGETHER = 256  # documents continued in one batch
BEGINNING = (4, 48)  # tokens of a document without a prompt that the teacher is given
TAUGHT_TOKENS = 128
TEMPERATURES = (0.0, 0.8)  # in turn; 0 is greedy


def teacher_weights(name_or_path: str) -> Path:
    """Return the file of a teacher's weights.

    Raises:
        ConfigError: there is no such model, or it has no weights yet.
    """
    file = model_folder(name_or_path) / "model.safetensors"
    if not file.is_file():
        shown = quoted(str(file.parent), PATH_LIMIT)
        raise ConfigError(f"the teacher {shown} has no weights yet; train it first")
    return file


def load_teacher(run: Run, dtype: torch.dtype = torch.float32) -> PreTrainedModel | None:
    """Return the network that a run distils, frozen; None if it distils none.

    Raises:
        ConfigError: it has no weights yet.
        ModelError: it does not load, or its weights are not finite.
    """
    if run.recipe.distillation is None:
        return None
    folder = teacher_weights(run.recipe.distillation.teacher).parent
    kind = AutoModelForSeq2SeqLM if run.recipe.is_seq2seq else AutoModelForCausalLM
    with foreign(f"loading the teacher {quoted(str(folder), PATH_LIMIT)}", "give another"):
        teacher: PreTrainedModel = kind.from_pretrained(folder, dtype=dtype)
    check_finite(teacher, f"the teacher {quoted(str(folder), PATH_LIMIT)}", "train it again")
    torch.nn.Module.to(teacher, run.device).eval().requires_grad_(False)
    return teacher


def continuations(
    run: Run,
    tokenizer: PreTrainedTokenizerFast,
    documents: list[list[Document]],
    num_tokens: int,
    report: Callable[[int], None],
) -> list[Tokens]:
    """Return training documents as the teacher continues them, `num_tokens` in all or a few more.

    The beginnings count; sources are drawn by their shares. Every batch is written into the run
    folder when it is done, and then reported; a second call goes on from there.
    """
    path = run.run_dir / "continued.jsonl"
    batches = _written(path)
    done = sum(len(ids) for batch in batches for ids in batch)
    teacher = load_teacher(run, torch.bfloat16) if done < num_tokens else None
    shares = [s.share if d else 0.0 for s, d in zip(run.recipe.data, documents, strict=True)]
    while teacher is not None and done < num_tokens:
        seed = run.recipe.seed * 1_000_003 + len(batches)
        rng = random.Random(seed)
        [source] = rng.choices(documents, shares)
        given = [_beginning(rng.choice(source), tokenizer, rng) for _ in range(TOGETHER)]
        temperature = TEMPERATURES[len(batches) % len(TEMPERATURES)]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            batches.append(_continued(teacher, tokenizer, given, temperature))
        done += sum(map(len, batches[-1]))
        line = json.dumps(batches[-1], separators=(",", ":")) + "\n"
        with writing(path, "what is written stays; make room, then the same command continues"):
            append_whole(path, line.encode())
        report(done)
    return [np.array(ids, dtype=np.uint16) for batch in batches for ids in batch]


def _written(path: Path) -> list[list[list[int]]]:
    """Return the batches in a file; a line that an interrupt has torn is none."""
    if not path.is_file():
        return []
    with foreign(f"reading {quoted(str(path), PATH_LIMIT)}", "delete it", ConfigError):
        return [json.loads(line) for line in lines_of(read_text(path, torn=True))]


def _beginning(
    document: Document, tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> list[int]:
    """Return what the teacher is given: a question whole, of other text the first tokens."""
    if document.prompt:
        text = chat_document(document.prompt, "") if rng.random() < 0.5 else document.prompt
        return ids_of(tokenizer, text)[: 4 * BEGINNING[1]]
    return ids_of(tokenizer, document.text[:1000])[: rng.randint(*BEGINNING)]


@torch.inference_mode()
def _continued(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    given: list[list[int]],
    temperature: float,
) -> list[list[int]]:
    """Return every beginning with what the teacher writes behind it, up to its end token."""
    assert isinstance(teacher, GenerationMixin)
    width = max(map(len, given))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (width - len(g)) + g for g in given], device=teacher.device)
    mask = torch.tensor([[0] * (width - len(g)) + [1] * len(g) for g in given])
    drawn = {"temperature": temperature, "top_k": 0} if temperature else {}
    out = teacher.generate(
        ids,
        attention_mask=mask.to(teacher.device),
        max_new_tokens=min(TAUGHT_TOKENS, teacher.config.max_position_embeddings - width),
        pad_token_id=pad,
        eos_token_id=eos,
        do_sample=bool(temperature),
        **drawn,
    )
    texts = []
    for beginning, row in zip(given, out[:, width:].tolist(), strict=True):
        end = row.index(eos) + 1 if eos in row else len(row)
        texts.append(beginning + row[:end])
    return texts
