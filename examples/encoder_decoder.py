"""An encoder–decoder pair: what is read once, what is drafted, and the same text every way.

Offline, on the bundled pair that translates short French sentences into English.
"""

from transformers import AutoModelForSeq2SeqLM

from foredraft import (
    DecodingConfig,
    Engine,
    NGramStorage,
    autoregressive_generate_encoder_decoder,
    beam_search_generate_encoder_decoder,
    ngram_assisted_speculative_generate_encoder_decoder,
    speculative_generate_encoder_decoder,
)
from foredraft.zoo import bundled_path

SENTENCE = "Je m'appelle Romain."

# Text in, text out. `drafter="bundled"`, the default, is the drafter of the target's kind.
engine = Engine.load(target="bundled-seq2seq")
for method in ("speculative", "ngram", "target"):
    completion = engine.generate(SENTENCE, DecodingConfig(gamma=4), method=method)
    print(f"{method:<12} {completion.text}")

# The same with token ids and any Hugging Face encoder–decoder models, here those of the engine.
tokenizer = engine.target.tokenizer
target, drafter = (
    AutoModelForSeq2SeqLM.from_pretrained(bundled_path(role))
    for role in ("seq2seq_target", "seq2seq_drafter")
)
ids = tokenizer(SENTENCE)["input_ids"]
settings = {"max_gen_len": 30, "eos_tokens_id": tokenizer.eos_token_id}

plain = autoregressive_generate_encoder_decoder(ids, target, **settings)
drafted, rate = speculative_generate_encoder_decoder(ids, drafter, target, **settings)
# The n-grams of what the encoder reads are counted too: names and numbers are copied from there.
storage = NGramStorage(3, target.config.vocab_size)
copied, _ = ngram_assisted_speculative_generate_encoder_decoder(ids, storage, target, **settings)
best = beam_search_generate_encoder_decoder(ids, target, num_beams=4, **settings)

print(f"\nthe same tokens three times: {plain == drafted == copied}")
print(f"acceptance rate {rate:.0%}")
print(f"beam search: {tokenizer.decode(best, skip_special_tokens=True)}")
