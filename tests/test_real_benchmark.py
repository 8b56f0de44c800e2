"""`benchmarks/real.py`: who takes part, whose turn it is, what is bound; workers are stand-ins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bounds
import contest
import pytest
import real
import real_worker
import tables
from contest import CONTENDERS, GREEDY, NUCLEUS, Contest
from real_ours import PLAIN, SUFFIX
from side_by_side import Measured, Sample

from foredraft.bench.prompt_sets import PromptItem
from foredraft.errors import ModelError
from foredraft.loading.named import resolve_name

ITEMS = [PromptItem(f"p{i}", kind, "Hello", 4) for i, kind in enumerate(("chat", "copying"))]
FAKE = """
import json, sys
told = json.loads(sys.argv[1])
if told["kind"] == "transformers":
    sys.exit(3)
print(json.dumps({"version": "fake", "import_bytes": 5, "load_seconds": 0.5}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    seconds = 1 + abs(request["draft"] - 4)
    found = {"tokens": [1, 2], "prompt_tokens": 3, "seconds": seconds, "first_seconds": 0.5}
    found |= {"num_first": 1, "peak_bytes": 7}
    if request["sampler"] == "nucleus" and told["kind"] == "openvino":
        found = {"failed": "ValueError: no"}
    print(json.dumps(found), flush=True)
"""


def template(messages: list[dict[str, str]], **_: Any) -> str:
    return "<s>" + "".join(f"[{one['role']}] {one['content']}" for one in messages)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contest:
    """A contest whose workers compute nothing."""
    program = tmp_path / "fake.py"
    program.write_text(FAKE)
    monkeypatch.setattr(contest, "PROGRAM", program)
    monkeypatch.setattr(contest, "python_of", lambda kind: sys.executable)
    return Contest({"path": "a.gguf", "model": "a", "threads": 1}, talker(begins=True))


def talker(*, begins: bool, template: Any = template) -> Any:
    """Return a tokenizer whose template writes a begin token, and that adds one itself or not."""
    return SimpleNamespace(
        chat_template="some" if template else None,
        apply_chat_template=template,
        encode=lambda text: [1, 5] if begins else [5],
        bos_token="<s>",
        bos_token_id=1,
    )


def test_a_prompt_has_the_begin_token_once() -> None:
    def text(tokenizer: Any) -> str:
        return Contest({}, tokenizer).text(ITEMS[0])

    assert text(talker(begins=True)) == "[user] Hello", "everybody adds it"
    assert text(talker(begins=False)) == "<s>[user] Hello", "nobody does"
    assert text(talker(begins=True, template=None)) == "Hello"


def test_who_cannot_load_or_sample_is_left_out_by_name(fake: Contest) -> None:
    with fake:
        fake.begin([PLAIN, "transformers", "openvino"])
        can = fake.warm_up(ITEMS[0], [GREEDY, NUCLEUS])
    assert can == {GREEDY: [PLAIN, "openvino"], NUCLEUS: [PLAIN]}
    assert fake.left_out == {
        "transformers": "a worker ended; what it said stands above",
        "openvino, nucleus": "ValueError: no",
    }


def test_an_absent_peer_is_left_out_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(contest.PEERS, str(tmp_path))
    with Contest({"threads": 1}, SimpleNamespace()) as found:  # type: ignore[arg-type]
        found.begin(["llamacpp", "openvino_lookup"])
    assert list(found.left_out) == ["llamacpp", "openvino_lookup"]
    assert "uv venv" in found.left_out["llamacpp"]
    assert "openvino-genai" in found.left_out["openvino_lookup"]
    assert not found.workers


def test_whoever_drafts_gets_its_quickest_draft_length(fake: Contest) -> None:
    with fake:
        fake.begin([PLAIN, SUFFIX])
        speeds = fake.choose_drafts([PLAIN, SUFFIX], ITEMS)
    assert list(speeds) == [SUFFIX]
    assert list(speeds[SUFFIX]) == list(contest.DRAFTS)
    assert fake.drafts == {PLAIN: 0, SUFFIX: 4}


def test_all_answer_a_prompt_before_the_next_and_take_turns(
    fake: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    ask = Contest.ask

    def noted(one: Contest, name: str, text: str, *rest: Any) -> dict[str, Any]:
        asked.append((name, text))
        return ask(one, name, text, *rest)

    monkeypatch.setattr(Contest, "ask", noted)
    with fake:
        fake.begin([PLAIN, SUFFIX])
        measured = fake.measure([PLAIN, SUFFIX], ITEMS, GREEDY, 2)
    assert [name for name, _ in asked] == [PLAIN, SUFFIX, SUFFIX, PLAIN] * 2
    assert {text for _, text in asked} == {"[user] Hello"}, "as its users send it"
    assert not any(text.startswith("<s>") for _, text in asked), "a tokenizer adds it"
    assert {len(samples) for samples in measured.samples.values()} == {4}
    assert fake.memory == {PLAIN: 7, SUFFIX: 7}


def test_everybody_has_a_first_turn() -> None:
    assert {contest.rotated("abc", turn)[0] for turn in range(3)} == set("abc")


def test_a_worker_says_why_it_failed() -> None:
    class Broken:
        version, import_bytes = "0", None

        def generate(self, request: dict[str, Any]) -> dict[str, Any]:
            raise ValueError("no")

    assert real_worker.answered(Broken(), {}) == {"failed": "ValueError: no"}


def figure(median: float) -> bounds.Figure:
    return {"median": median, "low": None, "high": None}


@pytest.mark.parametrize(
    ("found", "is_least", "verdict"),
    [
        (figure(2.5), True, "met"),
        (figure(2.4), True, "missed"),
        (figure(2.4), False, "met"),
        (figure(2.6), False, "missed"),
        (None, True, "not measured"),
    ],
)
def test_a_bound_is_met_or_missed_or_not_measured(
    found: bounds.Figure | None, is_least: bool, verdict: str
) -> None:
    row = bounds.Bound("speed", 2.5, found, is_least).row()
    assert row["verdict"] == verdict
    assert row["bound"] == ("≥ 2.5" if is_least else "≤ 2.5")


def test_speculation_is_bound_on_texts_that_repeat_what_they_read() -> None:
    def samples(copied: int) -> list[Sample]:
        return [Sample([1] * 10, 1.0, 0.1, 1), Sample([1] * copied, 1.0, 0.1, 1)]

    speeds = {name: samples(10) for name in (PLAIN, "nasd", "openvino_lookup")}
    measured = Measured(ITEMS, speeds | {SUFFIX: samples(30)})
    ours, theirs = bounds.speculation(measured)
    assert ours.found is not None
    assert ours.found["median"] == pytest.approx(29 / 9), "the first token is left out"
    assert (ours.verdict, theirs.verdict) == ("met", "met")
    assert ours.note == "suffix, decoding alone (÷ plain, whole generations: 3.00)"
    del measured.samples["openvino_lookup"]
    assert bounds.speculation(measured)[1].verdict == "not measured"


def test_texts_are_compared_with_plain_decoding() -> None:
    def of(*tokens: int) -> list[Sample]:
        return [Sample(list(tokens), 1.0, 0.1, 1)]

    texts = {PLAIN: of(1, 2, 3), SUFFIX: of(1, 2, 3), "nasd": of(1, 9), "openvino": of(4)}
    measured = Measured(ITEMS[:1], texts)
    assert real.unequal(measured) == ["nasd"]
    assert real.alike(measured, SUFFIX) == {"texts_of_plain": "1/1", "first_tokens_of_plain": 3}
    assert real.alike(measured, "openvino")["first_tokens_of_plain"] == 0


def test_there_are_prompts_of_five_kinds_and_none_is_tuned_on_and_measured() -> None:
    chosen, tuning = real.chosen_prompts(real.PROMPTS, real.FULL["prompts"], 9)
    kinds = ["chat", "copying", "code", "summary", "translation"]
    assert [item.kind for item in tuning] == kinds
    assert [item.kind for item in chosen] == [kind for kind in kinds for _ in range(3)]
    assert not {item.id for item in chosen} & {item.id for item in tuning}


def test_pairs_and_bounds_name_contenders() -> None:
    named = {name for pair in real.PAIRS for name in pair} | set(bounds.TAKING_PART)
    assert named <= set(CONTENDERS)


def test_a_missing_model_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOREDRAFT_MODELS", str(tmp_path))
    with pytest.raises(SystemExit):
        real.main(["--quick"])
    assert "scripts/real_models.py smollm2" in capsys.readouterr().err


@pytest.mark.real
def test_quick_prints_every_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        resolve_name("smollm2")
    except ModelError as error:
        pytest.skip(str(error))
    monkeypatch.setenv(contest.PEERS, str(tmp_path))
    out = tmp_path / "real.json"
    flags = "--quick --rounds 1 --prompts 1 --length 4 --repeats 1"
    real.main([*flags.split(), "--out", str(out)])
    found = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert tables.rounded(found) == json.loads(out.read_text(encoding="utf-8"))
    assert len(found["bounds"]) == 8
    assert found["texts_unequal"] == []
    assert set(found["left_out"]) == {"llamacpp", "openvino", "openvino_lookup"}
    assert "| pass over 5 tokens" in out.with_suffix(".md").read_text(encoding="utf-8")
