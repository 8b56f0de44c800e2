"""What a request may say: its fields, their types and their ranges, as `/openapi.json` shows them.

A field that is not here is refused by name, and so is one that stands in `TO_COME` with a value
that would change something. Numbers are numbers: the text "5" is none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from foredraft.files import Json
from foredraft.ranges import LONGEST_DRAFT

MOST_STOPS, MOST_PROMPTS, MOST_MESSAGES = 4, 64, 2048
LONGEST = 10**9  # tokens of an answer; the context ends it long before
# Fields that are honoured later, and the values of each that say nothing: clients send them.
TO_COME: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "prediction": (None,),
    "response_format": (None, {"type": "text"}),
}

Temperature = Annotated[float, Field(ge=0, le=10_000)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=-1, le=2**31 - 1, description="tokens; −1 or 0: all")]
MinP = Annotated[float, Field(ge=0, le=1, description="share of the likeliest token's chance")]
Tokens = Annotated[int, Field(ge=1, le=LONGEST)]
TokenIds = list[Annotated[int, Field(ge=0, le=2**31 - 1)]]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Spec = Annotated[str, Field(max_length=1000, description="a spec string, as on the command line")]


class Body(BaseModel):
    """Base of bodies: nothing is read into them that they do not declare."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream tells besides its text."""

    include_usage: bool = False


class Sampled(Body):
    """What both ways to ask for a text share."""

    model: str | None = Field(None, max_length=1000)
    temperature: Temperature | None = Field(None, description="0 is greedy [1]")
    top_p: TopP | None = Field(None, description="[1]")
    top_k: TopK | None = None
    min_p: MinP | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=1000, description="kept nowhere")
    drafting: Spec | None = None
    policy: Spec | None = None
    verifier: Spec | None = None
    speculative: bool | None = Field(None, description="false: plain decoding")
    num_draft_tokens: Annotated[int, Field(ge=1, le=LONGEST_DRAFT)] | None = None
    trace: bool | None = Field(None, description="needs a server with --allow-trace")
    n: int | None = Field(None, description="1 for now")
    presence_penalty: float | None = Field(None, description="0 for now")
    frequency_penalty: float | None = Field(None, description="0 for now")
    repetition_penalty: float | None = Field(None, description="1 for now")
    logit_bias: dict[str, Json] | None = Field(None, description="empty for now")
    response_format: dict[str, Json] | None = Field(None, description="text for now")
    prediction: dict[str, Json] | None = Field(None, description="to come")


class CompletionBody(Sampled):
    """The body of `POST /v1/completions`."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[TokenIds, Field(min_length=1)]
    )
    max_tokens: Tokens | None = Field(None, description="[16]")
    echo: bool | None = Field(None, description="the answer begins with the prompt")
    best_of: int | None = Field(None, description="1 for now")
    logprobs: int | None = Field(None, description="to come")


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class MessageBody(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    @property
    def text(self) -> str:
        """Its content, pieces one after another."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatBody(Sampled):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: Tokens | None = Field(None, description="[what the context has room for]")
    max_completion_tokens: Tokens | None = Field(None, description="the same")
    logprobs: bool | None = Field(None, description="to come")
    top_logprobs: int | None = Field(None, description="to come")


class TokenizeBody(Body):
    """The body of `POST /tokenize`."""

    prompt: str
    add_special_tokens: bool = Field(True, description="those that begin a prompt")


class DetokenizeBody(Body):
    """The body of `POST /detokenize`."""

    tokens: TokenIds
