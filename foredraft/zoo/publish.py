"""A finished run → a Hugging Face folder with its model card.

Writes what was measured, where the text came from and under which licences; measures nothing.
"""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, read_text, whole_folder, write_whole, writing
from foredraft.tracing import Summary
from foredraft.tracing.render import percent, rate
from foredraft.zoo.evaluation import GAMMA, Measured, Translation
from foredraft.zoo.networks import check_finite
from foredraft.zoo.recipe import Distillation, Recipe
from foredraft.zoo.run import Run
from foredraft.zoo.training import Progress

MEASURED = "\n[measured]"
PUBLISHED = frozenset(
    {
        *("config.json", "generation_config.json", "model.safetensors", "recipe.toml", "CARD.md"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
        *("special_tokens_map.json", "added_tokens.json"),
    }
)


def publish(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    progress: Progress,
    measured: Measured,
) -> Path:
    """Write weights (bf16 safetensors), tokenizer, recipe and card; return the folder.

    It appears whole, in the place of an earlier one of the same name.

    Raises:
        ConfigError: the folder cannot be written, or something else lies there.
        ModelError: a weight is no finite number.
    """
    check_place(run)
    folder = run.out_dir.resolve()
    network = model.bfloat16()
    check_finite(network, "what was trained", "so nothing is published; train it again")
    size = network.num_parameters()
    recipe_text = run.recipe_text.split(MEASURED)[0].rstrip()
    figures = _measured_toml(run, progress, measured)
    with writing(run.out_dir, "make room or allow it, then the same command continues"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as beside:
            network.save_pretrained(beside)
            (beside / "model.safetensors").chmod(0o644)
            tokenizer.save_pretrained(beside)
            _compact(beside / "tokenizer.json")
            write_whole(beside / "recipe.toml", f"{recipe_text}\n{MEASURED}\n{figures}")
            card = model_card(run.recipe, progress, size, measured)
            write_whole(beside / "CARD.md", card)
    return run.out_dir


class Placed(Protocol):
    """What of a run says where its result will lie."""

    @property
    def run_dir(self) -> Path: ...
    @property
    def out_dir(self) -> Path: ...
    @property
    def name(self) -> str: ...


def _compact(file: Path) -> None:
    """Write a tokenizer without white space, which makes up half of it, and merges as strings."""
    held = json.loads(read_text(file))
    merges = held["model"].get("merges", [])
    if all(isinstance(pair, list) and not any(" " in one for one in pair) for pair in merges):
        held["model"]["merges"] = [" ".join(pair) for pair in merges]
    write_whole(file, json.dumps(held, ensure_ascii=False, separators=(",", ":")) + "\n")


def check_place(run: Placed) -> None:
    """Raise unless the finished folder may lie where it is to lie: nothing of others' is there.

    Raises:
        ConfigError: something else is there, it cannot be written, or it would hold the run.
    """
    out, shown = run.out_dir.resolve(), quoted(str(run.out_dir), PATH_LIMIT)
    with writing(run.out_dir, "give another --out"):
        for reason in _against(run, out):
            raise ConfigError(f"{shown} {reason}")
        out.parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)).rmdir()  # as it will be made


def _against(run: Placed, out: Path) -> Iterator[str]:
    """Yield what speaks against a place."""
    if out.exists() and not out.is_dir():
        yield "is no folder; give another --out"
    if run.run_dir.resolve().is_relative_to(out):
        yield "holds the run folder itself; give another --out"
    if os.path.ismount(out):
        yield "is a disk of its own; give a folder in it as --out"
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    for name in there:
        if name not in PUBLISHED:
            yield f"is not empty: {quoted(name)} is no part of a model; give another --out"
    if "model.safetensors" in there and _name_in(out) != run.name:
        yield f"holds another model than {quoted(run.name)}; give another --out"


def _name_in(folder: Path) -> object:
    """Return the name in a published folder's recipe, None without one."""
    try:
        return tomllib.loads(read_text(folder / "recipe.toml")).get("name")
    except (ConfigError, ValueError):
        return None


