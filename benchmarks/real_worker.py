"""One contender of `real.py`: loads a model once, then generates a text for each line.

It runs in the environment of its contender, so it imports that one's package and no other. Its
argument is a JSON object: `kind`, `path` and `model` of the model, `threads`, `lookup`, and what is
for ours alone. A request holds `prompt`, `length`, `sampler`, `seed` and `draft`; its answer the
`tokens`, the number of `prompt_tokens`, `seconds`, `first_seconds`, `num_first` and `peak_bytes`,
or why it `failed`. Everybody makes tokens of the prompt and text of the tokens in the timed part.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

CONTEXT = 4096  # tokens
NGRAM = 2  # tokens that a lookup looks for, as both peers' own examples do
TEMPERATURE, TOP_P = 0.8, 0.9  # of the sampler `nucleus`
Request = dict[str, Any]


class Contender(Protocol):
    """Whoever answers; its `version` is told, and the most memory it held before its model came."""

    version: str
    import_bytes: int | None

    def generate(self, request: Request) -> Request:
        """Return all of an answer but the memory."""


class LlamaCpp:
    """llama.cpp through its binding's C functions.

    The binding's own loop asks for the logits of every token, the prompt's too, once it drafts; so
    it is slower with lookup than without. This loop asks for those that are verified.
    """

    def __init__(self, told: Request) -> None:
        import llama_cpp
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        self.import_bytes = peak_bytes()
        self.version = f"llama-cpp-python {metadata.version('llama-cpp-python')}"
        self._c, self._lookup = llama_cpp, told["lookup"]
        self._find = LlamaPromptLookupDecoding.find_candidate_pred_tokens
        threads = told["threads"]
        self._model = llama_cpp.Llama(
            told["path"],
            n_ctx=CONTEXT,
            n_batch=CONTEXT,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=True,
            verbose=False,
        )
        self._context = self._model._ctx.ctx
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model._model.model)
        self._batch = llama_cpp.llama_batch_init(CONTEXT, 0, 1)

    def generate(self, request: Request) -> Request:
        c = self._c
        c.llama_memory_clear(self._memory, False)
        sampler = self._sampler(request)
        begin = time.perf_counter()
        prompt = self._model.tokenize(request["prompt"].encode(), special=True)
        self._feed(prompt, 0, 1)
        tokens = [c.llama_sampler_sample(sampler, self._context, len(prompt) - 1)]
        first = time.perf_counter() - begin
        while len(tokens) < request["length"] and not self._ends(tokens):
            room = request["length"] - len(tokens) - 1
            self._step(prompt, tokens, sampler, min(request["draft"], room))
        self._model.detokenize(tokens)
        seconds = time.perf_counter() - begin
        c.llama_sampler_free(sampler)
        return told_of(tokens, len(prompt), seconds, first)

    def logits(self, request: Request) -> Request:
        """Write the logits after each of some tokens into a file, `[tokens, vocab]`, float32."""
        import numpy as np

        tokens: list[int] = request["tokens"]
        self._c.llama_memory_clear(self._memory, False)
        self._feed(tokens, 0, len(tokens))
        columns = self._c.llama_vocab_n_tokens(self._vocabulary)
        found = self._c.llama_get_logits(self._context)
        np.save(request["file"], np.ctypeslib.as_array(found, (len(tokens), columns)))
        return {}

    def _step(self, prompt: list[int], tokens: list[int], sampler: Any, most: int) -> None:
        """Draft by lookup, feed the draft, and add the tokens that the sampler draws from it."""
        known = len(prompt) + len(tokens) - 1
        draft = self._draft(prompt + tokens, most) if self._lookup and most > 0 else []
        self._feed([tokens[-1], *draft], known, len(draft) + 1)
        for i in range(len(draft) + 1):
            tokens.append(self._c.llama_sampler_sample(sampler, self._context, i))
            if draft[i : i + 1] != tokens[-1:] or self._ends(tokens):
                break
        kept = len(prompt) + len(tokens) - 1
        self._c.llama_memory_seq_rm(self._memory, 0, kept, -1)

    def _draft(self, text: list[int], most: int) -> list[int]:
        import numpy as np

        return [int(token) for token in self._find(np.array(text, dtype=np.intc), NGRAM, most)]

    def _ends(self, tokens: list[int]) -> bool:
        return bool(self._c.llama_vocab_is_eog(self._vocabulary, tokens[-1]))

    def _feed(self, tokens: list[int], begin: int, wanted: int) -> None:
        """Compute tokens after `begin` others; logits are wanted of the last ones."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, begin + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = i >= len(tokens) - wanted
        code = self._c.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode ended with {code}; legal: 0")

    def _sampler(self, request: Request) -> Any:
        c = self._c
        chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        parts = [c.llama_sampler_init_greedy()]
        if request["sampler"] != "greedy":
            parts = [c.llama_sampler_init_temp(TEMPERATURE), c.llama_sampler_init_top_p(TOP_P, 1)]
            parts.append(c.llama_sampler_init_dist(request["seed"]))
        for part in parts:
            c.llama_sampler_chain_add(chain, part)
        return chain


