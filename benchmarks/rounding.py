"""How far 8-bit activations are from float32 ones on a real model: ours, and llama.cpp's.

Reads 2,000 tokens of this project's own pages, in texts of 500, and compares every token's
distribution with that of float32 activations on the same dequantised weights (`--activations
float32`, which the tests hold beside transformers): mean KL divergence a token, in nats, and the
share of tokens whose likeliest next token is the same. llama.cpp, in `runs/peers/llamacpp` or where
FOREDRAFT_PEERS says, rounds activations to 8 bits as well; absent, it is left out by name.

    uv run python benchmarks/rounding.py --save  # keeps benchmarks/results/rounding-MODEL.{json,md}
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tables
import torch
from contest import LLAMACPP, ROOT, Contest
from torch import Tensor

from foredraft import ForedraftError, LoadOptions
from foredraft.bench.machine import describe_machine, place
from foredraft.files import read_text
from foredraft.loading import load
from foredraft.loading.loader import load_tokenizer
from foredraft.loading.named import resolve_name
from foredraft.threads import usable_threads

PAGES = ROOT / "docs" / "en"
TEXT = 500  # tokens of a text
WHO = {"ours": "foredraft, 8-bit activations", LLAMACPP: "llama.cpp"}


def texts(tokenizer: Any, tokens: int) -> list[list[int]]:
    """Return the pages' beginning in texts of `TEXT` tokens, each begun as the model wants."""
    page = "\n".join(read_text(path) for path in sorted(PAGES.glob("0*.md")))
    begin = [tokenizer.bos_token_id] if tokenizer.encode("a")[0] == tokenizer.bos_token_id else []
    found = tokenizer.encode(page, add_special_tokens=False)[:tokens]
    return [[*begin, *found[first : first + TEXT]] for first in range(0, len(found), TEXT)]


def logits_of(path: str, activations: str, read: list[list[int]]) -> list[Tensor]:
    """Return our logits after every token of every text, `[tokens, vocab]` each."""
    options = LoadOptions(device="cpu", activations=activations)
    model = load(path, "target", options).model
    return [model.open(tokens).extend(tokens, keep=len(tokens)) for tokens in read]


def logits_of_llamacpp(path: str, read: list[list[int]]) -> list[Tensor]:
    """Return llama.cpp's logits after every token of every text.

    Raises:
        FileNotFoundError: its environment is not there.
    """
    told = {"path": path, "model": path, "threads": usable_threads()}
    with tempfile.TemporaryDirectory() as folder, Contest(told, None) as contest:  # type: ignore[arg-type]
        worker = contest.workers[LLAMACPP] = contest.start(LLAMACPP)
        found = []
        for place_, tokens in enumerate(read):
            file = Path(folder) / f"{place_}.npy"
            answer = worker.ask({"question": "logits", "tokens": tokens, "file": str(file)})
            if "failed" in answer:
                raise SystemExit(f"llama.cpp gives no logits: {answer['failed']}")
            found.append(torch.from_numpy(np.load(file)))
        return found


def compared(theirs: list[Tensor], exact: list[Tensor]) -> dict[str, float]:
    """Return mean KL(exact ‖ theirs) a token, in nats, and the share of equal greedy choices."""
    divergence, equal, count = 0.0, 0, 0
    for ours, reference in zip(theirs, exact, strict=True):
        columns = min(ours.shape[1], reference.shape[1])
        q, p = (one[:, :columns].double().log_softmax(1) for one in (ours, reference))
        divergence += float((p.exp() * (p - q)).sum())
        equal += int((p.argmax(1) == q.argmax(1)).sum())
        count += len(p)
    return {"mean_kl_nats": divergence / count, "equal_greedy_share": equal / count}


def measure(name: str, tokens: int) -> dict[str, Any]:
    """Return the figures of everybody who is there."""
    path = resolve_name(name)
    read = texts(load_tokenizer(path), tokens)
    exact = logits_of(path, "float32", read)
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "setting": {"model": name, "tokens": sum(map(len, read)), "text": TEXT},
        "figures": {"ours": compared(logits_of(path, "int8", read), exact)},
        "left_out": {},
    }
    try:
        found["figures"][LLAMACPP] = compared(logits_of_llamacpp(path, read), exact)
    except FileNotFoundError as error:
        found["left_out"][LLAMACPP] = str(error)
    return found


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as a page."""
    setting = found["setting"]
    lines = [
        f"- Model: {setting['model']}, {setting['tokens']:,} tokens in texts of {setting['text']}.",
        f"- Machine: {place(found)}.",
        *(f"- Left out: {name}: {why}" for name, why in found["left_out"].items()),
        "",
    ]
    rows = [
        {
            "beside float32 activations": WHO[who],
            "mean KL a token, nats": f"{figures['mean_kl_nats']:.2e}",
            "equal greedy choices": f"{figures['equal_greedy_share']:.2%}",
        }
        for who, figures in found["figures"].items()
    ]
    return "\n".join([*lines, tables.markdown(rows)])


def main(arguments: list[str]) -> None:
    """Measure, print the table, then one JSON line."""
    parser = tables.parser_of(__doc__)
    add = parser.add_argument
    add("model", nargs="?", default="smollm2", help="a GGUF model by its name [%(default)s]")
    add("--tokens", type=int, default=2000, help="that are read [%(default)s]")
    add("--save", action="store_true", help="write benchmarks/results/rounding-MODEL.{json,md}")
    args = parser.parse_args(arguments)
    tables.check_least(parser, args, tokens=1)
    try:
        found = measure(args.model, args.tokens)
    except ForedraftError as error:
        parser.error(str(error))
    print(text := rendered(found))
    if args.save:
        page = f"# 8-bit activations\n\nMade by `benchmarks/rounding.py`.\n\n{text}"
        tables.keep(tables.RESULTS / f"rounding-{Path(args.model).stem}.json", found, page)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
