"""Ask a server that runs: `foredraft serve &`, then this; any client of OpenAI's does the same.

uv run --extra server --with openai python examples/openai_client.py [http://127.0.0.1:8000]
"""

from __future__ import annotations

import sys

import openai

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
model = client.models.list().data[0].id

# A text in pieces, and what speculation did for it.
for piece in client.completions.create(
    model=model,
    prompt="Once upon a time",
    max_tokens=40,
    temperature=0.8,
    seed=7,
    stream=True,
    stream_options={"include_usage": True},
):
    if piece.choices:
        print(piece.choices[0].text, end="", flush=True)
    else:
        told = piece.model_extra["metrics"]["speculative_decoding"]
        print(f"\n[{told['mean_acceptance_length']:.2f} tokens a pass]")

# A conversation: the same seed gives the same text, whatever drafts it.
texts = [
    client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me about a dog."}],
        max_completion_tokens=40,
        seed=7,
        extra_body={"drafting": drafting},
    )
    .choices[0]
    .message.content
    for drafting in ("suffix", "auto")
]
print(texts[0])
print("the same text twice:", texts[0] == texts[1])
