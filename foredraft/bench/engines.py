"""What was advised, as another engine is told: a command line of vLLM or llama.cpp, or Python.

Names as in vLLM 0.32, llama.cpp since May 2026 and transformers 5. What was measured was measured
here; the engine has costs of its own, and other drafts where it lacks ours. Both are said.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from foredraft.bench.advice import WORTH_IT, Advice, Candidate
from foredraft.bench.timing import AUTO, MODEL
from foredraft.drafting.prompt_lookup import PromptLookup
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.files import Json
from foredraft.ranges import LONGEST_DRAFT

PROPOSER = "foredraft.integrations.vllm.Proposer"  # by its path: a leaf imports no other
DRAFTER_VARIABLE = "FOREDRAFT_VLLM_DRAFTER"
HYBRID = "hybrid(suffix, model)"
AUTO_LENGTH = 8  # tokens at most, where the drafter chooses
SYNTHETIC = (
    "Never serve with synthetic_acceptance_rates (rejection_sample_method synthetic): they put "
    "chance in the place of the model's distribution, and are for capacity tests only."
)
AT_ONE = (
    "Measured for one text at a time, here; measure again there, at your load, before you trust it"
)
Table = Sequence[tuple[int, int, int]]  # first batch size, last one, draft tokens


@dataclass(frozen=True)
class Pair:
    """The models as an engine is to find them.

    Attributes:
        target: folder, file or hub name.
        drafter: likewise; None without one.
        is_head: whether the drafter is a head that reads the target's states.
        is_foreign: whether it has another tokenizer.
    """

    target: str
    drafter: str | None = None
    is_head: bool = False
    is_foreign: bool = False


@dataclass(frozen=True)
class Order:
    """What an engine is to be told.

    Attributes:
        engine: its name.
        text: a command line of a shell, or lines of Python.
        notes: sentences: why this, and what to mind.
    """

    engine: str
    text: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Json]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def order(engine: str, advice: Advice, pair: Pair, table: Table = ()) -> Order:
    """Return what an engine is to be told to do as advised.

    Args:
        engine: a name of `ENGINES`.
        advice: what was measured.
        pair: the models.
        table: vLLM's draft tokens by batch size, if known.

    Raises:
        ConfigError: the table is none of vLLM's, or of another engine.
    """
    if table and engine != "vllm":
        raise ConfigError(f"a table by batch size is vLLM's, and {engine} takes none; leave it out")
    check_table(table)
    makes = ENGINES[engine]
    return makes(pair, *_chosen(engine, advice), table)


def read_table(text: str) -> Table:
    """Return the rows of a table in JSON.

    Raises:
        ConfigError: it is none.
    """
    with foreign("reading a table", "give JSON, e.g. [[1, 8, 4], [9, 64, 0]]", ConfigError):
        rows = json.loads(text)
    table = rows if isinstance(rows, list) else [rows]
    check_table([row if isinstance(row, list) else [row] for row in table])
    return [tuple(row) for row in table]


def check_table(table: Sequence[Sequence[int]]) -> None:
    """Refuse what vLLM would.

    Raises:
        ConfigError: rows overlap, do not begin at 1, or are out of range.
    """
    rows = [[1, 0, 0], *map(list, table)]
    legal = all(
        len(row) == 3
        and all(type(n) is int for n in row)
        and 1 <= row[0] <= row[1]
        and 0 <= row[2] <= LONGEST_DRAFT
        for row in rows[1:]
    )
    if not legal or any(b[0] <= a[1] for a, b in pairwise(rows)) or (table and rows[1][0] != 1):
        raise ConfigError(
            f"{quoted(list(table))} is no table by batch size; give rows [first, last, tokens] "
            f"from batch size 1 on, without overlap, tokens 0 … {LONGEST_DRAFT}, e.g. "
            "[[1, 8, 4], [9, 64, 0]]"
        )


def _chosen(engine: str, advice: Advice) -> tuple[Candidate | None, tuple[str, ...]]:
    """Return the best that pays and that the engine can draft with, and what to say of it."""
    best = advice.chosen or advice.alternative
    if best is None:
        return None, ("Speculation was never worth it here: decode plainly.",)
    if _can(engine, best, advice):
        return best, (f"As advised: {best.name}, {best.figures}.", f"{AT_ONE}.")
    worth = [one for one in advice.candidates if one.speedup >= WORTH_IT]
    other = next((one for one in worth if _can(engine, one, advice)), None)
    cannot = f"{engine} cannot draft as {best.name} does"
    if other is None:
        return None, (f"{cannot}, and nothing that it can was worth it here: decode plainly.",)
    return other, (f"{cannot}; the best that it can: {other.name}, {other.figures}.", f"{AT_ONE}.")


def _can(engine: str, one: Candidate, advice: Advice) -> bool:
    """Whether an engine has a drafter of this kind: mixtures with a model only llama.cpp."""
    if one.drafting == HYBRID:
        return engine == "llama.cpp"
    return one.drafting != AUTO or advice.drafter is None


# --- vLLM -----------------------------------------------------------------------------------------


def _vllm(pair: Pair, one: Candidate | None, notes: tuple[str, ...], table: Table) -> Order:
    line = f"vllm serve {shlex.quote(pair.target)}"
    if one is None:
        return Order("vllm", line, (*notes, SYNTHETIC))
    length = max([one.gamma or AUTO_LENGTH, *(k for *_, k in table)]) if table else one.gamma
    config, variables, why = _speculation(pair, one)
    config["num_speculative_tokens"] = length or AUTO_LENGTH
    if table:
        config["num_speculative_tokens_per_batch_size"] = [list(row) for row in table]
        tabled = "The table was given, not measured; vLLM drops it under data parallelism."
    else:
        tabled = (
            "No table by batch size is known: large batches gain less. Give one with --table, "
            "measured there, for num_speculative_tokens_per_batch_size."
        )
    line = f"{variables}{line} --speculative-config {shlex.quote(json.dumps(config))}"
    return Order("vllm", line, (*notes, why, tabled, SYNTHETIC))


def _speculation(pair: Pair, one: Candidate) -> tuple[dict[str, Json], str, str]:
    """Return the config, what stands before the command, and why this one."""
    if one.drafting == MODEL:
        method = "eagle3" if pair.is_head else "draft_model"
        config: dict[str, Json] = {"method": method, "model": pair.drafter}
        if pair.is_foreign:
            config["use_heterogeneous_vocab"] = True
        return config, "", "The draft model is run by vLLM itself, whose drafts are greedy."
    if one.drafting == "prompt_lookup":
        settings = PromptLookup()
        config = {"method": "ngram", "prompt_lookup_max": settings.max_ngram}
        config["prompt_lookup_min"] = settings.min_ngram
        return (
            config,
            "",
            "vLLM's own ngram looks up as prompt_lookup does.",
        )
    variables = f"{DRAFTER_VARIABLE}={shlex.quote(one.drafting)} "
    why = (
        f"What was measured is our {one.drafting}: it drafts inside vLLM, which must find this "
        "package; where Model Runner V2 refuses custom_class, set VLLM_USE_V2_MODEL_RUNNER=0. "
        "vLLM's own suffix is another program of the same idea."
    )
    return {"method": "custom_class", "model": PROPOSER}, variables, why


# --- llama.cpp ------------------------------------------------------------------------------------

OLDER = (
    "Builds before May 2026 call --spec-draft-n-max and --spec-draft-n-min --draft-max and "
    "--draft-min, and --spec-ngram-simple-size-n and -m --spec-ngram-size-n and -m."
)


def _llama_cpp(pair: Pair, one: Candidate | None, notes: tuple[str, ...], table: Table) -> Order:
    words, more = ["llama-server", "-m", _gguf(pair.target, "target")], list(notes)
    if one is not None:
        length = str(one.gamma or AUTO_LENGTH)
        kinds = []
        if one.drafting != MODEL:
            kinds.append("ngram-simple")
            words += ["--spec-ngram-simple-size-n", str(PromptLookup().max_ngram)]
            words += ["--spec-ngram-simple-size-m", length]
            more.append(f"ngram-simple is the nearest that llama.cpp has to our {one.drafting}.")
        if one.drafting in (MODEL, HYBRID):
            kinds.append("draft-eagle3" if pair.is_head else "draft-simple")
            words += ["-md", _gguf(pair.drafter or "", "drafter")]
            words += ["--spec-draft-n-max", length, "--spec-draft-n-min", "0"]
        words += ["--spec-type", ",".join(kinds)]
        more.append(OLDER)
        if pair.is_foreign:
            more.append("The tokenizers differ, which newer builds refuse; take a drafter of one.")
    if any(name in words for name in ("target.gguf", "drafter.gguf")):
        more.append(
            "llama.cpp reads GGUF files: put yours in the place of target.gguf, drafter.gguf."
        )
    return Order("llama.cpp", shlex.join(words), tuple(more))


def _gguf(name: str, role: str) -> str:
    return name if name.endswith(".gguf") else f"{role}.gguf"


# --- transformers ---------------------------------------------------------------------------------


def _transformers(pair: Pair, one: Candidate | None, notes: tuple[str, ...], table: Table) -> Order:
    kind = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    lines = [kind, "", *_loaded("model", "tokenizer", pair.target)]
    settings = ["**inputs", "max_new_tokens=200"]
    more = list(notes)
    if one is not None and one.drafting == MODEL:
        lines += _loaded(
            "assistant", "assistant_tokenizer" if pair.is_foreign else "", pair.drafter
        )
        lines += [
            f"assistant.generation_config.num_assistant_tokens = {one.gamma or AUTO_LENGTH}",
            'assistant.generation_config.num_assistant_tokens_schedule = "constant"',
            "assistant.generation_config.assistant_confidence_threshold = 0.0",
        ]
        settings.append("assistant_model=assistant")
        if pair.is_foreign:
            settings += ["tokenizer=tokenizer", "assistant_tokenizer=assistant_tokenizer"]
        more.append("The length is read from the assistant's generation config, not from generate.")
        if pair.is_head:
            more.append(
                "transformers runs no heads of the speculators' format; take a draft model."
            )
    elif one is not None:
        settings.append(f"prompt_lookup_num_tokens={one.gamma or AUTO_LENGTH}")
        more.append(f"Prompt lookup is the nearest that transformers has to our {one.drafting}.")
    lines.append('inputs = tokenizer("…", return_tensors="pt")')
    lines.append(f"output = model.generate({', '.join(settings)})")
    return Order("transformers", "\n".join(lines), tuple(more))


def _loaded(model: str, tokenizer: str, name: str | None) -> list[str]:
    lines = [f"{model} = AutoModelForCausalLM.from_pretrained({name!r})"]
    return lines + [f"{tokenizer} = AutoTokenizer.from_pretrained({name!r})"] * bool(tokenizer)


ENGINES = {"vllm": _vllm, "llama.cpp": _llama_cpp, "transformers": _transformers}
