"""Replay: the same acceptance as the real loop, step by step, without the target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench.recordings import Recording, read_recordings
from foredraft.bench.replay import Replay, Replayed
from foredraft.bench.timed import Clock, CostTable, TimedModel
from foredraft.core import StepRecord
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import DRAFTERS, DraftModelDrafter, DraftParts, neural_parts
from foredraft.errors import ConfigError
from foredraft.gamma import GAMMA_POLICIES
from foredraft.loading import fit_target
from foredraft.loading.runtime import Runtime
from foredraft.models import DecoderOnlyModel, EncoderDecoderModel, TableModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.verification import VERIFIERS
from tests.doubles import random_table
from tests.heads import head_for
from tests.tiny import VOCAB as VOCAB_OF_T5
from tests.tiny import build
from tests.toy_engine import PROMPT, tokenizer

GREEDY = GreedySampler()
VOCAB, LENGTH, END = 12, 40, 11
COSTS = CostTable(draft=0.25, verify=1.0, verify_token=0.03)
PROMPTS = [[(7 * i) % 11, (3 * i + 1) % 11, (i * i) % 11, i % 11] for i in range(20)]
MODEL_POLICIES = (
    *("fixed(gamma=3)", "heuristic", "entropy", "svip", "cost_aware", "bandit"),
    *("entropy_cost", "asymmetric", "throughput", "plain"),
)


def last_two(vocab: int, seed: int) -> TableModel:
    """Return a model that looks at two tokens: its greedy texts end or run into circles."""
    table = random_table(vocab, seed=seed)
    return TableModel(lambda tokens: table(tokens[-2:]))


def target() -> TableModel:
    return last_two(VOCAB, seed=1)


def draft_model() -> TableModel:
    """Return a model that agrees with the target in about half of its contexts."""
    one, other = random_table(VOCAB, seed=1), random_table(VOCAB, seed=2)
    return TableModel(lambda tokens: (one if sum(tokens[-2:]) % 2 else other)(tokens[-2:]))


def recordings() -> list[Recording]:
    """Return what plain decoding says to each prompt."""
    model, found = target(), []
    for prompt in PROMPTS:
        request = Request(model.open(prompt), Rng(0), max_new_tokens=LENGTH, eos_token_ids=[END])
        list(autoregressive_steps(request, GREEDY))
        found.append(Recording(prompt, request.output, LENGTH))
    return found


def real_loop(drafting: str, policy: str, *, verifier: str = "rejection") -> list[list[StepRecord]]:
    """Return the steps of the real loop with the real target, at the same costs."""
    clock = Clock()
    costs = COSTS.costs
    model = TimedModel(target(), lambda rows: costs.verify(rows - 1), clock)
    neural = DraftModelDrafter(TimedModel(draft_model(), costs.draft, clock), GREEDY)
    drafter = DRAFTERS.create(drafting).build(DraftParts(VOCAB, neural))
    rule = GAMMA_POLICIES.create(policy, gamma=4)
    parts = Speculation(model, drafter, rule, VERIFIERS.create(verifier), GREEDY, True, clock)
    steps = []
    for prompt in PROMPTS:
        request = Request(model.open(prompt), Rng(0), max_new_tokens=LENGTH, eos_token_ids=[END])
        steps.append(list(speculative_steps(parts, request)))
    return steps


def counts(records: list[list[StepRecord]]) -> list[list[tuple[int, int, int]]]:
    return [[(len(r.drafted), r.num_accepted, len(r.emitted)) for r in steps] for steps in records]


@pytest.mark.parametrize("policy", MODEL_POLICIES)
def test_a_replay_keeps_exactly_what_the_real_loop_keeps_on_twenty_prompts(policy: str) -> None:
    replay = Replay(recordings(), costs=COSTS, draft_model=draft_model())
    for drafting in ("model", "hybrid(suffix, model)", "bandit"):
        played, _ = replay.run(drafting, [policy])
        real = real_loop(drafting, policy)
        assert counts(played.records) == counts(real), drafting
        drafted = sum(len(r.drafted) for steps in real for r in steps)
        assert drafted > 20 or (policy == "plain" and drafted == 0)


@pytest.mark.parametrize("drafting", ["prompt_lookup", "suffix", "ngram(filler_top_k=1)"])
def test_drafters_that_need_no_model_are_replayed_without_one(drafting: str) -> None:
    replay = Replay(recordings(), costs=COSTS)
    for policy in ("fixed(gamma=4)", "confidence", "cost_aware", "adaedl"):
        played, _ = replay.run(drafting, [policy])
        assert counts(played.records) == counts(real_loop(drafting, policy)), policy


def test_the_verifier_of_the_recorded_run_does_not_matter_under_greedy() -> None:
    played, _ = Replay(recordings(), costs=COSTS, draft_model=draft_model()).run("model", ["fixed"])
    for verifier in ("rejection", "block", "exact_match"):
        assert counts(played.records) == counts(real_loop("model", "fixed", verifier=verifier))


def test_nothing_beats_the_oracle_and_it_is_never_rejected() -> None:
    replay = Replay(recordings(), costs=COSTS, draft_model=draft_model())
    *played, oracle = replay.run("model", [*MODEL_POLICIES, "fixed(gamma=1)", "fixed(gamma=8)"])
    assert oracle.policy == "oracle"
    assert oracle.regret == 0
    assert all(one.regret > 0 for one in played)
    steps = [r for records in oracle.records for r in records]
    assert not any(r.is_rejection for r in steps)
    assert sum(r.num_draft_calls for r in steps) == sum(len(r.drafted) for r in steps)


def test_a_replay_takes_the_same_time_twice() -> None:
    replay = Replay(recordings(), costs=COSTS, draft_model=draft_model())
    one, again = (replay.play("bandit", ["bandit"])[0] for _ in range(2))
    assert (one.records, one.seconds) == (again.records, again.seconds)


def test_time_is_the_sum_of_the_costs() -> None:
    played, _ = Replay(recordings(), costs=COSTS, draft_model=draft_model()).run("model", ["fixed"])
    steps = [r for records in played.records for r in records]
    expected = sum(
        COSTS.verify + COSTS.verify_token * len(r.drafted) + COSTS.draft * r.num_draft_calls
        for r in steps
    )
    assert played.seconds == pytest.approx(expected)
    assert played.tokens_per_second == pytest.approx(played.num_tokens / expected)
    assert isinstance(played, Replayed)


# --- encoder–decoders -----------------------------------------------------------------------------


def seq2seq(seed: int) -> Any:
    """Return a tiny T5 of its own encoder."""
    return fit_target(build("t5", seed), Runtime("transformers"))


@pytest.mark.parametrize("drafting", ["model", "hybrid(suffix, model)", "suffix", "auto"])
def test_a_replay_of_an_encoder_decoder_keeps_what_its_real_run_keeps(drafting: str) -> None:
    clock, costs = Clock(), COSTS.costs
    target, drafter = seq2seq(0), EncoderDecoderModel(build("t5", 1))
    timed = TimedModel(target, lambda rows: costs.verify(rows - 1), clock)
    needs_model = drafting != "suffix"
    neural = DraftModelDrafter(TimedModel(drafter, costs.draft, clock), GREEDY)
    source = DRAFTERS.create(drafting)
    rule = GAMMA_POLICIES.create("fixed(gamma=3)", gamma=3)
    made = source.build(DraftParts(VOCAB_OF_T5, neural, knows_logits=False))
    parts = Speculation(timed, made, rule, VERIFIERS.create("exact_match"), GREEDY, True, clock)
    recorded, real = [], []
    for prompt in ([5, 9, 5, 9, 7], [11, 12, 13, 11, 12, 13, 11]):
        request = Request(timed.open(prompt), Rng(0), max_new_tokens=20)
        real.append(list(speculative_steps(parts, request)))
        recorded.append(Recording(prompt, request.output, 20, target.start_tokens))
    replay = Replay(recorded, costs=COSTS, draft_model=drafter if needs_model else None)
    (played,) = replay.play(drafting, ["fixed(gamma=3)"])
    assert counts(played.records) == counts(real)
    assert any(r.drafted for steps in real for r in steps)
    assert played.seconds == pytest.approx(clock.now)


# --- files ----------------------------------------------------------------------------------------


def written(tmp_path: Path, *lines: Any) -> Path:
    file = tmp_path / "run.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return file


def test_prompt_and_response_are_read_as_text_or_as_tokens(tmp_path: Path) -> None:
    ids = tokenizer()(PROMPT)["input_ids"]
    said = tokenizer()(PROMPT, add_special_tokens=False)["input_ids"]
    file = written(
        tmp_path,
        {"prompt": PROMPT, "response": PROMPT},
        {"prompt_tokens": [1, 2], "tokens": [3, 4, 5]},
    )
    text, numbers = read_recordings(file, tokenizer())
    assert (text.prompt, text.tokens, text.limit) == (ids, said, len(said))
    assert (numbers.prompt, numbers.tokens, numbers.limit) == ([1, 2], [3, 4, 5], 3)


def test_of_a_saved_run_the_targets_own_output_is_taken(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        {"config": {"length": 50, "sampler": "greedy"}},
        {"prompt": PROMPT, "method": "speculative", "tokens": [1, 2], "finish_reason": "eos"},
        {"prompt": PROMPT, "method": "target", "tokens": [1, 2, 3], "finish_reason": "eos"},
        {"prompt": PROMPT, "method": "drafter", "tokens": [9], "finish_reason": "length"},
    )
    (one,) = read_recordings(file, tokenizer())
    assert (one.tokens, one.limit) == ([1, 2, 3], 50)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 .* is no recording"),
        ("[]", "no JSON object"),
        ('{"prompt": "x"}', "line 1 .* is no recording"),
        ('{"prompt_tokens": [1], "tokens": []}', "at least one"),
        ('{"prompt_tokens": [1], "tokens": ["a"]}', "whole numbers"),
        ("", "holds no recorded output"),
        ('{"config": {"sampler": "nucleus"}}', "record again with --sampler greedy"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_form(
    tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(line)
    with pytest.raises(ConfigError, match=message):
        read_recordings(file, tokenizer())


def test_a_head_reads_the_target_in_a_replay_too() -> None:
    target = DecoderOnlyModel(build("llama"))
    head, prompt = head_for(target), [3, 1, 4, 1, 5]
    policy = GAMMA_POLICIES.create("fixed(gamma=3)")
    parts = neural_parts(target.vocab_size, head, GREEDY)
    drafter = DRAFTERS.create("model").build(parts)
    loop = Speculation(target, drafter, policy, VERIFIERS.create("exact_match"), GREEDY, True)
    request = Request(target.open(prompt), Rng(0), max_new_tokens=LENGTH)
    steps = list(speculative_steps(loop, request))
    said = [Recording(prompt, request.output, LENGTH)]
    (played,) = Replay(said, draft_model=head, target=target).play("model", ["fixed(gamma=3)"])
    assert drawn(played.records[0]) == drawn(steps)
    assert any(step.num_accepted for step in steps)
    with pytest.raises(ConfigError, match="a head drafts from states of its target"):
        Replay(said, draft_model=head)


def drawn(steps: list[StepRecord]) -> list[tuple[list[int], list[int]]]:
    return [(step.drafted, step.emitted) for step in steps]
