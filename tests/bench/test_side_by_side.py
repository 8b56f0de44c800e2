"""In which order methods are measured: no machine that drifts, no cache may favour one of them."""

from __future__ import annotations

import itertools

from side_by_side import Clock, measure

from foredraft.bench.prompt_sets import PromptItem

ROUNDS = 9


def test_every_method_follows_every_other_one_and_answers_each_prompt_in_turn() -> None:
    done = list[tuple[str, str]]()

    def run_of(name: str):  # type: ignore[no-untyped-def]
        def run(item: PromptItem, clock: Clock) -> list[int]:
            done.append((item.id, name))
            clock.emitted(1)
            return [len(name)]

        return run

    names = ("a", "bb", "ccc")
    prompts = [PromptItem(str(i), "text", "chat", 8) for i in range(4)]
    found = measure({name: run_of(name) for name in names}, prompts, ROUNDS)
    turns = [done[i : i + 3] for i in range(3, len(done), 3)]  # after a warm-up
    assert [turn[0][0] for turn in turns] == [item.id for item in prompts] * ROUNDS
    assert all({item for item, _ in turn} == {turn[0][0]} for turn in turns)
    assert all(sorted(name for _, name in turn) == sorted(names) for turn in turns)
    assert {sample.tokens[0] for sample in found.samples["bb"]} == {2}
    order = [name for turn in turns for _, name in turn]
    assert {*itertools.permutations(names, 2)} <= {*itertools.pairwise(order)}
