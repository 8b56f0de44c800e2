"""`foredraft train`: one recipe → one Hugging Face folder, resumable at any moment.

The run folder holds what it is of (`run.json`), the tokenizer, the newest checkpoint and, for a
causal model, token streams, each whole or not at all; a second call with the same run folder
continues where the first stopped.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from foredraft.errors import ConfigError, ForedraftError, ModelError, foreign, quoted
from foredraft.files import PATH_LIMIT, whole_folder, write_whole, writing
from foredraft.zoo.corpus import sample_texts, split
from foredraft.zoo.networks import build_network, check_finite, is_finite
from foredraft.zoo.pairs import PairBatches
from foredraft.zoo.record import begin
from foredraft.zoo.run import IGNORED, Batch, Run, model_folder
from foredraft.zoo.streams import StreamBatches
from foredraft.zoo.teacher import load_teacher
from foredraft.zoo.tokenizer import load_tokenizer, train_tokenizer

Batches = StreamBatches | PairBatches
GO_ON = "what is written stays; make room, then the same command continues"
ANEW = "delete it to train from the beginning"


@dataclass
class Progress:
    """What a run has reached; saved in the checkpoint and copied into the model card."""

    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float, float]] = field(default_factory=list)  # step, train, held out
    half_done: bool = False  # between the two optimisers of a step: nothing to save


def prepare(run: Run) -> PreTrainedTokenizerFast:
    """Return the tokenizer; the first call makes it and writes it into the run folder.

    Raises:
        ConfigError: the run folder is of another run, see `record`; or a file is missing or cannot
            be read or written.
    """
    begin(run)
    recipe, folder = run.recipe, run.run_dir / "tokenizer"
    if recipe.tokenizer.from_model:
        folder = model_folder(recipe.tokenizer.from_model)
    elif not folder.is_dir():
        wanted = recipe.tokenizer.sample_mb * 1e6 / sum(s.share for s in recipe.data)
        texts = [
            text
            for s in recipe.data
            for text in sample_texts(
                split(s, run.data_dir, held_out=False), int(wanted * s.share), recipe.seed
            )
        ]
        size = recipe.tokenizer.vocab_size
        tokenizer = train_tokenizer(texts, size, for_pairs=recipe.is_seq2seq)
        with writing(folder, GO_ON), whole_folder(folder) as beside:
            tokenizer.save_pretrained(beside)
    return load_tokenizer(folder)


def batches_of(
    run: Run, tokenizer: PreTrainedTokenizerFast, wrote: Callable[[int], None] = lambda done: None
) -> Batches:
    """Return the batches that a run learns from; `wrote` as for `StreamBatches`."""
    if run.recipe.is_seq2seq:
        return PairBatches(run, tokenizer)
    return StreamBatches(run, tokenizer, wrote)


class Rates(Protocol):
    """What decides how fast weights change; see `TrainingRecipe`."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def decay_share(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def checkpoint_seconds(self) -> int: ...


class Trains(Protocol):
    """What of a run its steps need."""

    @property
    def rates(self) -> Rates: ...
    @property
    def checkpoint_path(self) -> Path: ...
    @property
    def device(self) -> torch.device: ...


