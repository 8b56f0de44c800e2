"""What a head learns from: the target's own answers, one by one or in batches, and odd sizes."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from foredraft.errors import ConfigError, ModelError
from foredraft.models import DecoderOnlyModel
from foredraft.native.network import NativeModel
from foredraft.zoo import head_batches
from foredraft.zoo.head_batches import answers_at_once
from foredraft.zoo.head_recipe import HeadRecipe, HeadShape, HeadTexts, HeadTraining
from foredraft.zoo.head_run import HeadRun, holding, prompts_of
from foredraft.zoo.head_texts import Text, answers, collect, files_of, reader_for, write
from foredraft.zoo.head_training import Kept, check_teaches, lessons
from tests.tiny import build, random_tokens
from tests.zoo.test_head import run as run  # a fixture

PROMPTS = [random_tokens(random.Random(i), 3 + 2 * i) for i in range(6)]


def target_of(architecture: str = "llama", **changes: Any) -> DecoderOnlyModel:
    return DecoderOnlyModel(build(architecture, **changes))


def both(target: DecoderOnlyModel, **given: Any) -> tuple[list[Text], list[Text]]:
    """Return answers in one batch, and one by one in the order of their prompts."""
    settings = {"length": 12, "ends": (), "seed": 3} | given
    alone = list(answers(target, PROMPTS, (1, 2), **settings))
    alone.sort(key=lambda text: PROMPTS.index(text.tokens[: text.begin].tolist()))
    return list(answers_at_once(target, PROMPTS, (1, 2), **settings)), alone


def assert_greedy_ones_are_alike(together: list[Text], alone: list[Text]) -> None:
    assert [text.begin for text in together] == [text.begin for text in alone]
    for ours, theirs in list(zip(together, alone, strict=True))[::2]:
        assert torch.equal(ours.tokens, theirs.tokens)
        assert ours.states.dtype == theirs.states.dtype
        assert torch.allclose(ours.states.float(), theirs.states.float(), atol=3e-2, rtol=2e-2)


def test_answers_in_a_batch_are_those_of_each_alone() -> None:
    target = target_of()
    assert_greedy_ones_are_alike(*both(target))
    ends = tuple(range(0, 60, 3))
    together, alone = both(target, ends=ends)
    for text in together:
        assert not set(text.tokens[text.begin : -1].tolist()) & set(ends)
    greedy = [tuple(t.tokens.tolist()) for t in alone if PROMPTS.index(_prompt(t)) % 2 == 0]
    assert greedy == [
        tuple(t.tokens.tolist()) for t in together if not PROMPTS.index(_prompt(t)) % 2
    ]


def _prompt(text: Text) -> list[int]:
    return [int(token) for token in text.tokens[: text.begin]]


def test_drawn_answers_follow_their_seed() -> None:
    target = target_of()
    first, again, other = (both(target, seed=seed)[0] for seed in (3, 3, 4))
    tokens = [[text.tokens.tolist() for text in texts] for texts in (first, again, other)]
    assert tokens[0] == tokens[1]
    assert tokens[0][1::2] != tokens[2][1::2]
    assert tokens[0][::2] == tokens[2][::2]  # greedy ones


def test_settings_of_the_models_folder_bend_no_answer() -> None:
    target = target_of()
    config = target.model.generation_config
    config.repetition_penalty, config.suppress_tokens = 30.0, list(range(20))
    assert_greedy_ones_are_alike(*both(target))
    assert target.model.generation_config is config


def test_a_batch_that_does_not_fit_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    target, whole = target_of(), head_batches._generated

    def narrow(network: Any, prompts: list[list[int]], *rest: Any) -> list[list[int]]:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError
        return whole(network, prompts, *rest)

    expected, _ = both(target)
    monkeypatch.setattr(head_batches, "_generated", narrow)
    divided, _ = both(target)
    assert [text.begin for text in divided] == [text.begin for text in expected]


def test_a_prompt_without_room_is_left_out() -> None:
    target = target_of(max_position_embeddings=8)
    together, alone = both(target)
    assert {_prompt(t).__len__() for t in together} <= {3, 5, 7}
    assert all(len(text.tokens) <= 8 for text in (*together, *alone))


# --- odd sizes ------------------------------------------------------------------------------------


def collected(folder: Path, length: int, num_tokens: int = 10) -> list[Path]:
    target = NativeModel(build("llama"))

    def answer(prompts: Any, layers: Any, **given: Any) -> Any:
        return answers(target, prompts, layers, **given)

    collect(
        folder,
        answer,
        lambda number: iter(PROMPTS),
        (1, 2),
        num_tokens=num_tokens,
        length=length,
        ends=(),
        report=lambda done: None,
    )
    return files_of(folder)


def test_answers_of_one_token_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"raise texts\.length \(now 1\)"):
        collected(tmp_path, 1)


def test_there_is_always_a_file_to_measure_on(tmp_path: Path) -> None:
    assert len(collected(tmp_path, 9)) == 2


def test_texts_without_room_for_an_answer_are_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    files = collected(tmp_path, 9)
    with pytest.raises(ConfigError, match=r"raise training\.longest"):
        next(lessons(files, 64, 2, Kept(32, (0, 1)), 0))


def test_prompts_that_are_all_too_long_are_an_error_and_no_endless_loop(run: HeadRun) -> None:
    short = replace(run, recipe=replace(run.recipe, texts=HeadTexts(10, prompt_length=1)))
    with pytest.raises(ConfigError, match=r"raise texts\.prompt_length"):
        next(prompts_of(short, 0))


def test_a_recipe_without_held_out_prompts_is_refused_before_anything_is_written(
    run: HeadRun,
) -> None:
    (run.data_dir / "lines.txt").write_text("one line that is a document\n")
    with pytest.raises(ConfigError, match="held-out prompts"), holding(run):
        pass
    assert not run.run_dir.exists()


def test_large_states_are_kept(tmp_path: Path) -> None:
    text = Text(torch.arange(4, dtype=torch.int32), 2, torch.full((3, 4), 7e4).bfloat16())
    write(tmp_path / "texts-00000.safetensors", [text])
    [again] = reader_for(torch.device("cpu"), [])(tmp_path / "texts-00000.safetensors")
    assert again.states.isfinite().all()


@pytest.mark.parametrize("hidden", [64, 256, 384, 512, 576, 768, 896, 960, 1024, 1536, 2048, 3584])
def test_a_shape_is_made_for_every_common_size(hidden: int) -> None:
    sizes = {"vocab_size": 512, "max_length": 64, "num_watchable": 4, "state_size": hidden}
    target: Any = SimpleNamespace(**sizes)
    layer = HeadShape().config_for(target).layer
    assert hidden % layer.num_attention_heads == 0
    assert layer.num_attention_heads % layer.num_key_value_heads == 0


@pytest.mark.parametrize(
    "shape",
    [
        HeadShape(num_attention_heads=5),
        HeadShape(num_attention_heads=4, num_key_value_heads=3),
        HeadShape(head_dim=7),
    ],
)
def test_a_shape_that_cannot_be_is_refused(shape: HeadShape) -> None:
    with pytest.raises(ConfigError):
        shape.config_for(target_of())


@pytest.mark.parametrize(
    ("architecture", "is_known"),
    [
        *((name, True) for name in ("llama", "qwen3", "phi3", "gemma3", "mistral_sliding")),
        *((name, False) for name in ("gemma2", "stablelm", "gpt2", "gpt_neox")),
    ],
)
def test_a_target_whose_logits_are_made_otherwise_is_refused(
    architecture: str, is_known: bool
) -> None:
    capped = {"final_logit_softcapping": 2.0} if architecture == "gemma2" else {}
    network = copy.deepcopy(build(architecture, **capped))
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 1:
                weight.add_(torch.empty_like(weight).normal_(0, 0.3, generator=source))
    if is_known:
        check_teaches(DecoderOnlyModel(network))
    else:
        with pytest.raises(ModelError, match=r"Llama family|tells nothing"):
            check_teaches(DecoderOnlyModel(network))


def test_a_recipe_says_how_much_of_the_loss_is_acceptance() -> None:
    training = HeadTraining(10, 0.1)
    assert 0 < training.acceptance <= 1
    recipe = HeadRecipe("n", "s", 0, HeadShape(), HeadTexts(10), training, ())
    assert recipe.training.acceptance_after < 1
