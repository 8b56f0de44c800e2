"""One prompt, the trace of its steps in colours, and a summary; offline, on the bundled pair."""

from rich.console import Console

from foredraft import DecodingConfig, Engine, summarize
from foredraft.tracing import print_step, summary_text

engine = Engine.load(target="bundled", drafter="bundled")
config = DecodingConfig(length=40, gamma=4, sampler="nucleus(temperature=0.8, top_p=0.9)", seed=7)

# The trace is worth its colours even when the output goes to a file or a pager.
console = Console(force_terminal=True, soft_wrap=True, highlight=False)
generation = engine.stream("Once upon a time", config, method="speculative")
for number, chunk in enumerate(generation, start=1):
    print_step(number, chunk.record, engine.decode, console)

completion = generation.completion
print(f"\nOnce upon a time{completion.text}\n")
console.print(summary_text(summarize(completion.records)))
