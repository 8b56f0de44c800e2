"""`specdec train`: one recipe → one Hugging Face folder, resumable at any moment.

The run folder holds the token stream (`train.bin`, `heldout.bin`), the tokenizer and the newest
checkpoint; a second call with the same run folder continues where the first stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from specdec.errors import ConfigError
from specdec.zoo import bundled_path
from specdec.zoo.corpus import HELD_OUT_PERCENT, Document, Source, sample_texts, split, token_stream
from specdec.zoo.recipe import Recipe, TrainingRecipe
from specdec.zoo.tokenizer import chat_document, train_tokenizer

HELD_OUT_TOKENS = 65_536
Tokens = npt.NDArray[np.uint16]


@dataclass
class Progress:
    """What a run has reached; saved in the checkpoint and copied into the model card."""

    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float, float]] = field(default_factory=list)  # step, train, held out
    half_done: bool = False  # between the two optimisers of a step: nothing to save


@dataclass(frozen=True)
class Run:
    """One training run: the recipe, its run folder and where it computes."""

    recipe: Recipe
    recipe_path: Path
    data_dir: Path
    run_dir: Path
    out_dir: Path
    device: torch.device
    compile: bool = True

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.run_dir / "checkpoint.pt"


# --- data ---------------------------------------------------------------------------------------


def prepare(run: Run) -> PreTrainedTokenizerFast:
    """Write tokenizer and token streams into the run folder, once; return the tokenizer."""
    run.run_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(run)
    t = run.recipe.training
    sizes = {"train.bin": t.steps * t.tokens_per_step + 1, "heldout.bin": HELD_OUT_TOKENS}
    for name, num_tokens in sizes.items():
        path = run.run_dir / name
        if not path.is_file() or path.stat().st_size != 2 * num_tokens:  # absent, or cut off
            stream = _mix(run, tokenizer, held_out=name == "heldout.bin", num_tokens=num_tokens)
            stream.tofile(path)
    return tokenizer


def _tokenizer(run: Run) -> PreTrainedTokenizerFast:
    recipe, folder = run.recipe, run.run_dir / "tokenizer"
    if recipe.tokenizer.from_model:
        folder = model_folder(recipe.tokenizer.from_model)
    elif not folder.is_dir():
        per_source = recipe.tokenizer.sample_mb * 1e6
        total = sum(s.share for s in recipe.data)
        texts = [
            text
            for s in recipe.data
            for text in sample_texts(
                split(s, run.data_dir, held_out=False),
                int(per_source * s.share / total),
                recipe.seed,
            )
        ]
        train_tokenizer(texts, recipe.tokenizer.vocab_size).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def model_folder(name_or_path: str) -> Path:
    """Return the folder of a model given by path or by the name of a bundled one."""
    path = Path(name_or_path)
    path = path if path.is_dir() else bundled_path(name_or_path)
    if not path.is_dir():
        raise ConfigError(f"no model folder {name_or_path!r}; give a folder or a bundled name")
    return path


def _mix(
    run: Run, tokenizer: PreTrainedTokenizerFast, *, held_out: bool, num_tokens: int
) -> Tokens:
    encoded = [_encode(s, run, tokenizer, held_out=held_out) for s in run.recipe.data]
    present = [i for i, docs in enumerate(encoded) if docs]
    if not present:
        kind = "held-out" if held_out else "training"
        raise ConfigError(
            f"the data holds no {kind} document; {HELD_OUT_PERCENT} of 100 documents are held out, "
            "so give more text"
        )
    shares = [run.recipe.data[i].share for i in present]
    return token_stream([encoded[i] for i in present], shares, num_tokens, run.recipe.seed)


def _encode(
    source: Source, run: Run, tokenizer: PreTrainedTokenizerFast, *, held_out: bool
) -> list[Tokens]:
    docs = split(source, run.data_dir, held_out=held_out)
    every = round(1 / source.chat_share) if source.chat_share else 0
    texts = [
        _as_chat(d) if every and i % every == 0 and d.prompt else d.text for i, d in enumerate(docs)
    ]
    ids = tokenizer(texts, add_special_tokens=True)["input_ids"] if texts else []
    return [np.array([*i, tokenizer.eos_token_id], dtype=np.uint16) for i in ids]


def _as_chat(document: Document) -> str:
    return chat_document(document.prompt, document.text[len(document.prompt) + 1 :])


def batch_at(stream: Tokens, step: int, training: TrainingRecipe) -> Tensor:
    """Return the batch of a step, shape `[batch, time + 1]`: inputs and targets overlap by one."""
    long = step >= training.steps * (1 - training.final_share)
    time_ = training.final_sequence_length if long else training.sequence_length
    start = step * training.tokens_per_step
    rows = training.tokens_per_step // time_
    window = np.stack(
        [stream[start + r * time_ : start + (r + 1) * time_ + 1] for r in range(rows)]
    )
    return torch.from_numpy(window.astype(np.int64))


# --- model and optimisers -------------------------------------------------------------------------


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a freshly initialised model of the recipe's shape."""
    shape = recipe.model
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.tokenizer.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def build_optimizers(
    model: LlamaForCausalLM, training: TrainingRecipe
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the hidden matrices, AdamW for embeddings and norms."""
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    ids = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in ids]
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


def learning_rate_scale(step: int, training: TrainingRecipe) -> float:
    """Warm-up, constant, then linear decay to zero: the factor on the peak rate."""
    warmup = min(1.0, (step + 1) / training.warmup_steps)
    left = (training.steps - step) / max(1, math.ceil(training.steps * training.decay_share))
    return min(warmup, left, 1.0)


def build_loss(
    model: LlamaForCausalLM, teacher: LlamaForCausalLM | None, weight: float, device: torch.device
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return ids `[batch, time + 1]` → (loss to minimise, cross-entropy in nats a token)."""

    def logits(network: LlamaForCausalLM, inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            hidden = network.model(inputs, use_cache=False).last_hidden_state
            out: Tensor = network.lm_head(hidden)
        return out.flatten(0, 1).float()  # [batch · time, vocab]

    def loss(ids: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = ids[:, :-1], ids[:, 1:].flatten()
        student = logits(model, inputs)
        cross_entropy = F.cross_entropy(student, labels)
        if teacher is None:
            return cross_entropy, cross_entropy.detach()
        with torch.no_grad():
            target_log_probs = logits(teacher, inputs).log_softmax(-1)
        divergence = F.kl_div(
            student.log_softmax(-1), target_log_probs, log_target=True, reduction="batchmean"
        )
        return weight * divergence + (1 - weight) * cross_entropy, cross_entropy.detach()

    return loss


# --- the loop -------------------------------------------------------------------------------------


def train(run: Run, report: Callable[[Progress, float], None]) -> tuple[LlamaForCausalLM, Progress]:
    """Train to the recipe's last step, from the newest checkpoint if there is one.

    Args:
        run: what to train and where.
        report: called after every step with the progress and the step's cross-entropy.

    Raises:
        KeyboardInterrupt: after a checkpoint has been written; the same call continues.
    """
    recipe = run.recipe
    tokenizer = prepare(run)
    model: Any = build_model(recipe, tokenizer)
    model = model.to(run.device).train()
    optimizers = build_optimizers(model, recipe.training)
    progress = _restore(run, model, optimizers)
    teacher, weight = _teacher(run)
    loss_fn = build_loss(model, teacher, weight, run.device)
    step_fn = torch.compile(loss_fn) if run.compile else loss_fn
    stream = np.memmap(run.run_dir / "train.bin", dtype=np.uint16, mode="r")
    try:
        _steps(run, model, optimizers, progress, step_fn, stream, report)
    finally:
        if not progress.half_done:  # else the newest checkpoint is the last whole step
            _save(run, model, optimizers, progress)
    model.eval()
    return model, progress


def _steps(
    run: Run,
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
    step_fn: Callable[[Tensor], tuple[Tensor, Tensor]],
    stream: Tokens,
    report: Callable[[Progress, float], None],
) -> None:
    t = run.recipe.training
    clock = saved = time.monotonic()
    while progress.step < t.steps:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = t.learning_rate * learning_rate_scale(progress.step, t)
        loss, cross_entropy = step_fn(batch_at(stream, progress.step, t).to(run.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        progress.half_done = True
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.half_done = False
        now = time.monotonic()
        progress.seconds += now - clock
        clock = now
        if progress.step % 500 == 0 or progress.step == t.steps:
            held_out = held_out_loss(run, model)
            progress.losses.append((progress.step, float(cross_entropy), held_out))
        if now - saved > t.checkpoint_seconds:
            _save(run, model, optimizers, progress)
            saved = now
        report(progress, float(cross_entropy))


def _teacher(run: Run) -> tuple[LlamaForCausalLM | None, float]:
    if run.recipe.distillation is None:
        return None, 0.0
    folder = model_folder(run.recipe.distillation.teacher)
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(f"the teacher {folder} has no weights yet; train it first")
    teacher: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return teacher.to(run.device).eval().requires_grad_(False), run.recipe.distillation.weight


@torch.no_grad()
def held_out_loss(run: Run, model: LlamaForCausalLM) -> float:
    """Cross-entropy on the held-out stream, in nats a token."""
    stream = np.fromfile(run.run_dir / "heldout.bin", dtype=np.uint16).astype(np.int64)
    rows = torch.from_numpy(stream[: len(stream) // 257 * 257]).view(-1, 257)
    model.eval()
    loss = build_loss(model, None, 0.0, run.device)
    losses = [float(loss(batch.to(run.device))[1]) for batch in rows.split(16)]
    model.train()
    return sum(losses) / len(losses)


def _save(
    run: Run,
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "progress": vars(progress),
    }
    partial = run.checkpoint_path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(run.checkpoint_path)  # atomic: an interrupted write never harms the old one


def _restore(
    run: Run, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]
) -> Progress:
    if not run.checkpoint_path.is_file():
        return Progress()
    state = torch.load(run.checkpoint_path, map_location=run.device, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return Progress(**state["progress"])
