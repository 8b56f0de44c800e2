"""The acceptance of a distilled drafter, and the card that says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from foredraft.tracing import Summary, summarize
from foredraft.zoo import evaluation
from foredraft.zoo.corpus import split
from foredraft.zoo.evaluation import Measured, held_out_acceptance
from foredraft.zoo.networks import build_network
from foredraft.zoo.publish import publish
from foredraft.zoo.run import Run
from foredraft.zoo.teacher import load_teacher
from foredraft.zoo.training import Progress, prepare
from tests.zoo.tiny_recipe import drafter_recipe, make_run

REACHED = Progress(step=6, seconds=60.0, losses=[(6, 5.25, 5.5)])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose teacher, never trained, repeats its last token; nothing is trained."""
    monkeypatch.setattr(evaluation, "NEW_TOKENS", 9)
    plain = make_run(tmp_path)
    tokenizer, model = prepare(plain), build_network(plain.recipe, prepare(plain))
    model.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    return make_run(tmp_path, drafter_recipe(tmp_path / "teacher"), run_dir=tmp_path / "student")


def measured(run: Run, drafter: Any, num_documents: int) -> Summary:
    teacher, tokenizer = load_teacher(run), prepare(run)
    return held_out_acceptance(run, teacher, drafter, tokenizer, num_documents=num_documents)


def test_a_drafter_that_is_its_teacher_is_always_accepted(run: Run) -> None:
    itself = LlamaForCausalLM.from_pretrained(run.data_dir.parent / "teacher")
    found = measured(run, itself, num_documents=2)
    assert found.conditional_acceptance_rate == found.acceptance_rate == 1.0
    assert found.num_emitted_tokens == 2 * 9
    assert found.num_steps == 2 * 3  # one token, five, and the last three


def test_no_more_documents_are_measured_than_are_held_out(run: Run) -> None:
    held_out = split(run.recipe.data[0], run.data_dir, held_out=True)
    itself = LlamaForCausalLM.from_pretrained(run.data_dir.parent / "teacher")
    found = measured(run, itself, num_documents=len(held_out) + 5)
    assert found.num_emitted_tokens == len(held_out) * 9


def test_the_card_and_the_recipe_say_what_was_measured(run: Run) -> None:
    tokenizer = prepare(run)
    model: Any = build_network(run.recipe, tokenizer)
    summary = replace(
        summarize([]),
        num_drafted_tokens=1200,
        acceptance_rate=0.5,
        conditional_acceptance_rate=0.625,
        mean_acceptance_length=3.5,
    )
    folder = publish(run, model, tokenizer, REACHED, Measured(summary))
    recipe = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert recipe.endswith("\nconditional_acceptance_rate = 0.6250\n")
    assert "\ntrain_loss = 5.2500  #" in recipe
    assert "\nheld_out_loss = 5.5000  #" in recipe
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    words = " ".join(card.split())
    assert "acceptance rate 62.5%, 50.0% of 1,200 drafted tokens accepted, 3.5" in words
    assert "\n| 6 | 5.250 | 5.500 |\n" in card
    assert "Final held-out perplexity 244.7 a token" in card


def test_a_drafter_that_never_drafted_is_published_all_the_same(run: Run) -> None:
    tokenizer = prepare(run)
    model: Any = build_network(run.recipe, tokenizer)
    folder = publish(run, model, tokenizer, REACHED, Measured(summarize([])))
    assert (folder / "CARD.md").is_file()
