"""What vLLM and llama.cpp say of their drafts: read, added up, refused where it is no sum."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench.recordings import read_recordings
from foredraft.bench.served import Served, added, hold_tokens, read_served
from foredraft.bench.timed import CostTable
from foredraft.errors import ConfigError
from tests.toy_engine import tokenizer

VLLM: dict[str, Any] = {  # the shape that vLLM documents
    "mean_acceptance_length": 2.0,
    "draft_acceptance_rate": 0.4,
    "acceptance_histogram": [3, 2, 1, 1],
    "acceptance_histogram_by_draft_length": {"3": [2, 1, 1, 1], "1": [1, 1]},
    "num_spec_steps": 7,
    "num_accepted_draft_tokens": 7,
    "num_draft_tokens": 17,
    "num_spec_tokens": 3,
}
TIMINGS: dict[str, Any] = {
    "prompt_n": 4,
    "prompt_ms": 128.3,
    "predicted_n": 665,
    "predicted_ms": 20629.2,
    "draft_n": 604,
    "draft_n_accepted": 515,
}


def answer_of_vllm(**more: Any) -> dict[str, Any]:
    return {"choices": [{}], "metrics": {"speculative_decoding": VLLM}, **more}


def written(tmp_path: Path, *records: Any) -> Path:
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def test_positions_of_vllm_are_conditional_as_ours_are(tmp_path: Path) -> None:
    (one,) = read_served(written(tmp_path, answer_of_vllm()))
    # Seven drafts have a first token, four of which was kept; of the three kept ones of three
    # tokens two went on, and of those one.
    assert one.acceptance_by_position == pytest.approx([4 / 7, 2 / 3, 1 / 2])
    assert one.acceptance_rate == pytest.approx(7 / 17)
    assert one.mean_acceptance_length == 2.0
    gamma, tokens, speed = one.lengths(CostTable(draft=0.1, verify=1.0, verify_token=0.0))[2]
    assert (gamma, tokens) == (2, pytest.approx(1 + 4 / 7 + 4 / 7 * 2 / 3))
    assert speed == pytest.approx(tokens / 1.2)


def test_answers_are_added_up(tmp_path: Path) -> None:
    found = read_served(written(tmp_path, answer_of_vllm(), VLLM, answer_of_vllm()))
    total = added(found)
    assert (total.texts, total.num_steps, total.num_drafted_tokens) == (3, 21, 51)
    assert total.acceptance_by_position == pytest.approx(found[0].acceptance_by_position)


def test_without_lengths_positions_are_told_only_of_whole_drafts(tmp_path: Path) -> None:
    told = {n: v for n, v in VLLM.items() if n != "acceptance_histogram_by_draft_length"}
    (unknown,) = read_served(written(tmp_path, told))
    assert unknown.acceptance_by_position == []
    assert unknown.lengths(CostTable()) == [(0, 1.0, 1.0)]
    (known,) = read_served(written(tmp_path, told | {"num_draft_tokens": 21}))
    assert known.acceptance_by_position == pytest.approx([4 / 7, 2 / 4, 1 / 2])
    assert added([known, unknown]).acceptance_by_position == []


def test_timings_of_llama_cpp(tmp_path: Path) -> None:
    (one,) = read_served(written(tmp_path, {"content": "…", "timings": TIMINGS}))
    assert one.num_steps == 150
    assert one.mean_acceptance_length == pytest.approx(665 / 150)
    assert one.acceptance_rate == pytest.approx(515 / 604)
    assert one.seconds == pytest.approx(20.6292)
    plain = {n: v for n, v in TIMINGS.items() if not n.startswith("draft")}
    (one,) = read_served(written(tmp_path, plain))
    assert (one.acceptance_rate, one.mean_acceptance_length) == (None, 1.0)


def test_streams_and_printed_answers_are_read(tmp_path: Path) -> None:
    file = tmp_path / "stream.txt"
    lines = ('data: {"choices": [{"delta": {}}]}', f"data: {json.dumps(answer_of_vllm())}")
    file.write_text("\n\n".join([*lines, "data: [DONE]"]), encoding="utf-8")
    assert len(read_served(file)) == 1
    file.write_text(json.dumps(answer_of_vllm(), indent=2), encoding="utf-8")
    assert len(read_served(file)) == 1


def test_recordings_of_ours_are_no_answers(tmp_path: Path) -> None:
    ours = {"prompt_tokens": [1], "tokens": [2, 3]}
    assert read_served(written(tmp_path, {"config": {}}, ours)) == []


CONTRADICTIONS: dict[str, tuple[str, Any, str]] = {
    "histogram": ("acceptance_histogram", [3, 2, 1], "does not fit"),
    "sum": ("num_spec_steps", 8, "does not fit"),
    "kept": ("num_accepted_draft_tokens", 6, "does not fit"),
    "negative": ("num_draft_tokens", -1, "whole number"),
    "words": ("num_spec_tokens", "3", "whole number"),
    "counts": ("acceptance_histogram", [3, 2.5], "list of whole numbers"),
    "none": ("acceptance_histogram", None, "list of whole numbers"),
    "rows": ("acceptance_histogram_by_draft_length", {"2": [1]}, "has 1 counts"),
    "lengths": ("acceptance_histogram_by_draft_length", {"3": [7, 0, 0, 0]}, "does not fit"),
    "more": ("num_draft_tokens", 5, "more than its"),
    "missing": ("num_spec_tokens", ..., "num_spec_tokens is None"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_metrics_that_contradict_themselves_are_refused(tmp_path: Path, name: str) -> None:
    key, value, told = CONTRADICTIONS[name]
    bad = copy.deepcopy(VLLM) | {key: value}
    if value is ...:
        del bad[key]
    with pytest.raises(ConfigError, match=rf"answer 2 of .*{told}"):
        read_served(written(tmp_path, answer_of_vllm(), bad))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"draft_n_accepted": 605}, "more than its draft_n"),
        ({"predicted_n": 5}, "more than"),
        ({"predicted_ms": "fast"}, "no number"),
        ({"predicted_ms": -1.0}, "must be ≥ 0"),
        ({"draft_n": 1.5}, "whole number"),
    ],
)
def test_timings_that_contradict_themselves_are_refused(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        read_served(written(tmp_path, {"timings": TIMINGS | change}))


def test_two_engines_are_not_added(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"answers of llama\.cpp and vLLM"):
        read_served(written(tmp_path, answer_of_vllm(), {"timings": TIMINGS}))


def test_answers_with_their_tokens_are_recordings(tmp_path: Path) -> None:
    choice = {"token_ids": [4, 5, 6], "finish_reason": "length"}
    file = written(tmp_path, answer_of_vllm(prompt_token_ids=[1, 2], choices=[choice]))
    assert hold_tokens(file)
    (one,) = read_recordings(file, tokenizer())
    assert (one.prompt, one.tokens, one.limit) == ([1, 2], [4, 5, 6], 3)
    settings = {"generation_settings": {"temperature": 0.0}, "timings": TIMINGS}
    file = written(tmp_path, {"prompt": "Sing", "tokens": [4, 5], **settings})
    assert hold_tokens(file)
    assert read_recordings(file, tokenizer())[0].tokens == [4, 5]
    assert not hold_tokens(written(tmp_path, answer_of_vllm()))


def test_what_llama_cpp_sampled_cannot_be_replayed(tmp_path: Path) -> None:
    settings = {"generation_settings": {"temperature": 0.8}, "timings": TIMINGS}
    with pytest.raises(ConfigError, match=r"temperature 0\.8"):
        read_recordings(
            written(tmp_path, {"prompt": "Sing", "tokens": [4], **settings}), tokenizer()
        )


def test_nothing_drafted_has_no_rate() -> None:
    none = Served("vLLM", 1, 0, 0, 0, 0)
    assert (none.acceptance_rate, none.mean_acceptance_length) == (None, None)
    assert added([none]).to_dict()["acceptance_by_position"] == []
