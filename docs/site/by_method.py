"""Speed by method, of a real model and of the bundled pair: for a figure and for sentences."""

from __future__ import annotations

from docs.site.measured import REAL, results

OTHERS = ("transformers", "llamacpp", "openvino")  # how the names of other people's begin
POLICIES = {"bundled": "policies-bundled.json", "smollm2": "policies-smollm2.json"}
Bar = tuple[str, dict[str, float]]  # name, median with its interval


def real() -> list[Bar]:
    """Return tokens a second of each contender on the real model, decoding alone, greedy."""
    rows = results(REAL)["samplers"]["greedy"]["contenders"]
    found = [(row["contender"], row["decode_tokens_per_second"]) for row in rows]
    return sorted(found, key=lambda bar: -bar[1]["median"])


def ratios(target: str, sampler: str, kind: str = "all") -> list[Bar]:
    """Return each method's ratio to plain decoding, the quickest first."""
    rows = results(POLICIES[target])["rows"][sampler]
    found = [(row["method"], row[kind]) for row in rows]
    return sorted(found, key=lambda bar: -bar[1]["median"])
