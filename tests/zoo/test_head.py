"""Heads in training: what they learn from, that they learn it, and that a run goes on."""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foredraft.errors import ConfigError
from foredraft.loading import LoadedModel, LoadOptions, load_drafter
from foredraft.loading.head import laid_out
from foredraft.models import DecoderOnlyModel, Network
from foredraft.models.head import TorchHead
from foredraft.native.network import NativeModel
from foredraft.zoo import HEADS_DIR, head_run
from foredraft.zoo.head_card import conditional_by_position, measure_head, publish_head
from foredraft.zoo.head_recipe import (
    GENERAL,
    QUICK,
    HeadRecipe,
    HeadShape,
    HeadTexts,
    HeadTraining,
    load_head_recipe,
)
from foredraft.zoo.head_run import HeadRun, collect_texts, frequent_tokens, holding, train_head
from foredraft.zoo.head_texts import answers, files_of, mixed, read
from foredraft.zoo.head_training import Kept, Teacher, learn, lesson_of, lessons, unrolled
from tests.heads import module_for
from tests.tiny import TEXT_VOCAB, VOCAB, build, random_tokens, tokenizer

PROMPTS = [random_tokens(random.Random(i), 3 + i) for i in range(5)]
KEPT = Kept(32, (0, 1))


def target_of() -> Network:
    return NativeModel(build("llama"))


def texts_of(target: Network, layers: tuple[int, ...] = (1, 2)) -> list[head_run.Lesson]:
    return list(answers(target, PROMPTS, layers, length=12, ends=(), seed=3))  # type: ignore[arg-type]


def test_answers_are_the_targets_own_and_come_with_its_states() -> None:
    target = target_of()
    texts = texts_of(target)
    assert len(texts) == len(PROMPTS)
    for text in texts:
        tokens = text.tokens.tolist()
        assert tokens[: text.begin] in PROMPTS
        context = target.open(tokens)
        features = context.watch((1, 2))
        logits = context.extend(tokens, len(tokens))
        expected = features.between(0, len(tokens) - 1)
        assert torch.allclose(text.states.float(), expected, atol=2e-2, rtol=8e-3)  # bfloat16
        if PROMPTS.index(tokens[: text.begin]) % 2 == 0:  # greedy ones
            assert logits[text.begin - 1 : -1].argmax(1).tolist() == tokens[text.begin :]


def test_a_lesson_puts_each_token_beside_the_states_before_it() -> None:
    texts = texts_of(target_of())
    lesson = lesson_of(texts, KEPT)
    assert lesson.told.shape == (5, max(len(t.tokens) for t in texts) - 2, 64)
    for row, text in enumerate(texts):
        for place in range(len(text.tokens) - 2):
            assert lesson.tokens[row, place] == text.tokens[place + 1]
            assert torch.equal(lesson.told[row, place], text.states[place].float())
            assert torch.equal(lesson.last[row, place], text.states[place + 1, 32:].float())
            assert bool(lesson.counts[row, place]) == (place + 2 >= text.begin)
        assert not lesson.counts[row, len(text.tokens) - 2 :].any()


