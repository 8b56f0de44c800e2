"""One recipe becomes one folder, and an interrupt on the way changes nothing."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from foredraft.cli.main import main
from foredraft.errors import ConfigError
from foredraft.loading import LoadOptions, load, load_pair
from foredraft.zoo import streams, training
from foredraft.zoo.evaluation import Measured
from foredraft.zoo.networks import build_network
from foredraft.zoo.publish import publish
from foredraft.zoo.recipe import load_recipe
from foredraft.zoo.run import Batch, Run
from foredraft.zoo.streams import batch_at
from foredraft.zoo.training import Progress, build_loss, learning_rate_scale, prepare, train
from tests.texts import first_pass
from tests.zoo.tiny_recipe import LICENCE, RECIPE, STEPS, VOCAB, drafter_recipe, make_run

CPU = LoadOptions(device="cpu")
IDS = torch.arange(42).view(2, 21)
BATCH = Batch({"input_ids": IDS[:, :-1]}, IDS[:, 1:])


@pytest.fixture(scope="module", autouse=True)
def small_held_out_stream() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "HELD_OUT_TOKENS", 10 * 257)
        precision, handler = torch.get_float32_matmul_precision(), signal.getsignal(signal.SIGTERM)
        yield
        torch.set_float32_matmul_precision(precision)
        signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was trained without a pause and published."""
    run = make_run(tmp_path_factory.mktemp("finished"))
    model, progress = train(run, ignore)
    publish(run, model, prepare(run), progress, Measured())
    return run


def ignore(progress: Progress, loss: float) -> None:
    """Report nothing."""


def interrupt_at(step: int) -> Callable[[Progress, float], None]:
    def report(progress: Progress, loss: float) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return report


def weights(run: Run) -> dict[str, Tensor]:
    state: dict[str, Any] = torch.load(run.checkpoint_path, weights_only=True)
    return dict(state["model"])


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# --- resuming -------------------------------------------------------------------------------------


def test_an_interrupted_run_ends_with_exactly_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, finished: Run
) -> None:
    run = make_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(run, interrupt_at(3))
    half_way = weights(run)
    steps = list[int]()
    train(run, lambda progress, loss: steps.append(progress.step))
    assert steps == [4, 5, 6]
    assert_same_weights(weights(run), weights(finished))
    with pytest.raises(AssertionError):
        assert_same_weights(half_way, weights(finished))


