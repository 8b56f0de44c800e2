"""The measuring scripts of `benchmarks/`: what they compute, and tiny runs. Nothing is timed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import bandwidth
import contenders
import peers
import pytest
import quick
import roofline
import tables
import torch
from side_by_side import BASELINE, PEER, Clock, Measured, Sample, differences, measure, median_of
from transformers import AutoConfig, GenerationConfig

from foredraft import LoadOptions
from foredraft.bench.analysis import ALL
from foredraft.bench.machine import place
from foredraft.bench.prompt_sets import KINDS, PromptItem, load_prompts
from foredraft.core import StepRecord
from foredraft.loading import load
from foredraft.loading.runtime import can_fuse
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from tests.tiny import build

SETTING = contenders.Setting(device="cpu")
ITEMS = load_prompts(max_prompts=1, max_length=6)
needs_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="needs the extra llamacpp (gguf)"
)
needs_llamacpp = pytest.mark.skipif(
    bool(contenders.why_no_llamacpp(SETTING)), reason="needs the extra llamacpp (llama-cpp-python)"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> contenders.Contenders:
    names = contenders.names(SETTING)
    run = contenders.Contenders(SETTING, tmp_path_factory.mktemp("gguf"), names)
    run.assistant_tokens = 3
    return run


def samples(*speeds: float) -> list[Sample]:
    """Return samples of ten tokens, two of them first, after a tenth of the time."""
    return [Sample(list(range(10)), 10 / s, 1 / s, 2) for s in speeds]


def test_speeds_are_of_the_whole_and_of_what_follows_the_first_tokens() -> None:
    (sample,) = samples(5.0)
    assert sample.speed == pytest.approx(5)
    assert sample.decode_speed == pytest.approx(8 / 1.8)
    assert math.isnan(Sample([1, 2], 1.0, 1.0, 2).decode_speed)


def test_the_clock_notes_the_first_tokens_and_not_the_prompt() -> None:
    clock = Clock()
    for size in (7, 3, 1):  # a prompt, then what was generated
        clock.put(torch.zeros(size))
    assert clock.num_first == 3
    assert 0 < clock.first_seconds <= clock.seconds()


def items(*kinds: str) -> list[PromptItem]:
    """Return a prompt of each kind."""
    return [PromptItem(f"p{i}", kind, "Hello", 4) for i, kind in enumerate(kinds)]


def test_an_interval_is_of_prompts_not_of_rounds() -> None:
    rounds = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0] * 3
    rounds[5] = 30.0  # an outlier in one round of one prompt
    found = median_of(rounds, num_prompts=6)
    assert found["median"] == 2
    assert (found["low"], found["high"]) == (1, 3)
    assert median_of([1.0, 2.0, 3.0], num_prompts=3) == {"median": 2, "low": None, "high": None}


def test_values_that_are_none_are_left_out_of_an_interval() -> None:
    assert median_of([math.nan, 4.0], num_prompts=2)["median"] == 4
    assert median_of([math.nan], num_prompts=1)["median"] is None


def test_a_kind_is_its_prompts_in_every_round() -> None:
    measured = Measured(items("a", "a", "b"), {"m": samples(1, 2, 3, 4, 5, 6)})
    assert peers.of_kind(measured, "b").speeds("m") == pytest.approx([3, 6])
    assert peers.of_kind(measured, "a").speeds("m") == pytest.approx([1, 2, 4, 5])
    assert peers.of_kind(measured, ALL) == measured


def test_ratios_are_of_the_same_prompt_and_only_of_what_was_measured() -> None:
    speeds = {BASELINE: samples(4, 60, 4, 60, 4, 60), PEER: samples(2, 20, 2, 20, 2, 20)}
    rows = peers.ratio_rows(Measured(items(*"aaaaaa"), speeds))
    assert {(r["ours"], r["theirs"]) for r in rows} == {(BASELINE, PEER)}
    assert [r["median"] for r in rows] == pytest.approx([2.5] * 4)  # two kinds, two measures
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((2, 3))
    assert "2.50 [2.00, 3.00]" in peers.ratio_table(rows, decode=True)


def test_no_prompt_is_tuned_on_and_measured() -> None:
    chosen, tuning = peers.chosen_prompts(peers.FULL["prompts"], 9)
    assert len(chosen) == peers.FULL["prompts"] * len(KINDS)
    assert not {item.id for item in chosen} & {item.id for item in tuning}
    assert {item.length for item in (*chosen, *tuning)} == {9}


def test_a_place_is_told_alike_whatever_form_its_file_has() -> None:
    old = {"machine": {"processor": "A", "torch": "2", "prompts": 20, "load_average": [1.0]}}
    new = {
        "machine": {"processor": "A", "versions": {"torch": "2"}, "cuda": []},
        "setting": {"prompts": 20},
    }
    assert place(old) == place(new) == "processor A, torch 2, prompts 20"
    assert place({}) == ""


def test_every_method_writes_the_text_of_target_ar(run: contenders.Contenders) -> None:
    runs = {name: run.run(name) for name in contenders.names(SETTING)}
    measured = measure(runs, ITEMS[:2], rounds=1)
    for name in runs:
        found = differences(measured, name, run.engine)
        assert found["texts_that_differ"] == found["near_ties"], name
        assert all(1 <= s.num_first <= 6 for s in measured.samples[name]), name


def test_the_best_assistant_is_chosen_among_all(run: contenders.Contenders) -> None:
    speeds = run.choose_assistant_tokens(ITEMS[:2])
    assert list(speeds) == [1, 2, 3, 4, 5, 6]
    assert speeds[run.assistant_tokens] == max(speeds.values())


def test_assisted_generation_is_told_its_setting(run: contenders.Contenders) -> None:
    run.assistant_tokens = 5
    usual = run.assistant.generation_config.to_dict()
    run.run(contenders.ASSISTED_BEST)(ITEMS[0], Clock())
    told = run.assistant.generation_config
    assert told.num_assistant_tokens == 5
    assert told.num_assistant_tokens_schedule == "constant"
    assert told.assistant_confidence_threshold == 0
    run.assistant.generation_config = GenerationConfig(**usual)
    run.run(contenders.ASSISTED)(ITEMS[0], Clock())
    assert run.assistant.generation_config.to_dict() == usual


def test_only_methods_that_draft_with_a_model_load_one(tmp_path: Path) -> None:
    assert contenders.Contenders(SETTING, tmp_path, [BASELINE]).engine.drafter is None


def test_a_missing_llamacpp_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "FOR_LLAMACPP", ("no_such_package",))
    assert "uv sync --extra llamacpp" in contenders.why_no_llamacpp(SETTING)
    assert contenders.LLAMACPP not in contenders.names(SETTING)


def tiny_run(main: Any, arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, Any]:
    """Return what a script prints, and the JSON of its last line."""
    main(arguments.split())
    printed = capsys.readouterr().out
    return printed, json.loads(printed.strip().split("\n")[-1])


def test_many_figures_lie_compressed_and_the_other_form_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    file = tmp_path / "made.json"
    few, many = {"a": 1, "b": [1234567, 0.000123456]}, {"a": ["a number"] * tables.MOST_PLAIN}
    for found, there in ((few, "made.json"), (many, "made.json.xz"), (few, "made.json")):
        tables.keep(file, found)
        assert [path.name for path in tmp_path.iterdir()] == [there]
        assert tables.kept(file) == found
    elsewhere = tmp_path / "runs" / "made.json"
    tables.keep(elsewhere, many)
    assert json.loads(elsewhere.read_text(encoding="utf-8")) == many
    tables.keep(file, {"a": ({"b": 1 / 3},), "c": None, "d": True})
    assert tables.kept(file) == {"a": [{"b": 0.333333}], "c": None, "d": True}


def test_peers_prints_tables_and_figures_and_saves_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(contenders, "TUNING_ROUNDS", 1)
    monkeypatch.setattr(contenders, "GAMMAS", range(1, 3))
    flags = "--rounds 1 --prompts 1 --length 4 --device cpu --no-memory --save"
    printed, found = tiny_run(peers.main, flags, capsys)
    assert [r["method"] for r in found["methods"]] == contenders.names(SETTING)
    for r in found["methods"]:
        assert r["texts_that_differ"] == r["near_ties"], r["method"]
    pairs = [f"{ours} / {theirs}" for ours, theirs in peers.RATIOS[:6]]
    assert all(printed.count(f"| {pair} ") == 2 for pair in pairs)
    assert tables.kept(tmp_path / "peers-cpu-float32.json") == tables.rounded(found)
    assert "| target_ar " in (tmp_path / "peers-cpu-float32.md").read_text()


def test_a_padded_target_is_named_wherever_it_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = "--prompts 1 --length 4 --repeats 1 --device cpu --padded 15e6"
    printed, found = tiny_run(roofline.main, flags, capsys)
    assert found["target"] == "bundled target, padded to 15M parameters"
    assert found["target"] in printed
    assert found["machine"]["processor"] in printed
    wide = 2 if can_fuse() else 4  # bytes a weight
    assert found["bytes_a_pass"]["target"]["weights"] == pytest.approx(wide * 15e6, rel=0.05)


@pytest.mark.parametrize(
    ("main", "flags", "sentence"),
    [
        (peers.main, "--rounds 0", "--rounds must be 1 or more, not 0"),
        (roofline.main, "--repeats 0", "--repeats must be 1 or more, not 0"),
        (roofline.main, "--length 2", "--length must be 3 or more, not 2"),
        (peers.main, "--padded 5", "at least the 12539200"),
        (roofline.main, "--padded 5", "at least the 12539200"),
    ],
)
def test_bad_flags_are_one_sentence(
    main: Any, flags: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*flags.split(), "--device", "cpu"])
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own() -> None:
    found = peers.peak_memory([peers.NOTHING, BASELINE], ["--device", "cpu", "--length", "2"])
    assert found[peers.NOTHING]["process"] < found[BASELINE]["process"]


def test_the_bound_takes_arrays_no_smaller_than_the_weights() -> None:
    rates = {10: 9.0, 20: 5.0, 40: 6.0}
    assert bandwidth.rate_for(5, rates) == 9
    assert bandwidth.rate_for(11, rates) == 6
    assert bandwidth.rate_for(1000, rates) == 6  # larger than any array: the largest


def test_every_size_has_a_bandwidth() -> None:
    rates = bandwidth.bandwidth((4000, 8000), 1, torch.device("cpu"))
    assert list(rates) == [4000, 8000]
    assert min(rates.values()) > 0


def test_a_pass_reads_all_weights_but_an_embedding_of_its_own() -> None:
    tied = load("bundled", "target", LoadOptions(device="cpu", runtime="transformers"))
    network = tied.model.model  # type: ignore[attr-defined]
    cost = roofline.cost_of(network, tied.model, context=10)
    assert cost.weights == 4 * 12_539_200
    assert cost.cached == 4 * 2 * 8 * 320 * 10
    untied = build("llama", tie_word_embeddings=False)
    assert not untied.config.tie_word_embeddings
    every = sum(p.numel() for p in untied.parameters())
    narrow = NativeModel(untied)
    narrow.weight_bytes = 2
    assert roofline.cost_of(untied, narrow, 0).weights == 2 * (
        every - untied.get_input_embeddings().weight.numel()
    )


def test_a_model_knows_how_wide_its_weights_lie_in_memory() -> None:
    assert NativeModel(build("llama")).weight_bytes is None  # as wide as the arithmetic
    if can_fuse():
        bundled = load("bundled", "target", LoadOptions(device="cpu")).model
        assert bundled.weight_bytes == 2
        assert FusedModel(build("llama")).weight_bytes == 4


def decoded() -> roofline.Decoded:
    record = StepRecord([1, 2], 2, [1, 2, 3], 0.2, 0.5, num_draft_calls=2)
    return roofline.Decoded([record, record], seconds=2.0)


def test_the_parts_of_a_step_add_up_to_the_step() -> None:
    parts = roofline.profile(decoded(), roofline.Timings({3: 0.3}, draft=0.05, choose=0.1))
    assert sum(parts.values()) == pytest.approx(1.0)  # two steps in two seconds
    assert parts["draft: forward passes"] == pytest.approx(0.1)
    assert parts["verify: rest"] == pytest.approx(0.1)
    assert parts["around the loop"] == pytest.approx(0.3)


def test_the_bound_of_speculation_pays_for_every_draft_call() -> None:
    costs = {"target": roofline.Cost(80, 20), "drafter": roofline.Cost(10, 0)}
    (row,) = roofline.bounds({"speculative": decoded()}, costs, {100: 100.0})
    assert row["bound_tokens_per_second"] == pytest.approx(3 / (1 + 2 * 0.1))
    assert row["share"] == pytest.approx((6 / 2) / row["bound_tokens_per_second"])


@needs_gguf
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gguf_file_holds_the_same_network(dtype: str, tmp_path: Path) -> None:
    from llamacpp import write_gguf
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    options = LoadOptions(device="cpu", dtype=dtype, runtime="transformers")
    loaded = load("bundled", "target", options)
    network = loaded.model.model  # type: ignore[attr-defined]
    write_gguf(network, loaded.tokenizer, tmp_path / "target.gguf")
    # transformers reads the format by itself, and turns rows back in its own way.
    again = AutoConfig.from_pretrained(tmp_path, gguf_file="target.gguf")
    for name in ("num_hidden_layers", "intermediate_size", "head_dim", "vocab_size"):
        assert getattr(again, name) == getattr(network.config, name), name
    assert again.rms_norm_eps == pytest.approx(network.config.rms_norm_eps)
    assert again.rope_parameters["rope_theta"] == network.config.rope_parameters["rope_theta"]
    found = load_gguf_checkpoint(
        str(tmp_path / "target.gguf"), return_tensors=True, model_to_load=network
    )["tensors"]
    for name, weight in network.named_parameters():
        assert torch.equal(found[name].float(), weight.float()), name


@needs_llamacpp
@pytest.mark.parametrize("lookup", [0, 10])
def test_llamacpp_writes_our_greedy_tokens(lookup: int, tmp_path: Path) -> None:
    names = [BASELINE, contenders.LLAMACPP_LOOKUP if lookup else contenders.LLAMACPP]
    run = contenders.Contenders(SETTING, tmp_path, names)
    prompts = load_prompts(max_prompts=1, max_length=24)
    measured = measure({name: run.run(name) for name in names}, prompts, 1)
    found = differences(measured, names[1], run.engine)
    assert found["texts_that_differ"] == found["near_ties"]


def test_the_command_line_knows_every_setting() -> None:
    args = peers.parser_of().parse_args(["--gamma", "9", "--padded", "1e9"])
    assert isinstance(args, argparse.Namespace)
    assert peers.setting_of(args) == contenders.Setting(gamma=9, padded=1_000_000_000)


def test_quick_prints_a_row_a_method_with_its_machine(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--prompts 1 --rounds 1 --length 4 --device cpu"
    _, found = tiny_run(quick.main, flags, capsys)
    assert [row["method"] for row in found["rows"]] == [*quick.OURS, PEER]
    assert found["rows"][0][f"ratio_to_{BASELINE}"]["median"] == 1
    assert {"processor", "flags", "commit", "versions"} <= found["machine"].keys()