@pytest.mark.parametrize("norms_first", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_what_is_trained_is_what_drafts(kind: str, norms_first: bool) -> None:
    """The unrolled states of a row are those that a head makes behind it, step by step."""
    target = target_of()
    module = module_for(target, kind, layers=(1, 2), norm_before_residual=norms_first)
    [text] = list(answers(target, PROMPTS[:1], (1, 2), length=14, ends=(), seed=3))
    lesson = lesson_of([text], KEPT)
    words = target.embedding()[lesson.tokens]
    steps = 4
    with torch.no_grad():
        made = list(unrolled(module, words, lesson.told, steps))
    head = laid_out(module, target)
    assert isinstance(head, TorchHead)
    tokens = text.tokens.tolist()
    for row in range(len(tokens) - 2 - steps):
        read_ = head.open(tokens)
        head.skip_to(read_, 1)
        head.tell(read_, text.states[: row + 1].float())
        fed = tokens[1 : row + 2]
        for step in range(steps):
            read_.extend(fed)
            assert torch.allclose(read_.memory.state, made[step][0, row], atol=1e-4), (row, step)
            fed = [tokens[row + 2 + step]]


def test_the_loss_is_the_cross_entropy_to_the_targets_distribution() -> None:
    target = target_of()
    module = module_for(target, layers=(1, 2))
    texts = texts_of(target)
    lesson = lesson_of(texts, KEPT)
    gain, epsilon = target.last_norm()
    learnt = learn(module, Teacher(target.embedding(), gain, epsilon), lesson, 2)
    entropies = list[float]()
    with torch.no_grad():
        [states] = unrolled(module, target.embedding()[lesson.tokens], lesson.told, 1)
    for row, text in enumerate(texts):
        tokens = text.tokens.tolist()
        goal = target.open(tokens).extend(tokens, len(tokens))[:, module.tokens].softmax(-1)
        for place in range(max(text.begin - 2, 0), len(tokens) - 2):
            with torch.no_grad():
                said = module.logits(states[row, place]).log_softmax(-1)
            entropies.append(-float((goal[place + 1] * said).sum()))
    assert learnt.cross_entropy[0] == pytest.approx(sum(entropies) / len(entropies), rel=1e-2)
    assert learnt.loss.item() == pytest.approx(sum(learnt.cross_entropy) / 2)
    (right, seen), (_, later) = learnt.agreement
    assert 0 <= right <= seen == len(entropies)
    assert later <= right


def test_every_text_is_met_once_an_epoch_and_the_seed_decides_the_order(tmp_path: Path) -> None:
    target = target_of()
    from foredraft.zoo.head_texts import write

    for number in range(3):
        texts = list(answers(target, PROMPTS, (1, 2), length=8 + number, ends=(), seed=number))
        write(tmp_path / f"texts-{number:05}.safetensors", texts)
    files = files_of(tmp_path)
    assert [len(read(file)) for file in files] == [5, 5, 5]
    per_epoch = sum(len(t.tokens) - 2 for file in files for t in read(file))

    def rows(seed: int) -> list[int]:
        source, seen, sums = lessons(files, 40, 64, KEPT, seed), 0, list[int]()
        while seen < per_epoch:
            lesson = next(source)
            seen += int((lesson.told.abs().sum(-1) > 0).sum())
            sums.append(int(lesson.tokens.sum()))
        assert seen == per_epoch
        return sums

    assert rows(1) == rows(1) != rows(2)


def test_sources_are_mixed_by_their_shares() -> None:
    source = mixed([["a"], ["b", "c"]], [0.25, 0.75], seed=0)
    drawn = [next(source) for _ in range(400)]
    assert drawn.count("a") == 100
    assert abs(drawn.count("b") - drawn.count("c")) <= 1


@pytest.fixture
def run(tmp_path: Path) -> HeadRun:
    (tmp_path / "lines.txt").write_text("\n<|endoftext|>\n".join(f"The {i} fox" for i in range(60)))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        """
name = "tiny"
summary = "For a test."
seed = 1
[head]
layers = [1, 2]
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 8
intermediate_size = 32
draft_vocab_size = 64
[texts]
tokens = 2500
length = 16
[training]
steps = 40
learning_rate = 2e-2
rows_per_step = 256
warmup_steps = 4
unrolled_after = 0.5
[[data]]
path = "lines.txt"
format = "documents"
share = 1.0
licence = "ours"
"""
    )
    network = DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB))
    target = LoadedModel("tiny", network, tokenizer(), (1,))
    device = torch.device("cpu")
    return HeadRun(
        load_head_recipe(recipe).for_target("tiny"),
        recipe,
        tmp_path,
        tmp_path / "run",
        tmp_path / "out",
        target,
        device,
    )


def trained(run: HeadRun, stop_after: int | None = None) -> tuple[torch.nn.Module, list[float]]:
    losses = list[float]()

    def report(reached: head_run.Progress, loss: float) -> None:
        losses.append(loss)
        if reached.step == stop_after:
            raise KeyboardInterrupt

    with holding(run):
        collect_texts(run, lambda done: None)
        module, _ = train_head(run, report)
    return module, losses


def test_a_run_learns_goes_on_where_it_was_stopped_and_is_read_back(run: HeadRun) -> None:
    whole, losses = trained(replace(run, run_dir=run.run_dir.with_name("whole")))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    with pytest.raises(KeyboardInterrupt):
        trained(run, stop_after=17)
    before = len(files_of(run.texts_dir))
    again, rest = trained(run)
    assert len(rest) == 40 - 17
    assert len(files_of(run.texts_dir)) == before
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name

    measured = measure_head(run, again, num_prompts=3)
    progress = head_run.Progress(40, 1.0, [(40, losses[-1], losses[-1])])
    folder = publish_head(run, again, progress, measured)
    assert sorted(p.name for p in folder.iterdir()) == [
        *("CARD.md", "config.json", "model.safetensors", "recipe.toml"),
    ]
    held = tomllib.loads((folder / "recipe.toml").read_text())["measured"]
    assert held["steps"] == 40
    assert len(held["conditional_by_position"]) <= 4
    assert "EAGLE-3" in (folder / "CARD.md").read_text()
    assert json.loads((folder / "config.json").read_text())["speculators_model_type"] == "eagle3"
    drafter = load_drafter(str(folder), run.target, LoadOptions())
    context = run.target.model.open([3, 4, 5])
    assert drafter.model.fits(run.target.model)  # type: ignore[attr-defined]
    assert context.network is run.target.model


