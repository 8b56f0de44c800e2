"""A recipe is read whole or refused with its name: nothing misspelt passes in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from foredraft.errors import ConfigError
from foredraft.zoo import ZOO_DIR, bundled_path, describe_bundled
from foredraft.zoo.recipe import LlamaShape, Recipe, load_recipe, recipe_path
from tests.zoo.tiny_recipe import LICENCE, RECIPE, drafter_recipe

BUNDLED = sorted(path.parent.name for path in ZOO_DIR.glob("*/recipe.toml"))


def read(folder: Path, text: str) -> Recipe:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(str(path))


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read(folder, text)
    assert "\n" not in str(refused.value)
    path, reason = str(refused.value).split("own.toml")
    assert path.endswith(str(folder / " ").rstrip())
    return reason


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_recipe_can_be_read_by_name_and_by_path(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe == load_recipe(str(recipe_path(name)))
    assert recipe.name == name
    assert recipe_path(name).parent == bundled_path(name)
    shape, training = recipe.model, recipe.training
    if isinstance(shape, LlamaShape):
        for length in (training.sequence_length, training.final_sequence_length):
            assert training.tokens_per_step % length == 0  # else a step trains on fewer tokens
            assert length <= shape.max_position_embeddings
        assert shape.hidden_size % shape.num_attention_heads == 0
    assert sum(s.share for s in recipe.data) == pytest.approx(1, abs=0.1)
    assert all(s.licence for s in recipe.data)


@pytest.mark.parametrize("pair", ["{}", "seq2seq_{}"])
def test_a_bundled_drafter_learns_from_its_target_with_its_tokenizer(pair: str) -> None:
    target, drafter = load_recipe(pair.format("target")), load_recipe(pair.format("drafter"))
    assert drafter.distillation is not None
    assert drafter.distillation.teacher == drafter.tokenizer.from_model == target.name
    assert drafter.tokenizer.vocab_size == target.tokenizer.vocab_size
    assert {s.path for s in drafter.data} <= {s.path for s in target.data}
    assert target.distillation is None


def test_the_bundled_models_are_described_one_a_line() -> None:
    lines = describe_bundled()
    names = [line.split()[0] for line in lines]
    assert names[: len(BUNDLED)] == BUNDLED
    assert all(name.endswith("-head") for name in names[len(BUNDLED) :])
    for line, name in zip(lines, BUNDLED, strict=False):
        assert line.endswith(load_recipe(name).summary)


def test_a_recipe_holds_what_its_file_says_and_defaults_for_the_rest(tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE)
    assert (recipe.name, recipe.seed) == ("tiny", 3)
    assert recipe.model.num_key_value_heads == 1
    assert recipe.model.rope_theta == 10_000.0
    assert recipe.training.learning_rate == 0.01
    assert recipe.training.weight_decay == 0.1
    assert [s.licence for s in recipe.data] == [LICENCE, "Own pairs, CC0-1.0"]
    assert recipe.distillation is None


def test_a_distilled_recipe_names_its_teacher(tmp_path: Path) -> None:
    recipe = read(tmp_path, drafter_recipe(Path("some/folder")))
    assert recipe.distillation is not None
    assert recipe.distillation.teacher == recipe.tokenizer.from_model == "some/folder"
    assert recipe.distillation.weight == 1.0
    assert recipe.distillation.continued_tokens == 0


def test_only_a_causal_model_is_given_what_its_teacher_writes(tmp_path: Path) -> None:
    text = recipe_path("seq2seq_drafter").read_text(encoding="utf-8")
    wrong = text.replace("[distillation]", "[distillation]\ncontinued_tokens = 10", 1)
    assert "continued_tokens is of causal models" in refusal(tmp_path, wrong)


@pytest.mark.parametrize("name", ["targt", "no/such/recipe.toml", ""])
def test_a_recipe_that_does_not_exist_is_refused_with_the_bundled_names(name: str) -> None:
    with pytest.raises(ConfigError, match="no recipe") as refused:
        load_recipe(name)
    assert repr(name) in str(refused.value)
    assert all(bundled in str(refused.value) for bundled in BUNDLED)


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("steps = 6", "stpes = 6", "stpes"),
        ("sample_mb", "sample_megabytes", "sample_megabytes"),
        ("[[data]]", "[[data]]\nlicense = 'x'", "license"),
        ('name = "tiny"', 'title = "tiny"\nname = "tiny"', "title"),
        ("[model]", "[distilation]\nteacher = 'target'\n[model]", "distilation"),
    ],
    ids=lambda text: text[:16],
)
def test_an_unknown_key_is_refused_by_its_name(
    tmp_path: Path, right: str, wrong: str, key: str
) -> None:
    assert f"unknown key {key!r}" in refusal(tmp_path, RECIPE.replace(right, wrong, 1))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('name = "tiny"\n', "name"),
        ("seed = 3\n", "seed"),
        ("hidden_size = 32\n", "hidden_size"),
        ("learning_rate = 1e-2\n", "learning_rate"),
        ('path = "stories.txt"\n', "path"),
    ],
    ids=lambda text: text.split()[0],
)
def test_a_missing_key_is_refused_in_plain_words(tmp_path: Path, line: str, key: str) -> None:
    sentence = refusal(tmp_path, RECIPE.replace(line, "", 1))
    assert "missing" in sentence
    assert repr(key) in sentence
    assert "__init__" not in sentence


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("hidden_size = 32", 'hidden_size = "32"', "hidden_size"),
        ("seed = 3", 'seed = "three"', "seed"),
        ("seed = 3", "seed = 3.5", "seed"),
        ("steps = 6", "steps = 6.5", "steps"),
        ("share = 0.75", "share = true", "share"),
        ('name = "tiny"', "name = 3", "name"),
    ],
    ids=lambda text: text,
)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(
    tmp_path: Path, right: str, wrong: str, key: str
) -> None:
    assert key in refusal(tmp_path, RECIPE.replace(right, wrong, 1))


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("steps = 6", "steps = 0", "steps"),
        ("share = 0.75", "share = 0.0", "share"),
        ("sequence_length = 32", "sequence_length = 256", "sequence_length"),
        ("vocab_size = 300", "vocab_size = 100", "vocab_size"),
        ("vocab_size = 300", "vocab_size = 70000", "vocab_size"),
    ],
    ids=lambda text: text,
)
def test_a_value_out_of_range_is_refused_before_anything_is_computed(
    tmp_path: Path, right: str, wrong: str, key: str
) -> None:
    assert key in refusal(tmp_path, RECIPE.replace(right, wrong, 1))


@pytest.mark.parametrize(
    "raw", [b"name = ", b"\xff\xfe", b"", b'data = "x"'], ids=["toml", "bytes", "empty", "data"]
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "own.toml").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"own\.toml"):
        load_recipe(str(tmp_path / "own.toml"))
