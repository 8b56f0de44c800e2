"""Proposer: our drafters inside vLLM, by its `custom_class`; verdicts stay vLLM's own.

    vllm serve MODEL --speculative-config '{"method": "custom_class",
        "model": "foredraft.integrations.vllm.Proposer", "num_speculative_tokens": 8}'

vLLM hands over the tokens of a batch, row by row, and no more: neither logits nor ids of requests.
Knows tokens only; imports nothing of vLLM.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Protocol

from foredraft.config import DecodingConfig
from foredraft.core import StepOutcome, StepRecord
from foredraft.costs import Meter
from foredraft.drafting import DRAFTERS, Beginning, DraftParts
from foredraft.errors import ConfigError, quoted
from foredraft.integrations.batch import Text, Texts, Tokens
from foredraft.method import Method
from foredraft.registry import nearest
from foredraft.sampling import Rng
from foredraft.tracing import Summary, summarize

NAME, VARIABLE = "foredraft", "FOREDRAFT_VLLM_"  # of our part of `additional_config`; of variables
LOG_SECONDS = 10.0  # between two lines, as vLLM's own
LOGGED = 10_000  # newest steps that a line tells of
GREEDY_ONLY = (
    "on a CPU the verdicts of vLLM 0.32 are wrong, whoever drafts, for every request of a batch in "
    "which one samples (its temperatures are lost on the way to the kernel); send greedy requests "
    "alone, or leave speculation out"
)

# vLLM shows what is logged below its own name, and nothing else at this level.
logger = logging.getLogger(f"vllm.{NAME}")


class _Model(Protocol):
    max_model_len: int

    def get_vocab_size(self) -> int: ...


class _Speculation(Protocol):
    num_speculative_tokens: int
    num_speculative_tokens_per_batch_size: list[tuple[int, int, int]] | None


class _Scheduling(Protocol):
    max_num_seqs: int


class _Device(Protocol):
    device_type: str | None


class VllmConfig(Protocol):
    """What is read of the configuration that vLLM hands over."""

    model_config: _Model
    speculative_config: _Speculation
    scheduler_config: _Scheduling
    device_config: _Device
    additional_config: object


@dataclass(frozen=True)
class Options:
    """What may be chosen, by `FOREDRAFT_VLLM_DRAFTER=…` or `--additional-config.foredraft.…`.

    The environment has the last word.

    Attributes:
        drafter: spec string of what drafts: `auto(…)` chooses source and length by confidence and
            measured cost; `suffix`, `ngram`, `prompt_lookup` alone draft as much as they find.
        policy: spec string of the length rule of those; empty: as many tokens as vLLM allows.
    """

    drafter: str = "auto"
    policy: str = ""

    @classmethod
    def read(cls, additional: object, environment: Mapping[str, str]) -> Options:
        """Return the options of vLLM's `additional_config` and of the environment.

        Raises:
            ConfigError: an option that there is not.
        """
        own = additional.get(NAME, {}) if isinstance(additional, dict) else {}
        found = dict(own) if isinstance(own, dict) else {quoted(own): ""}
        for name, value in environment.items():
            if name.startswith(VARIABLE):
                found[name.removeprefix(VARIABLE).lower()] = value
        legal = [field.name for field in fields(cls)]
        for name in found:
            if name not in legal:
                raise ConfigError(
                    f"unknown option {quoted(name)} of foredraft in vLLM{nearest(name, legal)}; "
                    f"legal: {', '.join(legal)}, as {VARIABLE}{legal[0].upper()}=… for example"
                )
        return cls(**{name: str(value) for name, value in found.items()})

    def method(self, gamma: int) -> Method:
        """Return what drafts, and how many tokens: `gamma` where the policy does not say.

        Raises:
            ConfigError: a spec string that cannot be read, or a drafter with a memory that all
                texts share: here they run at once.
        """
        config = DecodingConfig(drafting=self.drafter, gamma=gamma)
        if self.policy:
            config = config.replace(policy=self.policy)
        method = Method.of(config, "speculative")
        if method.source is not None and "keep=True" in DRAFTERS.spec(method.source):
            raise ConfigError(
                f"drafter {quoted(self.drafter)}: keep=True remembers one text after another, "
                "and vLLM runs many at once; leave keep out"
            )
        return method


class Proposer:
    """Drafts for a batch of vLLM's requests; has what vLLM asks of a custom class, and no `model`.

    Drafts are functions of the texts and one-hot, so that vLLM's rejection sampler keeps greedy
    text and distribution. Of NASD the counts are here, not what the target nearly said: vLLM does
    not tell.

    Args:
        vllm_config: of the engine.
        clock: seconds now.

    Raises:
        ConfigError: an option that there is not, or that cannot be read.
    """

    def __init__(self, vllm_config: VllmConfig, clock: Callable[[], float] = perf_counter) -> None:
        speculation, model = vllm_config.speculative_config, vllm_config.model_config
        self._most: int = speculation.num_speculative_tokens
        self._table = speculation.num_speculative_tokens_per_batch_size or []
        self._max_length, self._vocab_size = model.max_model_len, model.get_vocab_size()
        options = Options.read(vllm_config.additional_config, os.environ)
        method = options.method(self._most)
        assert method.source is not None
        self._drafter = method.source.build(DraftParts(self._vocab_size, knows_logits=False))
        self._policy, self._meter, self._clock = method.policy, Meter(), clock
        self._texts = Texts(self._made, vllm_config.scheduler_config.max_num_seqs)
        self._proposed_at, self._logged_at = 0.0, clock()
        self._records: deque[StepRecord] = deque(maxlen=LOGGED)
        logger.info("%s drafts with %s, %d tokens at most", NAME, options.drafter, self._most)
        if vllm_config.device_config.device_type == "cpu":
            logger.warning("%s: %s", NAME, GREEDY_ONLY)

    def load_model(self, *_: object, **__: object) -> None:
        """Load nothing: vLLM calls it when the target is there."""

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: Tokens,
        token_ids_cpu: Tokens,
        slot_mappings: object = None,
    ) -> list[list[int]]:
        """Return a draft for each row of the batch, of any length; none for one still being read.

        Args:
            sampled_token_ids: what each row said in the step before: what was kept of its draft,
                and a token of the target's own; empty where its prompt is being read.
            num_tokens_no_spec: tokens of each row, these included, shape `[≥ rows]`.
            token_ids_cpu: all tokens of each row from the first place on, `[≥ rows, …]`.
            slot_mappings: of no use here.
        """
        begin = self._clock()
        said = [new for new in sampled_token_ids if new]
        rows = [
            token_ids_cpu[i, : num_tokens_no_spec[i]]
            for i, new in enumerate(sampled_token_ids)
            if new
        ]
        texts = [self._texts.take(row, len(new)) for row, new in zip(rows, said, strict=True)]
        self._learn(texts, said, len(sampled_token_ids), begin)
        drafts = iter(self._drafts(texts))
        self._texts.keep(texts, rows)
        self._tell()
        self._proposed_at = self._clock()
        return [next(drafts) if new else [] for new in sampled_token_ids]

    def _made(self, tokens: list[int]) -> Text:
        """Return what is known of a text that begins with these tokens."""
        drafter = self._drafter.for_text(self._meter)
        policy = self._policy.for_text(self._meter)
        self._meter.begin_text()
        drafter.start(Beginning(list(tokens), Rng(0)))
        policy.start()
        return Text(tokens, drafter, policy)

    def _learn(
        self, texts: Sequence[Text], said: Sequence[Sequence[int]], rows: int, now: float
    ) -> None:
        """Learn from the step before.

        A pass that read prompts says nothing of the cost of a draft, and is not timed; so is none
        that began an unknown time after the drafts before, since then nobody goes on.

        Args:
            texts: of all rows that have said something.
            said: by each of them.
            rows: in the batch.
            now: seconds, when the step was over.
        """
        seconds = now - self._proposed_at
        is_measured = len(texts) == rows and all(text.steps for text in texts)
        row_seconds = seconds / max(1, sum(len(text.draft.tokens) + 1 for text in texts))
        outcomes = [
            text.hear(new, row_seconds, is_shared=rows > 1)
            for text, new in zip(texts, said, strict=True)
        ]
        if is_measured:
            self._measure(texts, outcomes, seconds)
        for text, new, outcome in zip(texts, said, outcomes, strict=True):
            text.learn(outcome, is_measured=is_measured)
            seconds_of = outcome.draft_seconds, outcome.verify_seconds
            drafted = outcome.draft.tokens
            self._records.append(StepRecord(drafted, len(new) - 1, list(new), *seconds_of))

    def _measure(
        self, texts: Sequence[Text], outcomes: Sequence[StepOutcome], seconds: float
    ) -> None:
        """Tell the meter of a pass that only went on with texts."""
        self._meter.texts = len(texts)
        for text, outcome in zip(texts, outcomes, strict=True):
            if not text.rest:
                self._meter.update(outcome)
            elif len(texts) == 1:
                self._meter.rests.append(seconds)
        if len(texts) > 1:
            self._meter.update_shared(list(outcomes), seconds)

    def _drafts(self, texts: Sequence[Text]) -> list[list[int]]:
        """Return a draft for each text, weighed beside those before it."""
        most, drafts = self._most_of(len(texts)), list[list[int]]()
        company = len(texts) - 1
        for text in texts:
            self._meter.texts, self._meter.company = len(texts), company
            begin = self._clock()
            # The last place is the target's own.
            room = self._max_length - len(text.tokens) - 1
            drafts.append(text.propose(min(most, room), self._vocab_size))
            text.draft_seconds = self._clock() - begin
            company += len(drafts[-1])
        return drafts

    def _most_of(self, rows: int) -> int:
        """Return the most tokens of a draft, by vLLM's table of batch sizes where there is one.

        vLLM obeys it for drafters of its own, and does not tell others.
        """
        most = self._most
        for first, _, tokens in sorted(self._table):
            if first <= rows:
                most = tokens
        return min(most, self._most)

    def _tell(self) -> None:
        """Log the statistics of the newest steps, now and then."""
        now = self._clock()
        if now - self._logged_at >= LOG_SECONDS and self._records:
            self._logged_at = now
            logger.info("%s: %s", NAME, told(summarize(list(self._records))))
            self._records.clear()


def told(summary: Summary) -> str:
    """Return what a log says of steps, by our names; vLLM's own line differs.

    There, mean acceptance length is of steps with a draft; here of all, so that it is tokens a
    pass.
    """
    shown = (
        "mean_acceptance_length",
        "acceptance_rate",
        "conditional_acceptance_rate",
        "mean_gamma",
        "undrafted_step_share",
        "num_emitted_tokens",
    )
    values = [(name, getattr(summary, name)) for name in shown]
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values
        if value is not None
    )