def _measured_toml(run: Run, progress: Progress, measured: Measured) -> str:
    step, train, held_out = progress.losses[-1]
    lines = [
        "# Written by `foredraft train`; read by nothing.",
        f"steps = {step}",
        f"tokens = {step * run.recipe.training.tokens_per_step}",
        f"train_loss = {train:.4f}  # nats a token, cross-entropy of the last batch",
        f"held_out_loss = {held_out:.4f}  # nats a token",
        f"seconds = {progress.seconds:.0f}",
        f'device = "{run.device.type}"',
        f'torch = "{torch.__version__.split("+")[0]}"',
        f'python = "{platform.python_version()}"',
    ]
    rate = measured.acceptance and measured.acceptance.conditional_acceptance_rate
    if rate is not None:
        lines.append(f"conditional_acceptance_rate = {rate:.4f}")
    if measured.translation:
        lines += [f"bleu = {measured.translation.bleu:.2f}"]
        lines += [f"chrf = {measured.translation.chrf:.2f}"]
    return "\n".join(lines) + "\n"


def model_card(recipe: Recipe, progress: Progress, num_parameters: int, measured: Measured) -> str:
    """Return the model card in Markdown."""
    step, _, held_out = progress.losses[-1]
    training = recipe.training
    longest = training.sequence_length if recipe.is_seq2seq else training.final_sequence_length
    perplexity = math.exp(min(held_out, 700))  # e^709 is no float
    rows = "\n".join(f"| {s:,} | {t:.3f} | {h:.3f} |" for s, t, h in progress.losses)
    total = sum(s.share for s in recipe.data)
    sources = "\n".join(
        f"| `{s.path.split('/')[0]}` | {100 * s.share / total:.0f}% | {s.licence} |"
        for s in recipe.data
    )
    taught = _taught(recipe.distillation)
    quality = _accepted(measured.acceptance) + _translated(measured.translation)
    return f"""# {recipe.name}

{recipe.summary}

{num_parameters / 1e6:.2f}M parameters: {recipe.model.describe()}, tied embeddings, byte-level \
BPE of {recipe.tokenizer.vocab_size:,} tokens; trained on sequences of up to {longest} tokens. \
Weights: bf16 safetensors.

It exists to show and to test speculative decoding on a laptop. It knows simple texts, not facts; do
not rely on what it says.

## Training
{taught}
{step:,} steps, {step * training.tokens_per_step / 1e6:.1f}M tokens, seed {recipe.seed}, \
{progress.seconds / 60:.0f} minutes. Reproduce with `foredraft train {recipe.name} --data FOLDER`; \
every setting is in `recipe.toml`.

| step | training loss (nats a token) | held-out loss |
|---:|---:|---:|
{rows}

Final held-out perplexity {perplexity:.1f} a token, on documents held out by a hash of \
their first words (of the English sentence, for translations); none of them was trained on.
{quality}
## Data and licences

| source | share of tokens | licence and attribution |
|---|---:|---|
{sources}

The text of the corpora is not distributed here. Weights: MIT, like the project; the attributions
above stay with them.
"""


def _taught(taught: Distillation | None) -> str:
    if taught is None:
        return ""
    text = (
        f"\nDistilled from `{taught.teacher}`: loss = "
        f"{taught.weight:g}·KL(teacher‖student) + {1 - taught.weight:g}·cross-entropy.\n"
    )
    if taught.continued_tokens:
        share = percent(taught.continued_share)
        text += (
            f"\n{share} of its training tokens are documents as the teacher continues them, "
            f"greedily\nand at temperature 0.8 in turn; it wrote {taught.continued_tokens:,} "
            "tokens.\n"
        )
    return text


def _accepted(acceptance: Summary | None) -> str:
    if acceptance is None:
        return ""
    s = acceptance
    return f"""
Greedy, gamma {GAMMA}, on held-out documents of the first source: conditional
acceptance rate {percent(s.conditional_acceptance_rate)}, {percent(s.acceptance_rate)} of
{s.num_drafted_tokens:,} drafted tokens accepted, {rate(s.mean_acceptance_length)} tokens a step.
"""


def _translated(translation: Translation | None) -> str:
    if translation is None:
        return ""
    t = translation
    return f"""
Greedy translations of {t.num_sentences:,} held-out sentences, one reference each (sacrebleu):
BLEU {t.bleu:.1f}, chrF {t.chrf:.1f}.
"""
