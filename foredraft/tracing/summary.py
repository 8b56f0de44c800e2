"""Every statistic, each formula once: step records → numbers.

Counts are `num_*`, rates `*_rate`, ratios `*_ratio`, durations `*_seconds`. A number that a run
cannot give (no drafts, a single step) is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

from foredraft.core import StepRecord
from foredraft.doors import listed, of_type
from foredraft.errors import RequestError
from foredraft.files import Json


@dataclass(frozen=True)
class Summary:
    """Statistics of one generation.

    Attributes:
        num_steps: draft–verify–accept rounds.
        num_target_calls: forward passes of the target.
        num_draft_calls: forward passes of the draft model.
        num_drafted_tokens: proposed tokens.
        num_accepted_tokens: proposed tokens that are part of the output.
        num_emitted_tokens: tokens of the output.
        acceptance_rate: accepted / drafted.
        conditional_acceptance_rate: accepted / (accepted + first rejections). Under `rejection` it
            estimates the acceptance rate α of one token, Σ min(p, q); under `block` and `coupled`,
            which accept otherwise, it is another number.
        acceptance_by_position: among steps that drafted position i, the share that accepted it.
        mean_accepted_tokens: accepted / steps.
        mean_acceptance_length: emitted / steps, τ; plain decoding has 1.
        mean_gamma: drafted tokens / steps with a draft.
        mean_normalized_entropy: mean H / ln V over the steps that measured it.
        undrafted_step_share: share of steps whose draft was empty.
        free_token_share: share of the output that needed no forward pass of its own, 1 − 1/τ.
        tokens_per_second: emitted / seconds, the first step (the prompt) left out of both.
        total_seconds: all steps, the first too.
        time_to_first_token_seconds: the first step.
        seconds_per_token: median over the later steps.
        draft_cost_ratio: seconds a draft call / seconds a target call over the later steps, c.
        mean_threads: threads of a target pass over the later steps, which the compiled pass chooses
            by how busy the machine is; None where the runtime does not choose.
    """

    num_steps: int
    num_target_calls: int
    num_draft_calls: int
    num_drafted_tokens: int
    num_accepted_tokens: int
    num_emitted_tokens: int
    acceptance_rate: float | None
    conditional_acceptance_rate: float | None
    acceptance_by_position: tuple[float, ...]
    mean_accepted_tokens: float | None
    mean_acceptance_length: float | None
    mean_gamma: float | None
    mean_normalized_entropy: float | None
    undrafted_step_share: float | None
    free_token_share: float | None
    tokens_per_second: float | None
    total_seconds: float | None
    time_to_first_token_seconds: float | None
    seconds_per_token: float | None
    draft_cost_ratio: float | None
    mean_threads: float | None

    def to_dict(self) -> dict[str, Json]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"acceptance_by_position": list(self.acceptance_by_position)}


def summarize(records: Sequence[StepRecord]) -> Summary:
    """Return the statistics of a generation.

    Args:
        records: its steps in the order in which they ran, as `Completion.records` has them.

    Returns:
        Its statistics; what this run cannot give is None, never 0.

    Raises:
        RequestError: what was given are no records.
    """
    for record in listed("records", records, "give Completion.records"):
        of_type("records", record, StepRecord, "give Completion.records", RequestError)
    drafted = sum(len(r.drafted) for r in records)
    accepted = sum(r.num_accepted for r in records)
    emitted = sum(len(r.emitted) for r in records)
    rejections = sum(r.is_rejection for r in records)
    drafting = sum(bool(r.drafted) for r in records)
    entropies = [r.normalized_entropy for r in records if r.normalized_entropy is not None]
    later = [r for r in records[1:] if r.emitted]
    threads = [r.num_threads for r in later if r.num_threads is not None]
    return Summary(
        num_steps=len(records),
        num_target_calls=sum(r.num_target_calls for r in records),
        num_draft_calls=sum(r.num_draft_calls for r in records),
        num_drafted_tokens=drafted,
        num_accepted_tokens=accepted,
        num_emitted_tokens=emitted,
        acceptance_rate=_ratio(accepted, drafted),
        conditional_acceptance_rate=_ratio(accepted, accepted + rejections),
        acceptance_by_position=_by_position(records),
        mean_accepted_tokens=_ratio(accepted, len(records)),
        mean_acceptance_length=_ratio(emitted, len(records)),
        mean_gamma=_ratio(drafted, drafting),
        mean_normalized_entropy=fmean(entropies) if entropies else None,
        undrafted_step_share=_ratio(len(records) - drafting, len(records)),
        free_token_share=_ratio(emitted - sum(r.num_target_calls for r in records), emitted),
        tokens_per_second=_ratio(sum(len(r.emitted) for r in later), sum(r.seconds for r in later)),
        total_seconds=sum(r.seconds for r in records) if records else None,
        time_to_first_token_seconds=records[0].seconds if records else None,
        seconds_per_token=median(r.seconds / len(r.emitted) for r in later) if later else None,
        draft_cost_ratio=_draft_cost_ratio(later),
        mean_threads=fmean(threads) if threads else None,
    )


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


def _by_position(records: Sequence[StepRecord]) -> tuple[float, ...]:
    longest = max((len(r.drafted) for r in records), default=0)
    shares = []
    for i in range(longest):
        reached = [r.num_accepted > i for r in records if len(r.drafted) > i]
        shares.append(sum(reached) / len(reached))
    return tuple(shares)


def _draft_cost_ratio(later: Sequence[StepRecord]) -> float | None:
    # Medians: the draft model's first call reads the whole prompt and must not count as typical.
    draft = [r.draft_seconds / r.num_draft_calls for r in later if r.num_draft_calls]
    verify = [r.verify_seconds / r.num_target_calls for r in later if r.num_target_calls]
    return median(draft) / median(verify) if draft and verify and median(verify) else None
