"""An example for each public function, as the reference shows it; a test runs them in order.

They use what the first block of the page makes: `engine`, `tokenizer`, `target`, `ids`, …
"""

EXAMPLES = {
    "autoregressive_generate": """
from foredraft import autoregressive_generate

plain = autoregressive_generate(ids, target, max_gen_len=16, eos_tokens_id=end)
print(tokenizer.decode(plain))
# →  was walking in the park. He saw a big tree and wanted to climb it
""",
    "autoregressive_generate_encoder_decoder": """
from foredraft import autoregressive_generate_encoder_decoder

pair = Engine.load("bundled-seq2seq")
translator, spelled = pair.target.model, pair.target.tokenizer
source, ends = spelled("Je m'appelle Romain.")["input_ids"], list(pair.target.eos_token_ids)
out = autoregressive_generate_encoder_decoder(source, translator, eos_tokens_id=ends)
print(spelled.decode(out, skip_special_tokens=True))
# → My name is Romain.
""",
    "beam_search_generate": """
from foredraft import beam_search_generate

best = beam_search_generate(ids, target, max_gen_len=16, num_beams=4, eos_tokens_id=end)
print(tokenizer.decode(best))
# →  and the little dog were best friends. They played together every day and had lots
""",
    "beam_search_generate_encoder_decoder": """
from foredraft import beam_search_generate_encoder_decoder

best = beam_search_generate_encoder_decoder(source, translator, eos_tokens_id=ends)
print(spelled.decode(best, skip_special_tokens=True))
# → My name is Romain.
""",
    "max_fn": """
import torch

from foredraft import max_fn

p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.7, 0.1, 0.2])
print([round(x, 2) for x in max_fn(p - q).tolist()])
# → [0.0, 1.0, 0.0]
""",
    "ngram_assisted_speculative_generate": """
from foredraft import NGramStorage, ngram_assisted_speculative_generate

storage = NGramStorage(n=3, vocab_size=target.vocab_size)
for attempt in ("first", "again"):
    out, rate = ngram_assisted_speculative_generate(
        ids, storage, target, max_gen_len=16, eos_tokens_id=end
    )
    print(attempt, out == plain, f"{rate:.2f}")
# → first True 0.00
# → again True 1.00
""",
    "ngram_assisted_speculative_generate_encoder_decoder": """
from foredraft import ngram_assisted_speculative_generate_encoder_decoder

storage = NGramStorage(n=3, vocab_size=translator.vocab_size)
out, rate = ngram_assisted_speculative_generate_encoder_decoder(
    source, storage, translator, eos_tokens_id=ends
)
print(spelled.decode(out, skip_special_tokens=True), f"{rate:.2f}")
# → My name is Romain. 1.00
""",
    "prune_cache": """
from transformers import DynamicCache

from foredraft import prune_cache

cache = DynamicCache()
cache.update(torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4), layer_idx=0)
print(prune_cache(cache, 2).get_seq_length())
# → 3
""",
    "speculative_generate": """
from foredraft import speculative_generate

fast, rate = speculative_generate(ids, drafter, target, gamma=4, max_gen_len=16, eos_tokens_id=end)
print(tokenizer.decode(fast))
print(fast == plain, f"{rate:.2f}")
# →  was walking in the park. He saw a big tree and wanted to climb it
# → True 0.73
""",
    "speculative_generate_encoder_decoder": """
from foredraft import speculative_generate_encoder_decoder

out, rate = speculative_generate_encoder_decoder(
    source, pair.drafter.model, translator, eos_tokens_id=ends
)
print(spelled.decode(out, skip_special_tokens=True), f"{rate:.2f}")
# → My name is Romain. 1.00
""",
    "summarize": """
from foredraft import DecodingConfig, summarize

done = engine.generate("The little dog", DecodingConfig(length=16))
numbers = summarize(done.records)
print(numbers.num_steps, numbers.num_emitted_tokens, f"{numbers.mean_acceptance_length:.2f}")
# → 5 16 3.20
""",
}
