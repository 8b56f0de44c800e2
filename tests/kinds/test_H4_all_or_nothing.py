"""A change of models or settings happens whole or not at all, and the shell goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig

from foredraft.config import DecodingConfig
from tests.cli.test_results import random_model
from tests.cli.transcript import open_shell, printed
from tests.toy_engine import PROMPT, STORY, tokenizer, toy_engine

FIELDS = sorted(LlamaConfig().to_diff_dict() | LlamaConfig().to_dict())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model")
    random_model(len(tokenizer())).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize("field", FIELDS)
def test_a_mistyped_field_of_a_config_leaves_the_old_models(field: str, folder: Path) -> None:
    file = folder / "config.json"
    right = file.read_text(encoding="utf-8")
    engine = toy_engine()
    shell = open_shell(engine)
    try:
        file.write_text(json.dumps(json.loads(right) | {field: ["mistyped"]}), encoding="utf-8")
        shell.run([f"/model drafter {folder}"], echo=False)
    finally:
        file.write_text(right, encoding="utf-8")
    if shell.engine is engine:
        assert printed(shell).startswith("error: ")
        assert printed(shell).count("\n") == 1
    shell.run([PROMPT], echo=False)
    assert shell.results[0].completion.text == STORY


@pytest.mark.parametrize(
    "line",
    [
        f"/gamma 1{'0' * 309}",
        f"/length 1{'0' * 309}",
        f"/egag_gamma_max 1{'0' * 309}",
        f"/top_k_filler 1{'0' * 309}",
        f"/seed 1{'0' * 309}",
        "/policy svip(threshold=1e308)",
        "/processor multinomial 5e-324",
        "/processor topk 1e-300 5",
    ],
    ids=lambda line: line[:24],
)
@pytest.mark.parametrize("egag", [False, True])
def test_no_setting_ends_the_shell_at_the_next_prompt(line: str, egag: bool) -> None:
    shell = open_shell(config=DecodingConfig(egag=egag))
    engine = shell.engine
    shell.run([line, PROMPT, "/stats", "/help"], echo=False)
    assert shell.engine is engine
    shell.config = DecodingConfig()
    shell.run([PROMPT], echo=False)
    assert shell.results[0].completion.text == STORY
