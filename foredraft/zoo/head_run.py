"""`foredraft train head`: a target's own answers → a head for it, resumable at any moment.

The run folder holds what it is of (`run.json`), the target's answers with what its layers made of
them, and the newest checkpoint. A second call with the same run folder goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from foredraft.errors import ConfigError
from foredraft.files import only_writer, read_text, writing
from foredraft.loading import LoadedModel
from foredraft.loading.head import fingerprint_of
from foredraft.models import DecoderOnlyModel, Network
from foredraft.models.head_module import HeadModule
from foredraft.ownership import held
from foredraft.text import encode_prompt
from foredraft.zoo.corpus import Document, file_of, split
from foredraft.zoo.head_batches import TEXTS_AT_ONCE, answers_at_once
from foredraft.zoo.head_recipe import HeadRecipe, HeadTraining
from foredraft.zoo.head_texts import (
    TEXTS_A_FILE,
    Answers,
    answers,
    collect,
    files_of,
    mixed,
    read,
    reader_for,
)
from foredraft.zoo.head_training import (
    Kept,
    Learnt,
    Lesson,
    Teacher,
    check_teaches,
    learn,
    lesson_of,
    lessons,
)
from foredraft.zoo.publish import check_place
from foredraft.zoo.record import begin_in, content_of, flat
from foredraft.zoo.training import Progress, build_optimizers, optimise, restore

HEAD_PARTS = ("checkpoint.pt", "texts")
FIRST_TOKENS = (4, 24)  # tokens of a document without a prompt that the target is given
MEASURED_EVERY = 100  # steps
MEASURED_TEXTS = 96  # of the newest file, which is never learnt from


@dataclass(frozen=True)
class HeadRun:
    """One training run of a head.

    Attributes:
        recipe: what decides it.
        recipe_path: where that is written.
        data_dir: where its sources lie.
        run_dir: where the run lies.
        out_dir: where the head will lie.
        target: whose head it is.
        device: where it is trained.
    """

    recipe: HeadRecipe
    recipe_path: Path
    data_dir: Path
    run_dir: Path
    out_dir: Path
    target: LoadedModel
    device: torch.device

    @property
    def name(self) -> str:
        """Of the head."""
        return self.recipe.name

    @property
    def rates(self) -> HeadTraining:
        """What decides how fast weights change."""
        return self.recipe.training

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.run_dir / "checkpoint.pt"

    @property
    def texts_dir(self) -> Path:
        """Where the target's answers lie."""
        return self.run_dir / "texts"

    @property
    def recipe_text(self) -> str:
        """The recipe as it is written."""
        return read_text(self.recipe_path)


@contextmanager
def holding(run: HeadRun) -> Iterator[None]:
    """Check what can be checked, then be the only process that writes into the run folder.

    Raises:
        ConfigError: a place or a file does not allow the run, the folder is of another one, or
            another process is writing it.
    """
    decided = flat(run.recipe) | {"target": fingerprint_of(run.target.model)}
    for number, source in enumerate(run.recipe.data):
        decided[f"data[{number}].path"] = content_of(file_of(source, run.data_dir))
    run.recipe.head.config_for(run.target.model)
    check_teaches(run.target.model)
    for is_held_out in (False, True):
        next(prompts_of(run, 0, held_out=is_held_out))
    check_place(run)
    begin_in(run.run_dir, decided, HEAD_PARTS)
    with only_writer(run.run_dir, "this run"):
        yield


def prompts_of(run: HeadRun, number: int, *, held_out: bool = False) -> Iterator[list[int]]:
    """Yield prompts without end, as the target reads them; others for each number.

    Raises:
        ConfigError: no source has a prompt for this split, or none that is short enough.
    """
    given = [(split(s, run.data_dir, held_out=held_out), s) for s in run.recipe.data]
    found = [[(document, source) for document in docs] for docs, source in given if docs]
    if not found:
        which = "held-out prompts: of each hundred documents two are held out" * held_out
        raise ConfigError(
            f"the recipe's sources hold no {which or 'prompts'}; give --data a folder with more"
        )
    shares, most = [docs[0][1].share for docs in found], sum(map(len, found))
    seed = run.recipe.seed * 1_000_003 + number
    rng, longest, refused = random.Random(seed), run.recipe.texts.prompt_length, 0
    for document, source in mixed(found, shares, seed):
        is_chat = rng.random() < source.chat_share
        tokens = _tokens_of(run, document, rng, is_chat=is_chat)
        fits = 0 < len(tokens) <= min(longest, run.target.model.max_length - 1)
        if fits:
            yield tokens
        refused = 0 if fits else refused + 1
        if refused > most:
            raise ConfigError(
                f"no prompt is of at most {longest} tokens; raise texts.prompt_length"
            )


