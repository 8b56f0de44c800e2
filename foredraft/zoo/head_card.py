"""A finished head → its folder: what was measured, and where its texts came from."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import safetensors.torch
import torch
from torch import Tensor

from foredraft.core import StepRecord
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import HeadDrafter
from foredraft.files import whole_folder, write_whole, writing
from foredraft.gamma import FixedGamma
from foredraft.loading.head import FINGERPRINT, fingerprint_of, laid_out
from foredraft.models import Network
from foredraft.models.head_module import HeadModule
from foredraft.sampling import Rng
from foredraft.tracing import Summary, summarize
from foredraft.tracing.render import percent, rate
from foredraft.verification import RejectionVerifier
from foredraft.zoo.evaluation import GAMMA, GREEDY
from foredraft.zoo.head_run import HeadRun, prompts_of
from foredraft.zoo.publish import MEASURED, check_place
from foredraft.zoo.training import Progress

NUM_PROMPTS, ANSWER_TOKENS = 50, 96


@dataclass(frozen=True)
class MeasuredHead:
    """What a head does on held-out prompts, greedily at gamma 4.

    Attributes:
        summary: the statistics of all steps.
        by_position: conditional acceptance of the first, second, … token of a draft.
        cost_ratio: time of a draft call, of that of a step of plain decoding; medians.
    """

    summary: Summary
    by_position: list[float]
    cost_ratio: float


def measure_head(run: HeadRun, module: HeadModule, num_prompts: int = NUM_PROMPTS) -> MeasuredHead:
    """Answer held-out prompts with a finished head, and without one."""
    target = run.target.model
    head = laid_out(module, target)
    drafted = Speculation(
        target, HeadDrafter(head, GREEDY), FixedGamma(GAMMA), RejectionVerifier(), GREEDY
    )
    plain = Speculation.plain(target, GREEDY)
    prompts = prompts_of(run, 0, held_out=True)
    records, alone = list[StepRecord](), list[StepRecord]()
    for _, prompt in zip(range(num_prompts), prompts, strict=False):
        for parts, kept in ((drafted, records), (plain, alone)):
            kept += speculative_steps(parts, _request(target, prompt, run.target.eos_token_ids))
    calls = [r.draft_seconds / r.num_draft_calls for r in records if r.num_draft_calls]
    passes = [r.verify_seconds for r in alone]
    ratio = median(calls) / median(passes) if calls and passes else math.nan
    return MeasuredHead(summarize(records), conditional_by_position(records), ratio)


def conditional_by_position(records: list[StepRecord]) -> list[float]:
    """Return the share of tokens at each place of drafts that stand, of those that were judged."""
    kept, judged = [0] * GAMMA, [0] * GAMMA
    for record in records:
        for place in range(min(record.num_accepted + record.is_rejection, GAMMA)):
            judged[place] += 1
            kept[place] += place < record.num_accepted
    return [k / j for k, j in zip(kept, judged, strict=True) if j]


def _request(target: Network, prompt: list[int], ends: tuple[int, ...]) -> Request:
    return Request(target.open(prompt), Rng(0), max_new_tokens=ANSWER_TOKENS, eos_token_ids=ends)


def publish_head(
    run: HeadRun, module: HeadModule, progress: Progress, measured: MeasuredHead
) -> Path:
    """Write the head in the format of the `speculators` library; return the folder.

    Raises:
        ConfigError: the folder cannot be written, or something else lies there.
    """
    check_place(run)
    folder = run.out_dir.resolve()
    text = run.recipe_text.split(MEASURED)[0].rstrip()
    with writing(run.out_dir, "make room or allow it, then the same command continues"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as beside:
            weights = safetensors.torch.save(_tensors(module))
            write_whole(beside / "model.safetensors", weights)
            config = json.dumps(_config(run, module), indent=2, sort_keys=True)
            write_whole(beside / "config.json", config + "\n")
            figures = _measured_toml(run, progress, measured)
            write_whole(beside / "recipe.toml", f"{text}\n{MEASURED}\n{figures}")
            write_whole(beside / "CARD.md", _card(run, module, progress, measured))
    return run.out_dir


def _tensors(module: HeadModule) -> dict[str, Tensor]:
    weights = {name: t.detach().bfloat16().contiguous() for name, t in module.state_dict().items()}
    columns = torch.arange(len(module.tokens), device=module.tokens.device)
    return weights | {"d2t": (module.tokens - columns).to(torch.int32).cpu()}


def _config(run: HeadRun, module: HeadModule) -> dict[str, object]:
    config, target = module.config, run.target
    return {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "draft_vocab_size": config.draft_vocab_size,
        "target_hidden_size": config.target_size,
        "eagle_aux_hidden_state_layer_ids": list(config.layers),
        "norm_before_residual": config.norm_before_residual,
        "tie_word_embeddings": False,
        "transformer_layer_config": {"model_type": "llama"} | config.layer.to_diff_dict(),
        FINGERPRINT: fingerprint_of(target.model),
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": GAMMA}],
            "verifier": {"architectures": [], "name_or_path": run.recipe.target},
        },
    }


def _measured_toml(run: HeadRun, progress: Progress, measured: MeasuredHead) -> str:
    step, train, held_out = progress.losses[-1]
    summary = measured.summary
    places = ", ".join(f"{place:.4f}" for place in measured.by_position)
    return (
        "# Written by `foredraft train head`; read by nothing.\n"
        f"target = {json.dumps(run.recipe.target)}\n"
        f"steps = {step}\n"
        f"train_loss = {train:.4f}  # nats a token, to the target's distribution\n"
        f"held_out_loss = {held_out:.4f}  # likewise, of answers that were not learnt from\n"
        f"seconds = {progress.seconds:.0f}  # of the steps\n"
        f'device = "{run.device.type}"\n'
        f'torch = "{torch.__version__.split("+")[0]}"\n'
        f'python = "{platform.python_version()}"\n'
        f"conditional_acceptance_rate = {summary.conditional_acceptance_rate:.4f}\n"
        f"conditional_by_position = [{places}]\n"
        f"mean_acceptance_length = {summary.mean_acceptance_length:.4f}\n"
        f"draft_cost_ratio = {measured.cost_ratio:.4f}  # here\n"
    )


def _card(run: HeadRun, module: HeadModule, progress: Progress, measured: MeasuredHead) -> str:
    recipe, config, s = run.recipe, module.config, measured.summary
    step = progress.step
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    rows = "\n".join(f"| {s:,} | {t:.3f} | {h:.3f} |" for s, t, h in progress.losses)
    total = sum(source.share for source in recipe.data)
    sources = "\n".join(
        f"| `{d.path.split('/')[0]}` | {percent(d.share / total)} | {d.licence} |"
        for d in recipe.data
    )
    places = ", ".join(percent(place) for place in measured.by_position)
    return f"""# {recipe.name}

