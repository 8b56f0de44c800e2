"""What a request may say: its fields, their types and their ranges, as `/openapi.json` shows them.

A field that is not here is refused by name. Numbers are numbers: the text "5" is none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from foredraft.files import Json
from foredraft.ranges import LONGEST_DRAFT

MOST_STOPS, MOST_PROMPTS, MOST_MESSAGES = 4, 64, 2048
MOST_CHOICES, MOST_LOGPROBS, MOST_BIASES, MOST_WORDS = 64, 20, 1024, 256
LONGEST = 10**9  # tokens of an answer; the context ends it long before
Temperature = Annotated[float, Field(ge=0, le=10_000)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=-1, le=2**31 - 1, description="tokens; −1 or 0: all")]
MinP = Annotated[float, Field(ge=0, le=1, description="share of the likeliest token's chance")]
Tokens = Annotated[int, Field(ge=1, le=LONGEST)]
TokenIds = list[Annotated[int, Field(ge=0, le=2**31 - 1)]]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Source = Annotated[str, Field(min_length=1, max_length=100_000)]
Penalty = Annotated[float, Field(ge=-100, le=100)]
Logprobs = Annotated[int, Field(ge=0, le=MOST_LOGPROBS)]
Spec = Annotated[str, Field(max_length=1000, description="a spec string, as on the command line")]


class Body(BaseModel):
    """Base of bodies: nothing is read into them that they do not declare."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream tells besides its text."""

    include_usage: bool = False


class TextPart(Body):
    """A piece of a text."""

    type: Literal["text"]
    text: str


def _joined(content: str | list[TextPart]) -> str:
    """Return a text, pieces one after another."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class Prediction(Body):
    """A text that the answer is expected to resemble."""

    type: Literal["content"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    @property
    def text(self) -> str:
        """The text."""
        return _joined(self.content)


class JsonSchema(Body):
    """A schema, and what it is called."""

    name: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=10_000)
    definition: dict[str, Json] = Field(alias="schema")
    strict: bool | None = Field(None, description="it is obeyed either way")


class ResponseFormat(Body):
    """What an answer must be as a whole."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


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
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = Field(
        None, description="texts for each prompt; the next seed for each next one [1]"
    )
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=1024)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=LONGEST)] | None = None
    bad_words: Annotated[list[Stop], Field(max_length=MOST_WORDS)] | None = None
    logit_bias: Annotated[dict[str, Penalty], Field(max_length=MOST_BIASES)] | None = Field(
        None, description="token ids, as texts, and what is added to their logits"
    )
    response_format: ResponseFormat | None = None
    regex: Source | None = Field(None, description="that the whole text matches")
    grammar: Source | None = Field(None, description="of Lark's kind, that the text obeys")
    prediction: Prediction | None = None


class CompletionBody(Sampled):
    """The body of `POST /v1/completions`."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[TokenIds, Field(min_length=1)]
    )
    max_tokens: Tokens | None = Field(None, description="[16]")
    echo: bool | None = Field(None, description="the answer begins with the prompt")
    best_of: int | None = Field(None, description="what n is, if anything")
    logprobs: Logprobs | None = Field(None, description="likeliest tokens told beside each")


class MessageBody(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    @property
    def text(self) -> str:
        """Its content, pieces one after another."""
        return _joined(self.content)


class ChatBody(Sampled):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: Tokens | None = Field(None, description="[what the context has room for]")
    max_completion_tokens: Tokens | None = Field(None, description="the same")
    logprobs: bool | None = False
    top_logprobs: Logprobs | None = Field(None, description="likeliest tokens told beside each")


class TokenizeBody(Body):
    """The body of `POST /tokenize`."""

    prompt: str
    add_special_tokens: bool = Field(True, description="those that begin a prompt")


class DetokenizeBody(Body):
    """The body of `POST /detokenize`."""

    tokens: TokenIds
