"""A finished run → a Hugging Face folder with its model card.

Writes what was measured, where the text came from and under which licences; measures nothing.
"""

from __future__ import annotations

import math
import platform
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from specdec.tracing import Summary
from specdec.tracing.render import percent, rate
from specdec.zoo.evaluation import GAMMA
from specdec.zoo.recipe import Recipe
from specdec.zoo.training import Progress, Run

MEASURED = "\n[measured]"


def publish(
    run: Run,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    progress: Progress,
    acceptance: Summary | None = None,
) -> Path:
    """Write weights (bf16 safetensors), tokenizer, recipe and card; return the folder.

    Args:
        run: what was trained and where it goes.
        model: the trained network.
        tokenizer: its tokenizer.
        progress: losses and time.
        acceptance: of a distilled drafter, on held-out documents; see `evaluation`.
    """
    folder = run.out_dir
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    recipe_text = run.recipe_path.read_text(encoding="utf-8").split(MEASURED)[0].rstrip()
    measured = f"{recipe_text}\n{MEASURED}\n{_measured_toml(run, progress, acceptance)}"
    (folder / "recipe.toml").write_text(measured, encoding="utf-8")
    size = sum(p.numel() for p in model.parameters())
    card = model_card(run.recipe, progress, size, acceptance)
    (folder / "CARD.md").write_text(card, encoding="utf-8")
    return folder


def _measured_toml(run: Run, progress: Progress, acceptance: Summary | None) -> str:
    step, train, held_out = progress.losses[-1]
    accepted = (
        f"conditional_acceptance_rate = {acceptance.conditional_acceptance_rate:.4f}\n"
        if acceptance and acceptance.conditional_acceptance_rate is not None
        else ""
    )
    return (
        "# Written by `specdec train`; read by nothing.\n"
        f"steps = {step}\n"
        f"tokens = {step * run.recipe.training.tokens_per_step}\n"
        f"train_loss = {train:.4f}  # nats a token, cross-entropy of the last batch\n"
        f"held_out_loss = {held_out:.4f}  # nats a token\n"
        f"seconds = {progress.seconds:.0f}\n"
        f'device = "{run.device.type}"\n'
        f'torch = "{torch.__version__.split("+")[0]}"\n'
        f'python = "{platform.python_version()}"\n'
    ) + accepted


def model_card(
    recipe: Recipe, progress: Progress, num_parameters: int, acceptance: Summary | None
) -> str:
    """Return the model card in Markdown."""
    step, _, held_out = progress.losses[-1]
    shape, training = recipe.model, recipe.training
    rows = "\n".join(f"| {s:,} | {t:.3f} | {h:.3f} |" for s, t, h in progress.losses)
    total = sum(s.share for s in recipe.data)
    sources = "\n".join(
        f"| `{s.path.split('/')[0]}` | {100 * s.share / total:.0f}% | {s.licence} |"
        for s in recipe.data
    )
    taught, accepted = _taught(recipe), _accepted(acceptance)
    return f"""# {recipe.name}

{recipe.summary}

{num_parameters / 1e6:.2f}M parameters: {shape.num_hidden_layers} layers, hidden size \
{shape.hidden_size}, {shape.num_attention_heads} heads, tied embeddings, byte-level BPE of \
{recipe.tokenizer.vocab_size:,} tokens, {shape.max_position_embeddings:,} positions \
(trained on sequences of up to {training.final_sequence_length}). Weights: bf16 safetensors.

It exists to show and to test speculative decoding on a laptop. It knows simple stories and short
sentences, not facts; do not rely on what it says.

## Training
{taught}
{step:,} steps, {step * training.tokens_per_step / 1e6:.1f}M tokens, seed {recipe.seed}, \
{progress.seconds / 60:.0f} minutes. Reproduce with `specdec train {recipe.name} --data FOLDER`; \
every setting is in `recipe.toml`.

| step | training loss (nats a token) | held-out loss |
|---:|---:|---:|
{rows}

Final held-out perplexity {math.exp(held_out):.1f} a token, on documents held out by a hash of \
their first words (of the English sentence, for translations); none of them was trained on.
{accepted}
## Data and licences

| source | share of tokens | licence and attribution |
|---|---:|---|
{sources}

The text of the corpora is not distributed here. Weights: MIT, like the project; the attributions
above stay with them.
"""


def _taught(recipe: Recipe) -> str:
    if recipe.distillation is None:
        return ""
    weight = recipe.distillation.weight
    return (
        f"\nDistilled from `{recipe.distillation.teacher}`: loss = "
        f"{weight:g}·KL(teacher‖student) + {1 - weight:g}·cross-entropy.\n"
    )


def _accepted(acceptance: Summary | None) -> str:
    if acceptance is None:
        return ""
    s = acceptance
    return f"""
Greedy, gamma {GAMMA}, on the beginnings of held-out documents of the first source: conditional
acceptance rate {percent(s.conditional_acceptance_rate)}, {percent(s.acceptance_rate)} of
{s.num_drafted_tokens:,} drafted tokens accepted, {rate(s.mean_acceptance_length)} tokens a step.
"""
