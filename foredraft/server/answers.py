"""What the server answers: objects as OpenAI's clients read them, and what speculation did.

Numbers of speculation come from the records of the steps, in vLLM's words and in llama.cpp's.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foredraft.core import Completion, FinishReason
from foredraft.files import Json
from foredraft.server.logprobs import of_chat, of_completion
from foredraft.server.scheduler import Job
from foredraft.tracing import summarize

REASONS = {
    FinishReason.EOS: "stop",
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT: "length",
    FinishReason.UNSATISFIED: "length",
    FinishReason.BLOCKED: "stop",
}
OURS = (FinishReason.UNSATISFIED, FinishReason.BLOCKED)  # told as `stop_reason`, too


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> Json:
    """Return what is said instead of an answer."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Ended:
    """A text that came to its end.

    Attributes:
        completion: what was said.
        prompt_seconds: that reading its prompt took, the step that ended it included.
    """

    completion: Completion
    prompt_seconds: float

    @classmethod
    def of(cls, job: Job, completion: Completion) -> Ended:
        """Return the end of a job's text."""
        first = completion.records[0].seconds if completion.records else 0.0
        return cls(completion, job.prompt_seconds + first)

    @property
    def reason(self) -> str:
        """Why it ended, as clients know it."""
        return REASONS[self.completion.finish_reason]

    @property
    def detail(self) -> str | None:
        """What clients have no word for: an unfinished structure, or no token that may come."""
        reason = self.completion.finish_reason
        return str(reason) if reason in OURS else None


@dataclass(frozen=True)
class Header:
    """What all objects of one answer begin with.

    Attributes:
        kind: `chat.completion` or `text_completion`.
        model: name of the model.
        fingerprint: of weights, runtime and version.
        identity: of the answer.
        created: seconds since 1970.
    """

    kind: str
    model: str
    fingerprint: str
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def is_chat(self) -> bool:
        """Whether it answers messages."""
        return self.kind == "chat.completion"

    def logprobs(self, entries: Sequence[Json], begin: int) -> Json:
        """Return what is said of some tokens of a choice, which so many characters stand before."""
        return of_chat(entries) if self.is_chat else of_completion(entries, begin)

    def whole(
        self,
        texts: Sequence[str],
        ended: Sequence[Ended],
        usage: Json,
        logprobs: Sequence[Json],
    ) -> Json:
        """Return an answer that comes at once.

        Args:
            texts: one a choice.
            ended: the ends of the texts.
            usage: tokens.
            logprobs: one a choice.
        """
        choices = [
            {
                "index": index,
                **({"message": _message(text)} if self.is_chat else {"text": text}),
                "logprobs": told,
                "finish_reason": end.reason,
                "stop_reason": end.detail,
            }
            for index, (text, end, told) in enumerate(zip(texts, ended, logprobs, strict=True))
        ]
        said = {"choices": choices, "usage": usage}
        return {**self._object(self.kind), **said, **figures(ended, usage)}

    def piece(
        self,
        index: int,
        text: str,
        *,
        is_first: bool = False,
        end: Ended | None = None,
        logprobs: Json = None,
    ) -> dict[str, Json]:
        """Return a piece of a stream: what is new of one text, or why it has ended."""
        if self.is_chat:
            delta = ({"role": "assistant"} if is_first else {}) | (
                {"content": text} if text else {}
            )
            said: dict[str, Json] = {"delta": delta}
        else:
            said = {"text": text}
        choice = {"index": index, **said, "logprobs": logprobs, "finish_reason": None}
        if end is not None:
            choice |= {"finish_reason": end.reason, "stop_reason": end.detail}
        return self._piece() | {"choices": [choice]}

    def usage_piece(self, ended: Sequence[Ended], usage: Json) -> Json:
        """Return the last piece of a stream that was asked for its usage."""
        return {**self._piece(), "choices": [], "usage": usage, **figures(ended, usage)}

    def _piece(self) -> dict[str, Json]:
        return self._object("chat.completion.chunk" if self.is_chat else self.kind)

    def _object(self, kind: str) -> dict[str, Json]:
        return {
            "id": f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.identity}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def _message(text: str) -> Json:
    return {"role": "assistant", "content": text, "refusal": None}


def usage_of(prompts: Sequence[Sequence[int]], ended: Sequence[Ended]) -> Json:
    """Return the tokens of prompts and answers."""
    read, said = sum(map(len, prompts)), sum(len(end.completion.tokens) for end in ended)
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def prediction_details(ended: Sequence[Ended]) -> dict[str, Json]:
    """Return what became of predicted tokens, as OpenAI's usage tells it."""
    records = [record for end in ended for record in end.completion.records]
    accepted = sum(record.num_predicted_accepted for record in records)
    drafted = sum(record.num_predicted for record in records)
    return {
        "completion_tokens_details": {
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": drafted - accepted,
        }
    }


def figures(ended: Sequence[Ended], usage: Json) -> Mapping[str, Json]:
    """Return what speculation did for some texts, how long they took, and with which seeds."""
    records = [record for end in ended for record in end.completion.records]
    later = [record for end in ended for record in end.completion.records[1:]]
    summary = summarize(records)
    drafting = [record for record in records if record.drafted]
    kept = Counter(record.num_accepted for record in drafting)
    seconds = sum(record.seconds for record in later)
    said = sum(len(record.emitted) for record in later)
    reading = sum(end.prompt_seconds for end in ended)
    return {
        "seed": ended[0].completion.seed if len(ended) == 1 else [e.completion.seed for e in ended],
        "metrics": {
            "speculative_decoding": {
                "mean_acceptance_length": summary.mean_acceptance_length,
                "draft_acceptance_rate": summary.acceptance_rate,
                "acceptance_histogram": [kept[i] for i in range(max(kept, default=-1) + 1)],
                "num_spec_steps": len(drafting),
                "num_accepted_draft_tokens": summary.num_accepted_tokens,
                "num_draft_tokens": summary.num_drafted_tokens,
            }
        },
        "timings": {
            "prompt_n": usage["prompt_tokens"],
            "prompt_ms": 1e3 * reading,
            "predicted_n": summary.num_emitted_tokens,
            "predicted_ms": 1e3 * seconds,
            "predicted_per_second": said / seconds if seconds else None,
            "draft_n": summary.num_drafted_tokens,
            "draft_n_accepted": summary.num_accepted_tokens,
        },
    }