def build_optimizers(network: nn.Module, training: Rates) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the hidden matrices, AdamW for embeddings and norms."""
    tables = {
        id(module.weight) for module in network.modules() if isinstance(module, torch.nn.Embedding)
    }
    hidden = [p for p in network.parameters() if p.ndim == 2 and id(p) not in tables]
    ids = {id(p) for p in hidden}
    rest = [p for p in network.parameters() if id(p) not in ids]
    return [
        torch.optim.Muon(
            hidden,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            rest, lr=training.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


def learning_rate_scale(step: int, training: Rates) -> float:
    """Warm-up, constant, then linear decay to zero: the factor on the peak rate."""
    warmup = min(1.0, (step + 1) / training.warmup_steps)
    left = (training.steps - step) / max(1, math.ceil(training.steps * training.decay_share))
    return min(warmup, left, 1.0)


def build_loss(
    network: PreTrainedModel, teacher: PreTrainedModel | None, weight: float, device: torch.device
) -> Callable[[Batch], tuple[Tensor, Tensor]]:
    """Return batch → (loss to minimise, cross-entropy in nats a token)."""

    def logits(network: PreTrainedModel, batch: Batch) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            out: Tensor = network(**batch.inputs, use_cache=False).logits
        return out.flatten(0, 1).float()  # [batch · time, vocab]

    def loss(batch: Batch) -> tuple[Tensor, Tensor]:
        labels = batch.labels.flatten()
        student = logits(network, batch)
        cross_entropy = F.cross_entropy(student, labels, ignore_index=IGNORED)
        if teacher is None:
            return cross_entropy, cross_entropy.detach()
        with torch.no_grad():
            target_log_probs = logits(teacher, batch).log_softmax(-1)
        by_position = F.kl_div(
            student.log_softmax(-1), target_log_probs, log_target=True, reduction="none"
        ).sum(-1)
        counts = labels != IGNORED
        divergence = (by_position * counts).sum() / counts.sum()
        return weight * divergence + (1 - weight) * cross_entropy, cross_entropy.detach()

    return loss


@dataclass
class State:
    """What a checkpoint holds."""

    network: nn.Module
    optimizers: list[torch.optim.Optimizer]
    progress: Progress


def train(
    run: Run,
    report: Callable[[Progress, float], None],
    wrote: Callable[[int], None] = lambda done: None,
) -> tuple[PreTrainedModel, Progress]:
    """Train to the recipe's last step, from the newest checkpoint if there is one.

    Every step is reported, with its cross-entropy; before them, the tokens that a teacher wrote.

    Raises:
        KeyboardInterrupt: after a checkpoint has been written; the same call continues.
        ConfigError: see `prepare`.
        ModelError: training has diverged; the newest checkpoint is one from before that.
    """
    tokenizer = prepare(run)
    batches = batches_of(run, tokenizer, wrote)
    network = build_network(run.recipe, tokenizer)
    torch.nn.Module.to(network, run.device).train()
    state = restore(run, network, build_optimizers(network, run.rates))
    distillation = run.recipe.distillation
    weight = distillation.weight if distillation else 0.0
    loss_fn = build_loss(network, load_teacher(run), weight, run.device)
    compiled = torch.compile(loss_fn) if run.compile else loss_fn
    optimise(
        run,
        state,
        lambda step: compiled(batches.batch(step).to(run.device)),
        lambda: held_out_loss(run, network, batches),
        report,
    )
    network.eval()
    return network, state.progress


def optimise(
    run: Trains,
    state: State,
    learn: Callable[[int], tuple[Tensor, Tensor]],
    held_out: Callable[[], float],
    report: Callable[[Progress, float], None],
    *,
    every: int = 500,
) -> None:
    """Take the steps that are left, and write checkpoints.

    Args:
        run: where.
        state: changed.
        learn: step → the loss to minimise, and what is reported of it.
        held_out: measures on what was never learnt from.
        report: told of every step.
        every: steps between two measurements.

    Raises:
        KeyboardInterrupt: after a checkpoint has been written.
        ModelError: training has diverged; the newest checkpoint is one from before that.
    """
    first = state.progress.step
    try:
        _steps(run, state, learn, held_out, report, every)
    except BaseException as error:
        # Not in the middle of a step, nor what has diverged: then the newest checkpoint is right.
        if not (state.progress.half_done or isinstance(error, ForedraftError)):
            _save(run, state)
        raise
    if state.progress.step > first:
        _save(run, state)


def _steps(
    run: Trains,
    state: State,
    learn: Callable[[int], tuple[Tensor, Tensor]],
    held_out: Callable[[], float],
    report: Callable[[Progress, float], None],
    every: int,
) -> None:
    t, progress = run.rates, state.progress
    clock = saved = time.monotonic()
    while progress.step < t.steps:
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = t.learning_rate * learning_rate_scale(progress.step, t)
        loss, cross_entropy = learn(progress.step)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
        _check_number(run, progress, loss=float(loss.detach()), gradient=float(norm))
        progress.half_done = True
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if not is_finite(state.network):
            raise _diverged(run, progress, "weights are")
        progress.step += 1
        progress.half_done = False
        now = time.monotonic()
        progress.seconds += now - clock
        clock = now
        if progress.step % every == 0 or progress.step == t.steps:
            measured = held_out()
            _check_number(run, progress, **{"held-out loss": measured})
            progress.losses.append((progress.step, float(cross_entropy), measured))
        if now - saved > t.checkpoint_seconds:
            _save(run, state)
            saved = now
        report(progress, float(cross_entropy))


def _check_number(run: Trains, progress: Progress, **figures: float) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise _diverged(run, progress, f"{name} is")


def _diverged(run: Trains, progress: Progress, what: str) -> ModelError:
    rate = run.rates.learning_rate
    return ModelError(
        f"training has diverged at step {progress.step + 1}: its {what} not finite; the newest "
        f"checkpoint is kept, and nothing is published: lower learning_rate (now {rate:g}) in the "
        "recipe and give another --run-dir"
    )


@torch.no_grad()
def held_out_loss(run: Run, network: PreTrainedModel, batches: Batches) -> float:
    """Cross-entropy on held-out batches, in nats a token; batches of any size count alike."""
    network.eval()
    loss = build_loss(network, None, 0.0, run.device)
    losses = [float(loss(batch.to(run.device))[1]) for batch in batches.held_out()]
    network.train()
    return sum(losses) / len(losses)


def _save(run: Trains, state: State) -> None:
    held = {
        "model": state.network.state_dict(),
        "optimizers": [o.state_dict() for o in state.optimizers],
        "progress": vars(state.progress),
    }
    buffer = io.BytesIO()
    torch.save(held, buffer)
    with writing(run.checkpoint_path, GO_ON):
        write_whole(run.checkpoint_path, buffer.getbuffer())


def restore(run: Trains, network: nn.Module, optimizers: list[torch.optim.Optimizer]) -> State:
    """Return the newest checkpoint's state, or a fresh one."""
    if not run.checkpoint_path.is_file():
        return State(network, optimizers, Progress())
    shown = quoted(str(run.checkpoint_path), PATH_LIMIT)
    with foreign(f"reading the checkpoint {shown}", ANEW, ConfigError):
        held = torch.load(run.checkpoint_path, map_location=run.device, weights_only=True)
        network.load_state_dict(held["model"])
        for optimizer, saved in zip(optimizers, held["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        progress = Progress(**held["progress"])
    check_finite(network, f"the checkpoint {shown}", ANEW)
    return State(network, optimizers, progress)