class OpenVino:
    """OpenVINO GenAI's pipeline; it reads the file itself.

    Unasked it keeps the keys and values of prompts, and finds a prompt that it has seen.
    """

    def __init__(self, told: Request) -> None:
        import openvino_genai

        self.import_bytes = peak_bytes()
        self.version = f"openvino-genai {metadata.version('openvino-genai')}"
        self._package, self._lookup = openvino_genai, told["lookup"]
        schedule = openvino_genai.SchedulerConfig()
        schedule.enable_prefix_caching = False
        schedule.max_num_batched_tokens = CONTEXT  # 256 unless told: a prompt in one piece
        settings = {"scheduler_config": schedule, "INFERENCE_NUM_THREADS": told["threads"]}
        settings |= {"PERFORMANCE_HINT": "LATENCY"}
        settings |= {"prompt_lookup": True} if self._lookup else {}
        self._pipeline = openvino_genai.LLMPipeline(told["path"], "CPU", **settings)
        self._tokenizer = self._pipeline.get_tokenizer()
        package = openvino_genai

        class Clock(package.StreamerBase):  # type: ignore[misc]
            """Notes when the first tokens are there, and how many those are."""

            def __init__(self) -> None:
                super().__init__()
                self.first, self.num_first = 0.0, 0

            def write(self, tokens: int | list[int]) -> Any:
                if not self.num_first:
                    self.first = time.perf_counter()
                    self.num_first = len(tokens) if isinstance(tokens, list) else 1
                return package.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        self._clock = Clock

    def generate(self, request: Request) -> Request:
        config = self._config(request)
        clock = self._clock()
        begin = time.perf_counter()
        prompt = self._tokenizer.encode(request["prompt"])
        tokens = list(self._pipeline.generate(prompt, config, clock).tokens[0])
        self._tokenizer.decode(tokens)
        seconds = time.perf_counter() - begin
        length, first = prompt.input_ids.shape[1], clock.first - begin
        return told_of(tokens, length, seconds, first, clock.num_first)

    def _config(self, request: Request) -> Any:
        config = self._package.GenerationConfig()
        config.max_new_tokens = request["length"]
        config.apply_chat_template = False
        config.eos_token_id = self._tokenizer.get_eos_token_id()
        config.do_sample = request["sampler"] != "greedy"
        if config.do_sample:
            config.temperature, config.top_p = TEMPERATURE, TOP_P
            config.rng_seed = request["seed"]
        if self._lookup:
            config.num_assistant_tokens, config.max_ngram_size = request["draft"], NGRAM
        return config


def told_of(
    tokens: list[int], prompt_tokens: int, seconds: float, first_seconds: float, num_first: int = 1
) -> Request:
    """Return an answer."""
    return {
        "tokens": [int(token) for token in tokens],
        "prompt_tokens": prompt_tokens,
        "seconds": seconds,
        "first_seconds": first_seconds,
        "num_first": num_first,
    }


def peak_bytes() -> int | None:
    """Return the most memory that this process has held, where Linux tells."""
    try:
        lines = Path("/proc/self/status").read_text().split("\n")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def contender(told: Request) -> Contender:
    """Return the contender that the argument describes, its model loaded."""
    if told["kind"] in ("llamacpp", "openvino"):
        return {"llamacpp": LlamaCpp, "openvino": OpenVino}[told["kind"]](told)
    import real_ours  # of this repository's environment

    return real_ours.contender(told)


def answered(one: Contender, request: Request) -> Request:
    """Return the answer to a request: a question of its own, or a generation."""
    try:
        if "question" in request:
            found: Request = getattr(one, request["question"])(request)
            return found
        return one.generate(request) | {"peak_bytes": peak_bytes()}
    except Exception as error:  # told to the parent, which leaves this contender out
        return {"failed": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Load, say so, and answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def say(values: Request) -> None:
        print(json.dumps(values), file=answers, flush=True)

    one = contender(json.loads(sys.argv[1]))
    told = {name: getattr(one, name, None) for name in ("version", "import_bytes", "load_seconds")}
    say(told)
    for line in sys.stdin:
        say(answered(one, json.loads(line)))


if __name__ == "__main__":
    main()