def test_a_run_folder_of_another_run_is_refused(run: HeadRun) -> None:
    with holding(run):
        pass
    other = replace(run, recipe=replace(run.recipe, seed=2))
    with pytest.raises(ConfigError, match="began with seed 1 \\(now 2\\)"), holding(other):
        pass


def test_frequent_tokens_are_counted_in_answers_alone(run: HeadRun) -> None:
    with holding(run):
        collect_texts(run, lambda done: None)
    files = files_of(run.texts_dir)
    chosen = frequent_tokens(files, 5, TEXT_VOCAB)
    counts = torch.zeros(TEXT_VOCAB, dtype=torch.int64)
    for file in files:
        for text in read(file):
            for token in text.tokens[text.begin :].tolist():
                counts[token] += 1
    assert chosen.tolist() == sorted(chosen.tolist())
    assert int(counts[chosen].min()) >= int(counts.sort(descending=True).values[4])


@pytest.mark.parametrize("path", [GENERAL, QUICK])
def test_the_recipes_of_this_package_are_read(path: Path) -> None:
    recipe = load_head_recipe(path)
    assert sum(source.share for source in recipe.data) == pytest.approx(1.0, abs=0.01)


def test_a_shape_follows_its_target() -> None:
    shape = HeadShape(draft_vocab_size=1000)
    config = shape.config_for(NativeModel(build("llama", hidden_size=576, num_attention_heads=8)))
    layer = config.layer
    assert config.layers == (1, 2)
    assert (layer.num_attention_heads, layer.num_key_value_heads, layer.head_dim) == (4, 2, 64)
    assert (layer.intermediate_size, config.draft_vocab_size) == (288, VOCAB)
    with pytest.raises(ConfigError, match="legal for this target: 0 … 2"):
        HeadShape(layers=(3,)).config_for(target_of())


ODD = {
    "name = ": "nom = ",
    "tokens = 2500": "tokens = 0",
    "steps = 40": "steps = 1.5",
    "layers = [1, 2]": "layers = ['low']",
    "[[data]]": "[data]",
    "unrolled_after = 0.5": "unrolled_after = 2",
}


@pytest.mark.parametrize("there", ODD)
def test_an_odd_recipe_is_refused_and_named(there: str, run: HeadRun) -> None:
    text = run.recipe_path.read_text()
    assert there in text
    run.recipe_path.write_text(text.replace(there, ODD[there]))
    with pytest.raises(ConfigError, match=r"recipe .* cannot be read"):
        load_head_recipe(run.recipe_path)


def test_a_head_needs_its_target() -> None:
    recipe = HeadRecipe("n", "s", 0, HeadShape(), HeadTexts(10), HeadTraining(1, 0.1), ())
    assert recipe.for_target("tiny").target == "tiny"
    with pytest.raises(ConfigError, match="--target NAME"):
        recipe.for_target("")


def test_acceptance_by_place_counts_what_was_judged() -> None:
    from foredraft.core import StepRecord

    records = [
        StepRecord([1, 2, 3], 3, [1, 2, 3, 4], 0.1, 0.1),  # all stand
        StepRecord([1, 2, 3], 1, [1, 9], 0.1, 0.1),  # the second was rejected
        StepRecord([1, 2], 0, [9], 0.1, 0.1),
        StepRecord([1, 2, 3], 1, [1], 0.1, 0.1),  # an end token: nothing was rejected
    ]
    assert conditional_by_position(records) == [3 / 4, 1 / 2, 1.0]


def test_bundled_heads_say_whose_they_are() -> None:
    for folder in HEADS_DIR.glob("*/config.json"):
        assert len(json.loads(folder.read_text())["target_fingerprint"]) == 64
        assert folder.with_name("CARD.md").is_file()
        assert (folder.parent / "model.safetensors").stat().st_size <= 9_000_000
