"""The command line with encoder–decoder pairs: it finds out by itself what a name or folder is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import transformers

import foredraft.zoo
from foredraft.cli.main import infer
from foredraft.cli.shell import Shell
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.loading import LoadOptions
from foredraft.models import Seq2SeqModel
from foredraft.zoo import ZOO_DIR
from tests.cli.conftest import Run
from tests.cli.transcript import without_clock
from tests.tiny import LINES, TEXT_VOCAB, build, noisy, tokenizer

PROMPT = "the fourth line is the last line of this little text."
BUNDLED, SEQ2SEQ = "bundled", "bundled-seq2seq"
CPU = LoadOptions(device="cpu")


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pantry of tiny models of both kinds, all with one tokenizer, in place of the real one."""
    for prefix, architecture in (("", "llama"), ("seq2seq_", "t5")):
        whole = build(architecture, vocab_size=TEXT_VOCAB)
        draft = noisy(architecture, noise=0.08, vocab_size=TEXT_VOCAB)
        for role, model in (("target", whole), ("drafter", draft)):
            folder = tmp_path / f"{prefix}{role}"
            model.save_pretrained(folder)
            tokenizer().save_pretrained(folder)
            recipe = (ZOO_DIR / folder.name / "recipe.toml").read_text(encoding="utf-8")
            (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    monkeypatch.setattr(foredraft.zoo, "ZOO_DIR", tmp_path)
    return tmp_path


def answers(run: Run, *flags: str) -> list[dict[str, Any]]:
    code, out, err = run("generate", "--prompt", PROMPT, "--device", "cpu", "--json", *flags)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("by", ["name", "folder", "two folders"])
def test_generate_finds_the_drafter_that_belongs_to_an_encoder_decoder(
    zoo: Path, run: Run, by: str
) -> None:
    flags = ["--target", SEQ2SEQ if by == "name" else str(zoo / "seq2seq_target")]
    if by == "two folders":
        flags += ["--drafter", str(zoo / "seq2seq_drafter")]
    found = answers(run, *flags)
    assert [o["method"] for o in found] == ["speculative", "ngram", "target"]
    assert len({o["text"] for o in found}) == 1
    assert all(o["matches_baseline"] is True for o in found)
    assert 0 < found[0]["acceptance_rate"] < 1


@pytest.mark.usefixtures("zoo")
def test_the_same_with_a_line_of_the_shell(run: Run) -> None:
    flags = ("--device", "cpu", "--target", SEQ2SEQ)
    code, out, err = run("--prompt", PROMPT, *flags, entry=infer)
    assert (code, err) == (0, "")
    headings = [line for line in without_clock(out).splitlines() if line.startswith("==")]
    assert headings == ["== Speculative ==", "== Ngram Assisted ==", "== Target AR =="]
    assert "acceptance rate" in out


def test_a_target_alone_needs_no_drafter_for_what_does_not_draft_with_one(
    zoo: Path, run: Run
) -> None:
    (zoo / "seq2seq_drafter" / "model.safetensors").unlink()
    for method in ("ngram", "target"):
        (only,) = answers(run, "--target", SEQ2SEQ, "--method", method)
        assert only["method"] == method
    both = answers(run, "--target", SEQ2SEQ, "--drafter", "none")
    assert [o["method"] for o in both] == ["ngram", "target"]
    flags = ("--device", "cpu", "--target", SEQ2SEQ, "--drafter", "none")
    _, out, _ = run("--prompt", PROMPT, *flags, entry=infer)
    assert "== Speculative ==" not in out
    code, _, err = run("generate", "--prompt", PROMPT, *flags, "--method", "speculative")
    assert (code, err.count("\n")) == (2, 1)
    assert "needs a draft model" in err


def test_missing_weights_are_one_sentence_with_the_command_that_makes_them(
    zoo: Path, run: Run
) -> None:
    for role in ("drafter", "target"):
        (zoo / f"seq2seq_{role}" / "model.safetensors").unlink()
        code, out, err = run("generate", "--prompt", PROMPT, "--target", SEQ2SEQ)
        assert (code, out) == (2, "")
        assert err == (
            f"error: 'bundled-seq2seq' has no weights here yet (seq2seq_{role}); make them with: "
            f"foredraft train seq2seq_{role} --data FOLDER --out {zoo / f'seq2seq_{role}'}\n"
        )


@pytest.mark.usefixtures("zoo")
def test_verify_checks_an_encoder_decoder_pair(run: Run) -> None:
    flags = ("--target", SEQ2SEQ, "--device", "cpu", "--samples", "600", "--length", "12")
    code, out, _ = run("verify", *flags, "--prompt", LINES[0], "--verifier", "block", "--json")
    report = json.loads(out)
    assert (code, report["passed"]) == (0, True)
    assert report["target"] == report["drafter"] == SEQ2SEQ
    assert len({f["check"] for f in report["findings"]}) == 4


def test_models_lists_both_pairs(zoo: Path, run: Run) -> None:
    (zoo / "seq2seq_drafter" / "model.safetensors").unlink()
    _, out, _ = run("models")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert set(lines) - {"smollm2-head"} == {
        *("drafter", "seq2seq_drafter", "seq2seq_target", "target"),
    }
    assert " MB " in lines["seq2seq_target"]
    assert "not trained yet" in lines["seq2seq_drafter"]


def test_a_session_switches_between_the_kinds_and_the_drafter_follows(zoo: Path) -> None:
    engine = Engine.load(options=CPU)
    shell = Shell(engine, DecodingConfig(length=8), View(io.StringIO()), CPU)
    for name, is_seq2seq in ((SEQ2SEQ, True), (BUNDLED, False), (zoo / "seq2seq_target", True)):
        shell.run([f"/model target {name}", PROMPT], echo=False)
        assert isinstance(shell.engine.target.model, Seq2SeqModel) is is_seq2seq
        assert shell.drafter_name == (SEQ2SEQ if is_seq2seq else BUNDLED)
        assert len({r.completion.text for r in shell.results}) == 1
    stream = shell.view.stream
    assert isinstance(stream, io.StringIO)
    assert "error" not in stream.getvalue()


@pytest.mark.usefixtures("zoo")
def test_what_makes_no_sense_for_such_a_pair_is_refused_and_the_session_goes_on() -> None:
    engine = Engine.load(target=SEQ2SEQ, options=CPU)
    shell = Shell(engine, DecodingConfig(length=8), View(io.StringIO()), CPU)
    engine.target.tokenizer.chat_template = None
    shell.run(["/chat on", PROMPT, "/chat off", "/model drafter no/such", PROMPT], echo=False)
    stream = shell.view.stream
    assert isinstance(stream, io.StringIO)
    refusals = [line for line in stream.getvalue().splitlines() if line.startswith("error")]
    assert "no chat template; switch chat off" in refusals[0]
    assert "no/such" in refusals[1]
    assert len(refusals) == 2
    assert len(shell.results) == 3


def test_a_model_that_listens_is_refused_by_name(tmp_path: Path, run: Run) -> None:
    transformers.WhisperConfig().save_pretrained(tmp_path)
    code, _, err = run("generate", "--prompt", PROMPT, "--target", str(tmp_path))
    assert code == 2
    assert "listens (WhisperConfig) and prompts are text; give its features to" in err
