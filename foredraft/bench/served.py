"""What another engine says of its drafts: vLLM's per-request metrics, llama.cpp's timings.

Both are sums over a text. They tell how much of *its* drafts was kept; what another drafter would
have drafted they cannot tell, since no token is in them. Where the answer holds the tokens as well
(vLLM's `return_token_ids`, llama.cpp's `return_tokens`), it is a recording, too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import TypeAlias

from foredraft.bench.timed import CostTable
from foredraft.errors import ConfigError, quoted
from foredraft.files import Json, read_lines

Record: TypeAlias = dict[str, Json]

VLLM, LLAMA_CPP = "vLLM", "llama.cpp"
# Of vLLM's `metrics.speculative_decoding`; documented with --per-request-spec-decode-metrics.
HISTOGRAM, BY_LENGTH = "acceptance_histogram", "acceptance_histogram_by_draft_length"
STEPS, DRAFTED, KEPT = "num_spec_steps", "num_draft_tokens", "num_accepted_draft_tokens"
MOST = "num_spec_tokens"


@dataclass(frozen=True)
class Served:
    """What an engine says of one text's drafts, or of several together.

    Attributes:
        engine: vLLM or llama.cpp.
        texts: how many.
        num_drafted_tokens: proposed.
        num_accepted_tokens: kept.
        num_steps: passes of the target; of vLLM those with a draft only.
        num_emitted_tokens: of llama.cpp all, of vLLM those of the steps with a draft.
        seconds: of decoding; None: not told.
        kept: (draft tokens, those kept) → steps; empty: not told.
    """

    engine: str
    texts: int
    num_drafted_tokens: int
    num_accepted_tokens: int
    num_steps: int
    num_emitted_tokens: int
    seconds: float | None = None
    kept: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def acceptance_rate(self) -> float | None:
        """Kept / drafted tokens; None without a draft."""
        return (
            self.num_accepted_tokens / self.num_drafted_tokens if self.num_drafted_tokens else None
        )

    @property
    def mean_acceptance_length(self) -> float | None:
        """Emitted tokens a step; None without a step."""
        return self.num_emitted_tokens / self.num_steps if self.num_steps else None

    @property
    def acceptance_by_position(self) -> list[float]:
        """Share of tokens kept at each position, given those before were; empty: not told."""
        shares = []
        for place in range(max((drafted for drafted, _ in self.kept), default=0)):
            reached = {k: n for k, n in self.kept.items() if k[0] > place and k[1] >= place}
            kept = sum(n for (_, accepted), n in reached.items() if accepted > place)
            if not reached:
                break
            shares.append(kept / sum(reached.values()))
        return shares

    def lengths(self, costs: CostTable) -> list[tuple[int, float, float]]:
        """Return what drafts of each fixed length would give: gamma, tokens/step, tokens/T_v."""
        found = [(0, 1.0, 1 / costs.costs.verify(0))]
        for gamma, tokens in enumerate(accumulate(accumulate(self.acceptance_by_position, mul)), 1):
            seconds = costs.costs.draft(gamma) + costs.costs.verify(gamma)
            found.append((gamma, 1 + tokens, (1 + tokens) / seconds))
        return found

    def to_dict(self) -> Record:
        """Return one flat JSON object."""
        told = asdict(self)
        del told["kept"]
        return {
            **told,
            "acceptance_rate": self.acceptance_rate,
            "mean_acceptance_length": self.mean_acceptance_length,
            "acceptance_by_position": self.acceptance_by_position,
        }


def read_served(file: Path) -> list[Served]:
    """Return what the answers of a file say of their drafts; none: no line is such an answer.

    Args:
        file: JSON lines, one answer alone, or a saved stream.

    Raises:
        ConfigError: a line looks like one and contradicts itself, or two engines are mixed.
    """
    found = []
    for number, record in enumerate(_records_of(read_lines(file)), start=1):
        try:
            one = _served(record)
        except ConfigError as error:
            raise ConfigError(f"answer {number} of {quoted(str(file), 300)}: {error}") from error
        found += [] if one is None else [one]
    engines = sorted({one.engine for one in found})
    if len(engines) > 1:
        raise ConfigError(
            f"{quoted(str(file), 300)} holds answers of {' and '.join(engines)}, which count "
            "differently; give a file of each"
        )
    return found


def hold_tokens(file: Path) -> bool:
    """Whether every line of a file is an answer that holds its tokens, too: a recording."""
    lines = [line for line in read_lines(file) if line.strip()]
    records = [record for line in lines for record in _records_of([line])]
    return len(records) == len(lines) and all(map(_tokens_of, records))


def _tokens_of(record: Record) -> Json:
    choices = record.get("choices")
    answer = choices[0] if isinstance(choices, list) and choices else record
    return answer.get("token_ids") or answer.get("tokens") if isinstance(answer, dict) else None


def _records_of(lines: list[str]) -> list[Record]:
    """Return the JSON objects of a text that is one, or lines of them; other lines are left out."""
    whole = _object("\n".join(lines))
    if whole is not None:
        return [whole]
    found = (_object(line.strip().removeprefix("data:")) for line in lines)
    return [record for record in found if record is not None]


def _object(text: str) -> Record | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict) else None


def added(served: Iterable[Served]) -> Served:
    """Return several answers of one engine as one; at least one."""
    all_ = list(served)
    times = [one.seconds for one in all_ if one.seconds is not None]
    kept: Counter[tuple[int, int]] = Counter()
    for one in all_:
        kept += one.kept
    sums = [sum(values) for values in zip(*map(_counts, all_), strict=True)]
    whole = all(one.kept or not one.num_drafted_tokens for one in all_)
    seconds = sum(times) if len(times) == len(all_) else None
    texts, drafted, accepted, steps, emitted = sums
    known = kept if whole else Counter[tuple[int, int]]()
    return Served(all_[0].engine, texts, drafted, accepted, steps, emitted, seconds, known)


def _counts(one: Served) -> tuple[int, ...]:
    drafted = (one.num_drafted_tokens, one.num_accepted_tokens)
    return (one.texts, *drafted, one.num_steps, one.num_emitted_tokens)


def _served(record: Record) -> Served | None:
    metrics = record.get("metrics")
    speculative = metrics.get("speculative_decoding") if isinstance(metrics, dict) else record
    if isinstance(speculative, dict) and STEPS in speculative and HISTOGRAM in speculative:
        return _vllm(speculative)
    timings = record.get("timings", record)
    if isinstance(timings, dict) and {"predicted_n", "predicted_ms"} <= timings.keys():
        return _llama_cpp(timings)
    return None


def _vllm(told: Record) -> Served:
    steps, drafted, kept, longest = (_count(told, n) for n in (STEPS, DRAFTED, KEPT, MOST))
    histogram = _histogram(told[HISTOGRAM], HISTOGRAM)
    if len(histogram) != longest + 1 or sum(histogram) != steps or _weighed(histogram) != kept:
        raise ConfigError(
            f"its {HISTOGRAM} {quoted(histogram)} does not fit {STEPS} {steps}, {KEPT} {kept} and "
            f"{MOST} {longest}; save the answer as vLLM gave it"
        )
    if kept > drafted:
        raise ConfigError(f"its {KEPT} {kept} is more than its {DRAFTED} {drafted}")
    pairs: Counter[tuple[int, int]] = Counter()
    rows = told.get(BY_LENGTH)
    if isinstance(rows, dict):
        for length, row in rows.items():
            counts = _histogram(row, BY_LENGTH)
            if length != str(len(counts) - 1):
                raise ConfigError(f"its {BY_LENGTH} has {len(counts)} counts at {quoted(length)}")
            pairs += Counter({(len(counts) - 1, j): n for j, n in enumerate(counts)})
        if pairs.total() != steps or sum(k * n for (k, _), n in pairs.items()) != drafted:
            raise ConfigError(f"its {BY_LENGTH} does not fit {STEPS} {steps}, {DRAFTED} {drafted}")
    elif drafted == steps * longest:  # all drafts were as long as allowed
        pairs += Counter({(longest, j): n for j, n in enumerate(histogram)})
    return Served(VLLM, 1, drafted, kept, steps, kept + steps, None, pairs)


def _llama_cpp(told: Record) -> Served:
    emitted, drafted, kept = (
        _count(told, name) if name in told or name == "predicted_n" else 0
        for name in ("predicted_n", "draft_n", "draft_n_accepted")
    )
    if not kept <= drafted or kept > emitted:
        raise ConfigError(
            f"its draft_n_accepted {kept} is more than its draft_n {drafted} or its predicted_n "
            f"{emitted}"
        )
    milliseconds = told["predicted_ms"]
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise ConfigError(f"its predicted_ms is {quoted(milliseconds)}, no number of milliseconds")
    if not 0 <= milliseconds < float("inf"):
        raise ConfigError(f"its predicted_ms is {quoted(milliseconds)}; it must be ≥ 0")
    return Served(LLAMA_CPP, 1, drafted, kept, emitted - kept, emitted, milliseconds / 1000)


def _count(told: Record, name: str) -> int:
    value = told.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"its {name} is {quoted(value)}; it must be a whole number ≥ 0")
    return value


def _histogram(value: Json, name: str) -> list[int]:
    counts: list[Json] = value if isinstance(value, list) else []
    if not counts or any(type(n) is not int or n < 0 for n in counts):
        raise ConfigError(f"its {name} is {quoted(value)}; it must be a list of whole numbers ≥ 0")
    return counts


def _weighed(histogram: Sequence[int]) -> int:
    return sum(place * count for place, count in enumerate(histogram))