def test_an_interrupt_in_the_middle_of_a_step_changes_nothing_either(
    tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = training.build_optimizers

    def interrupted_once(*args: Any) -> list[torch.optim.Optimizer]:
        first, second = build(*args)
        step, calls = second.step, iter(range(3))

        def counted(*args: Any) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            step()

        second.step = counted  # type: ignore[assignment, method-assign]
        return [first, second]

    run = make_run(tmp_path)
    monkeypatch.setattr(training, "build_optimizers", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        train(run, ignore)
    monkeypatch.setattr(training, "build_optimizers", build)
    train(run, ignore)
    assert_same_weights(weights(run), weights(finished))


def test_a_finished_run_trains_no_further(finished: Run) -> None:
    before = weights(finished)
    steps = list[int]()
    _, progress = train(finished, lambda progress, loss: steps.append(progress.step))
    assert steps == []
    assert progress.step == STEPS
    assert_same_weights(weights(finished), before)


def test_another_seed_gives_another_model(tmp_path: Path, finished: Run) -> None:
    run = make_run(tmp_path, RECIPE.replace("seed = 3", "seed = 4"))
    train(run, ignore)
    with pytest.raises(AssertionError):
        assert_same_weights(weights(run), weights(finished))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path, RECIPE.replace("steps = 6", "steps = 20"))
    losses = list[float]()
    _, progress = train(run, lambda progress, loss: losses.append(loss))
    assert losses[0] == pytest.approx(math.log(VOCAB), rel=0.1)  # it knows nothing yet
    assert losses[-1] < losses[0] - 1
    ((step, last, held_out),) = progress.losses
    assert (step, last) == (20, losses[-1])
    assert held_out < losses[0] - 1


# --- what a step sees -----------------------------------------------------------------------------


def test_batches_follow_the_stream_without_gap_and_grow_longer_at_the_end(finished: Run) -> None:
    recipe = finished.recipe.training
    stream = np.arange(STEPS * 128 + 1, dtype=np.uint16)
    shapes = []
    for step in range(STEPS):
        batch = batch_at(stream, step, recipe)
        shapes.append(tuple(batch.labels.shape))
        inputs, labels = batch.inputs["input_ids"].flatten(), batch.labels.flatten()
        assert inputs.tolist() == list(range(step * 128, (step + 1) * 128))
        assert (labels == inputs + 1).all()
    assert shapes == [(4, 32)] * 4 + [(2, 64)] * 2


def test_the_learning_rate_warms_up_stays_and_falls_to_zero(finished: Run) -> None:
    recipe = finished.recipe.training
    scales = [learning_rate_scale(step, recipe) for step in range(STEPS + 1)]
    assert scales == pytest.approx([1 / 2, 1, 1, 1, 2 / 3, 1 / 3, 0])


def test_both_sides_of_the_split_become_streams_and_chat_documents_are_among_them(
    finished: Run,
) -> None:
    tokenizer = prepare(finished)
    text = {}
    for name, size in (("train.bin", STEPS * 128 + 1), ("heldout.bin", 10 * 257)):
        stream = np.fromfile(finished.run_dir / name, dtype=np.uint16)
        assert len(stream) == size
        text[name] = str(tokenizer.decode(stream.tolist()))
    train, held_out = (set(t.split("<|eos|>")[:-1]) for t in text.values())
    assert not {s for s in train if " saw " in s} & held_out
    assert any(s.startswith("<|bos|><|user|>Backwards: ") for s in train)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(finished: Run) -> None:
    model: Any = build_network(finished.recipe, prepare(finished))
    divergence, cross_entropy = build_loss(model, model, 1.0, torch.device("cpu"))(BATCH)
    assert float(divergence.detach()) == pytest.approx(0, abs=1e-6)
    assert float(cross_entropy) > 1


def test_the_weight_mixes_divergence_and_cross_entropy(finished: Run) -> None:
    tokenizer = prepare(finished)
    student: Any = build_network(finished.recipe, tokenizer)
    teacher: Any = build_network(replace(finished.recipe, seed=4), tokenizer)
    divergence, half, nothing = (
        float(build_loss(student, teacher, weight, torch.device("cpu"))(BATCH)[0].detach())
        for weight in (1.0, 0.5, 0.0)
    )
    assert divergence > 0.01
    assert half == pytest.approx((divergence + nothing) / 2, rel=1e-5)
    assert nothing == float(build_loss(student, None, 0.0, torch.device("cpu"))(BATCH)[1])


# --- what comes out -------------------------------------------------------------------------------


def test_publishing_writes_weights_recipe_and_card(finished: Run) -> None:
    folder = finished.out_dir
    stored = load_file(folder / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    recipe = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert recipe.startswith(RECIPE.rstrip())
    assert load_recipe(str(folder / "recipe.toml")) == finished.recipe
    assert (
        f"\n[measured]\n# Written by `foredraft train`; read by nothing.\nsteps = {STEPS}" in recipe
    )
    assert f"\ntokens = {STEPS * 128}\n" in recipe
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert f"| `stories.txt` | 75% | {LICENCE} |" in card
    assert "| `pairs.tsv` | 25% | Own pairs, CC0-1.0 |" in card
    assert "Distilled" not in card
    assert str(folder) not in card + recipe


def test_publishing_a_published_recipe_again_measures_once(finished: Run, tmp_path: Path) -> None:
    recipe = (finished.out_dir / "recipe.toml").read_text(encoding="utf-8")
    run = make_run(tmp_path, recipe, run_dir=finished.run_dir)
    model, progress = train(run, ignore)
    again = (publish(run, model, prepare(run), progress, Measured()) / "recipe.toml").read_text()
    assert again == recipe


def test_a_published_folder_loads_with_tokenizer_end_token_and_chat(finished: Run) -> None:
    loaded = load(str(finished.out_dir), "target", CPU)
    assert loaded.model.vocab_size == VOCAB
    assert loaded.model.max_length == 128
    assert loaded.eos_token_ids == (loaded.tokenizer.eos_token_id,) == (1,)
    tokens = loaded.tokenizer("The fox saw a boat.")["input_ids"]
    assert tokens[0] == loaded.tokenizer.bos_token_id
    assert loaded.tokenizer.decode(tokens, skip_special_tokens=True) == "The fox saw a boat."
    message = [{"role": "user", "content": "Hi"}]
    chat = loaded.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert chat == "<|bos|><|user|>Hi<|assistant|>"
    assert first_pass(loaded.model, tokens).shape == (1, VOCAB)


def test_the_command_distils_a_drafter_that_fits_its_teacher(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, drafter_recipe(finished.out_dir))
    flags = ["--run-dir", str(run.run_dir), "--out", str(run.out_dir), "--no-compile"]
    flags += ["--device", "cpu", "--data", str(run.data_dir)]
    main(["train", str(run.recipe_path), *flags])
    told = capsys.readouterr().out
    assert re.sub(r"\d\.\d+|[\d.]+%|–", "#", told) == (
        f"training 'tinier' in {run.run_dir}; Ctrl-C saves, the same command continues\n"
        "measuring on held-out documents\n"
        "conditional acceptance #\n"
        f"held-out loss # nats a token; model written to {run.out_dir}\n"
    )
    target, drafter = load_pair(str(finished.out_dir), str(run.out_dir), CPU)
    assert drafter.tokenizer.get_vocab() == target.tokenizer.get_vocab()
    assert "Distilled from " in (run.out_dir / "CARD.md").read_text(encoding="utf-8")


# --- refusals -------------------------------------------------------------------------------------


def test_a_teacher_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    recipe = RECIPE + f'\n[distillation]\nteacher = "{(tmp_path / "empty").as_posix()}"\n'
    with pytest.raises(ConfigError, match="empty' has no weights yet; train it first"):
        train(make_run(tmp_path, recipe), ignore)


def test_a_tokenizer_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    recipe = RECIPE.replace("sample_mb = 0.01", 'from_model = "nobody"')
    with pytest.raises(ConfigError, match="nobody"):
        train(make_run(tmp_path, recipe), ignore)


@pytest.mark.parametrize("text", ["", "One document is no corpus."], ids=["empty", "one"])
def test_text_too_short_for_the_split_is_refused(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path)
    (run.data_dir / "stories.txt").write_text(text, encoding="utf-8")
    (run.data_dir / "pairs.tsv").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="held"):
        train(run, ignore)


def test_missing_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = make_run(tmp_path, data_dir=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"stories\.txt' does not exist; give --data"):
        train(run, ignore)
    assert not run.checkpoint_path.exists()
