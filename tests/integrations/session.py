"""A recorded session: what vLLM handed to a proposer, call by call, and what came back.

The recording is made with vLLM itself and the bundled target:

    python -m tests.integrations.session        # writes session.json beside this file

More requests than rows, prompts read in parts, two requests of one text, and so little memory that
requests are stopped and taken up again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foredraft.integrations.vllm import Proposer
from foredraft.zoo import bundled_path

FILE = Path(__file__).with_name("session.json")
ROWS, MAX_LENGTH, MOST, VOCAB = 4, 192, 5, 8192
DRAFTER = "suffix(factor=2.0)"  # without a length rule drafts are functions of the texts alone
MODEL = str(bundled_path("target"))
SAID_ALIKE = "Once upon a time there was a cat. The cat said: I am a cat. The dog said:"
PROMPTS = {  # and tokens to say
    SAID_ALIKE: 50,
    f"{SAID_ALIKE} ": 8,
    "One, two, three, four. One, two, three, four. One, two,": 70,
    "A red ball, a blue ball, a red ball, a blue ball, a red ball, a": 60,
    "Tom has a dog. " * 14 + "Tom has": 40,
    "Lily likes the sun. Lily likes the moon. Lily": 30,
}


@dataclass(frozen=True)
class Call:
    """One call of `propose`.

    Attributes:
        sampled: tokens that each row said.
        lengths: tokens of each place there is for a row.
        tokens: of each place, shape `[places, max_model_len]`.
        drafts: what came back.
    """

    sampled: list[list[int]]
    lengths: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    drafts: list[list[int]]

    @property
    def texts(self) -> list[list[int]]:
        """The tokens of each row."""
        return [self.tokens[i, : self.lengths[i]].tolist() for i in range(len(self.sampled))]


class Recorder(Proposer):
    """A proposer that writes down what it hears and says."""

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: npt.NDArray[np.int32],
        token_ids_cpu: npt.NDArray[np.int32],
        slot_mappings: object = None,
    ) -> list[list[int]]:
        given = sampled_token_ids, num_tokens_no_spec, token_ids_cpu
        drafts = super().propose(*given, slot_mappings=slot_mappings)
        call = {
            "sampled": [list(said) for said in sampled_token_ids],
            "texts": [
                token_ids_cpu[i, : num_tokens_no_spec[i]].tolist()
                for i in range(len(sampled_token_ids))
            ],
            "drafts": drafts,
            "handed": [handed(value) for value in (*given, slot_mappings)],
        }
        with open(os.environ["SESSION"], "a", encoding="utf-8") as file:
            file.write(json.dumps(call) + "\n")
        return drafts


def handed(value: object) -> list[Any]:
    """Return the type of an argument, and of an array its numbers and dimensions."""
    if isinstance(value, np.ndarray):
        return ["ndarray", str(value.dtype), value.ndim]
    return [type(value).__name__]


def shortened(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return calls without what can be told from those before: rows that go on, equal types."""
    before, short = list[list[int]](), list[dict[str, Any]]()
    for call in calls:
        rows = list[Any]()
        for text, said in zip(call["texts"], call["sampled"], strict=True):
            old = text[: len(text) - len(said)]
            rows.append(before.index(old) if old in before else text)
        short.append({"sampled": call["sampled"], "rows": rows, "drafts": call["drafts"]})
        before = call["texts"]
    return short


def calls() -> Iterator[Call]:
    """Yield the recorded calls, as vLLM made them; what lies beyond a row's end is junk there."""
    before = list[list[int]]()
    for call in json.loads(FILE.read_text(encoding="utf-8"))["calls"]:
        lengths = np.zeros(ROWS, dtype=np.int32)
        tokens = np.full((ROWS, MAX_LENGTH), 7, dtype=np.int32)
        pairs = zip(call["rows"], call["sampled"], strict=True)
        texts = [[*before[row], *said] if isinstance(row, int) else row for row, said in pairs]
        for i, text in enumerate(texts):
            lengths[i] = len(text)
            tokens[i, : len(text)] = text
        yield Call(call["sampled"], lengths, tokens, call["drafts"])
        before = texts


def decoded(speculation: dict[str, Any] | None) -> tuple[list[list[int]], dict[str, float]]:
    """Return what vLLM says to the prompts, and its counts.

    Args:
        speculation: its `speculative_config`; None decodes plainly.
    """
    from vllm import LLM, SamplingParams, TokensPrompt  # type: ignore[import-not-found]

    llm = LLM(
        MODEL,
        dtype="float32",
        max_model_len=MAX_LENGTH,
        max_num_seqs=ROWS,
        max_num_batched_tokens=48,
        block_size=32,
        num_gpu_blocks_override=8,
        enforce_eager=True,
        disable_log_stats=False,
        speculative_config=speculation,
    )
    encode = llm.get_tokenizer().encode
    settings = [
        SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
        for count in PROMPTS.values()
    ]
    prompts = [TokensPrompt(prompt_token_ids=encode(prompt.strip())) for prompt in PROMPTS]
    said = [list(one.outputs[0].token_ids) for one in llm.generate(prompts, settings)]
    counts = {one.name: one.value for one in llm.get_metrics() if hasattr(one, "value")}
    llm.llm_engine.engine_core.shutdown()
    return said, counts


def record(file: Path = FILE) -> tuple[list[list[int]], dict[str, float]]:
    """Let vLLM decode the prompts, and write down what it asks; return that and its counts."""
    lines = file.with_suffix(".jsonl")
    lines.unlink(missing_ok=True)
    os.environ |= {"SESSION": str(lines), "FOREDRAFT_VLLM_DRAFTER": DRAFTER}
    found = decoded(
        {
            "method": "custom_class",
            "model": "tests.integrations.session.Recorder",
            "num_speculative_tokens": MOST,
        }
    )
    calls = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    lines.unlink()
    types = {json.dumps(call["handed"]) for call in calls}
    assert len(types) == 1, types
    kept = {"handed": calls[0]["handed"], "calls": shortened(calls)}
    file.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    print(record()[1])