{recipe.summary}

A head for `{recipe.target}` (EAGLE-3; Li et al., 2025): {num_parameters / 1e6:.2f}M parameters, \
one layer of {config.layer.num_attention_heads} heads and inner size \
{config.layer.intermediate_size}, which reads the target's states after \
{", ".join(map(str, config.layers))} layers and proposes {config.draft_vocab_size:,} tokens. \
Embedding and output layer are the target's. Weights: bf16 safetensors, in the format of the \
`speculators` library.

## Training

The target answered prompts of the sources below, greedily and with nucleus sampling in turn, \
{recipe.texts.tokens:,} tokens of answers; the head learnt the target's distribution from its \
states, unrolled {recipe.training.unrolled} steps on its own guesses. {step:,} steps, seed \
{recipe.seed}, {progress.seconds / 60:.0f} minutes. Every setting is in `recipe.toml`.

| step | training loss (nats a token) | held-out loss |
|---:|---:|---:|
{rows}

## Measured

Greedy, gamma {GAMMA}, on held-out prompts of the sources: conditional acceptance rate \
{percent(s.conditional_acceptance_rate)} (by place in the draft: {places}), \
{rate(s.mean_acceptance_length)} tokens a step. A draft call took {measured.cost_ratio:.3f} of a \
step of plain decoding.

## Data and licences

| source | share of prompts | licence and attribution |
|---|---:|---|
{sources}

The text of the corpora is not distributed here. Weights: MIT, like the project; the attributions
above stay with them.
"""