def _tokens_of(run: HeadRun, document: Document, rng: random.Random, *, is_chat: bool) -> list[int]:
    """Return a prompt, or of text that is none the first tokens."""
    text = document.prompt or document.text
    ids = encode_prompt(
        run.target.tokenizer, text, chat=is_chat, end_tokens=run.target.eos_token_ids
    )
    return ids if is_chat or document.prompt else ids[: rng.randint(*FIRST_TOKENS)]


def collect_texts(run: HeadRun, report: Callable[[int], None]) -> None:
    """Let the target write what the head learns from; reports the tokens that there are."""
    texts, network = run.recipe.texts, run.target.model
    answer, texts_a_file = _answering(network)
    with held(network), torch.inference_mode(), writing(run.texts_dir, "make room"):
        collect(
            run.texts_dir,
            answer,
            partial(prompts_of, run),
            _watched(run),
            num_tokens=texts.tokens,
            length=texts.length,
            ends=run.target.eos_token_ids,
            report=report,
            texts_a_file=texts_a_file,
        )


def _answering(network: Network) -> tuple[Answers, int]:
    """Return how a network answers, and how many prompts before something is written."""
    if isinstance(network, DecoderOnlyModel) and network.device.type != "cpu":
        return partial(answers_at_once, network), TEXTS_AT_ONCE
    return partial(answers, network), TEXTS_A_FILE


def _watched(run: HeadRun) -> tuple[int, ...]:
    """Return the layers whose states are kept: those that the head reads, and the last one."""
    network = run.target.model
    return tuple(sorted({*run.recipe.head.config_for(network).layers, network.num_watchable}))


def frequent_tokens(files: list[Path], count: int, vocab_size: int) -> Tensor:
    """Return the tokens that occur most often in answers, ascending, `[count]`."""
    counts = torch.zeros(vocab_size, dtype=torch.int64)
    for file in files:
        for text in read(file):
            answer = text.tokens[text.begin :].long()
            counts += answer.bincount(minlength=vocab_size)
    return counts.argsort(descending=True, stable=True)[:count].sort().values


def train_head(
    run: HeadRun, report: Callable[[Progress, float], None]
) -> tuple[HeadModule, Progress]:
    """Train to the recipe's last step, from the newest checkpoint if there is one.

    Every step is reported, with its cross-entropy.

    Raises:
        KeyboardInterrupt: after a checkpoint has been written; the same call continues.
        ModelError: training has diverged.
    """
    network, t = run.target.model, run.recipe.training
    files = files_of(run.texts_dir)
    *learnt, newest = files if len(files) > 1 else [files[0], files[0]]
    config, watched = run.recipe.head.config_for(network), _watched(run)
    kept = Kept(network.state_size, tuple(map(watched.index, config.layers)))
    tokens = frequent_tokens(learnt, config.draft_vocab_size, network.vocab_size)
    gain, epsilon = network.last_norm()
    torch.manual_seed(run.recipe.seed)
    module = HeadModule(config, tokens, network.output_rows(tokens).cpu())
    _begin(module, gain)
    module.to(run.device).train()
    teacher = Teacher(network.embedding().to(run.device), gain.to(run.device), epsilon)
    state = restore(run, module, build_optimizers(module, t))
    reading = reader_for(run.device, learnt)
    batches = lessons(learnt, t.rows_per_step, t.longest, kept, run.recipe.seed, reading)
    for _ in range(state.progress.step):
        next(batches)
    texts = read(newest)[:MEASURED_TEXTS]

    def step_of(lesson: Lesson, unrolled: int, acceptance: float = 0.0) -> Learnt:
        with torch.autocast(run.device.type, torch.bfloat16):
            return learn(module, teacher, lesson.to(run.device), unrolled, acceptance)

    @torch.no_grad()
    def held_out() -> float:
        parts = [lesson_of(texts[i : i + 8], kept) for i in range(0, len(texts), 8)]
        return sum(float(step_of(part, 1).cross_entropy[0]) for part in parts) / len(parts)

    def learn_from(step: int) -> tuple[Tensor, Tensor]:
        unrolled = t.unrolled if step >= t.unrolled_after * t.steps else 1
        acceptance = t.acceptance if step >= t.acceptance_after * t.steps else 0.0
        made = step_of(next(batches), unrolled, acceptance)
        return made.loss, made.cross_entropy[0]

    optimise(run, state, learn_from, held_out, report, every=MEASURED_EVERY)
    return module.eval(), state.progress


@torch.no_grad()
def _begin(module: HeadModule, gain: Tensor) -> None:
    """Let a head begin with what the target's last state says, and a layer that adds little."""
    size = len(gain)
    module.fc.weight.normal_(0, 0.02)
    module.fc.weight[:, -size:] += torch.eye(size)
    module.norm.weight.copy_(gain)
