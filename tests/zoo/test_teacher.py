"""What a teacher writes for its drafter: in its own words, once, and half of what is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foredraft.cli.main import main
from foredraft.loading import LoadOptions, load
from foredraft.zoo import streams, teacher
from foredraft.zoo.corpus import split
from foredraft.zoo.evaluation import Measured
from foredraft.zoo.publish import publish
from foredraft.zoo.run import Run
from foredraft.zoo.training import Progress, prepare, train
from tests.texts import first_pass
from tests.zoo.tiny_recipe import drafter_recipe, make_run

CPU = LoadOptions(device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A teacher."""
    run = make_run(tmp_path_factory.mktemp("teacher"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "HELD_OUT_TOKENS", 10 * 257)
        model, progress = train(run, ignore)
    publish(run, model, prepare(run), progress, Measured())
    return run


def ignore(progress: Progress, loss: float) -> None:
    """Report nothing."""


@pytest.fixture
def written(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[list[int]]]:
    """Return what asks a teacher for 300 tokens in batches of four documents."""
    monkeypatch.setattr(teacher, "TOGETHER", 4)
    run = make_run(tmp_path, drafter_recipe(finished.out_dir))
    run.run_dir.mkdir()
    tokenizer = prepare(run)
    documents = [split(source, run.data_dir, held_out=False) for source in run.recipe.data]

    def write() -> list[list[int]]:
        texts = teacher.continuations(run, tokenizer, documents, 300, lambda done: None)
        return [text.tolist() for text in texts]

    return write


def test_the_teacher_continues_documents_in_its_own_words(
    finished: Run, written: Callable[[], list[list[int]]]
) -> None:
    texts = written()
    assert 300 <= sum(map(len, texts)) < 300 + 4 * (128 + 48)
    network = load(str(finished.out_dir), "target", CPU)
    eos = network.tokenizer.eos_token_id
    assert all(eos not in text[:-1] for text in texts)
    choices, likely = 0, 0
    for text in texts[:4]:  # the first batch is greedy
        logits = first_pass(network.model, text, len(text))
        own = [a == b for a, b in zip(logits.argmax(-1).tolist(), text[1:], strict=False)]
        choices, likely = choices + len(own[48:]), likely + sum(own[48:])
    assert likely >= 0.8 * choices > 0  # written in bfloat16, read in float32


def test_what_the_teacher_has_written_is_kept_and_a_torn_line_is_not(
    tmp_path: Path, written: Callable[[], list[list[int]]]
) -> None:
    whole, path = written(), tmp_path / "run" / "continued.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) > 1
    path.write_text(lines[0] + lines[1][:20])
    assert written() == whole
    assert path.read_text() == "".join(lines)


def test_half_of_what_a_drafter_reads_may_be_its_teachers(
    finished: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "HELD_OUT_TOKENS", 10 * 257)
    learns = "weight = 1.0\ncontinued_tokens = 2000\ncontinued_share = 0.5"
    recipe = drafter_recipe(finished.out_dir).replace("weight = 1.0", learns)
    run = make_run(tmp_path, recipe)
    flags = ["--run-dir", str(run.run_dir), "--out", str(run.out_dir), "--no-compile"]
    main(["train", str(run.recipe_path), *flags, "--device", "cpu", "--data", str(run.data_dir)])
    assert re.search(r"the teacher has written [\d,]+ of 2,000 tokens", capsys.readouterr().out)
    assert "50.0% of its training tokens" in (run.out_dir / "CARD.md").read_text(encoding="utf-8")
    stream = np.fromfile(run.run_dir / "train.bin", dtype=np.uint16).tolist()
    lines = (run.run_dir / "continued.jsonl").read_text().splitlines()
    written = {tuple(text) for line in lines for text in json.loads(line)}
    tokenizer = prepare(run)
    documents: list[list[int]] = [[]]
    for token in stream:
        if token == tokenizer.bos_token_id:
            documents.append([])
        documents[-1].append(token)
    found = sum(len(d) for d in documents if tuple(d) in written)
    assert 0.3 < found / len(stream) < 0.7
