"""What chapter 7 concludes, in sentences and short tables made from the results files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.site.measured import figure, results
from docs.site.names import method, word

MODELS = {  # results file → model, by language
    "policies-smollm2.json": {"zh": "SmolLM2-135M，4 位", "en": "SmolLM2-135M, 4 bits"},
    "policies-bundled.json": {"zh": "内置的一对", "en": "bundled pair"},
    "policies-bundled-seq2seq.json": {
        "zh": "内置的编码器–解码器对",
        "en": "bundled encoder–decoder pair",
    },
}
VERDICTS = {
    "zh": ("更快", "更慢", "没有发现差别"),
    "en": ("faster", "slower", "no difference found"),
}
AUTO, BEST = "auto / plain", "best fixed / plain"


def verdict(found: dict[str, Any], language: str) -> str:
    """Return what a ratio with its interval allows to say."""
    faster, slower, nothing = VERDICTS[language]
    if found["low"] is None:
        return nothing
    if found["low"] > 1:
        return faster
    return slower if found["high"] < 1 else nothing


def marked(found: dict[str, Any]) -> str:
    """Return a ratio: bold where it is faster, in italics where slower, else as it is."""
    shown = figure(found, "{:.2f}")
    faster, slower, _ = VERDICTS["en"]
    around = {faster: "**", slower: "*"}.get(verdict(found, "en"), "")
    return f"{around}{shown}{around}"


def which(language: str) -> str:
    """Return which method suits which case, the largest gain first."""
    head = {
        "zh": ("模型，采样，提示词", "最好的固定选择", "它 ÷ 普通解码", "`auto` ÷ 普通解码"),
        "en": (
            *("model, sampler, prompts", "best fixed choice"),
            *("÷ plain decoding", "`auto` ÷ plain decoding"),
        ),
    }[language]
    cases = [
        (model[language], claim)
        for file, model in MODELS.items()
        for claim in results(file)["claims"]
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---:|---:|"]
    for model, claim in sorted(cases, key=lambda case: -case[1][BEST]["median"]):
        kind, _, count = claim["prompts"].partition(" ")
        place = [model, word(claim["sampler"], language), f"{word(kind, language)} {count}"]
        cells = [("，" if language == "zh" else ", ").join(place), _best(claim, language)]
        cells += [marked(claim[name]) for name in (BEST, AUTO)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _best(claim: dict[str, Any], language: str) -> str:
    choices = claim["that is"].split(" | ")
    named = [word(c, language) if c == "of each kind" else method(c, language) for c in choices]
    return ("；" if language == "zh" else "; ").join(named)


def answers(language: str) -> str:
    """Return the advice, a sentence a case."""
    made = (_copying, _chat, _sampled, _bundled, _rules, _translation)
    return "\n".join(f"- {make(language)}" for make in made)


def claim_of(file: str, sampler: str, kind: str) -> dict[str, Any]:
    """Return what was found of a sampler and a kind of prompts."""
    claims: list[dict[str, Any]] = results(file)["claims"]
    return next(c for c in claims if (c["sampler"], c["prompts"].split(" ")[0]) == (sampler, kind))


def told(found: dict[str, Any]) -> str:
    """Return a ratio with its interval."""
    return figure(found, "{:.2f}")


def _copying(language: str) -> str:
    file = "policies-smollm2.json"
    claims = [c for c in results(file)["claims"] if c["sampler"] == "greedy"]
    parts = [c for c in claims if c["prompts"].split(" ")[0] not in {"chat", "all"}]
    best = max(parts, key=lambda claim: claim[BEST]["median"])
    worst = min(parts, key=lambda claim: claim[BEST]["median"])
    names = [word(claim["prompts"].split(" ")[0], language) for claim in (worst, best)]
    low, high = told(worst[BEST]), told(best[BEST])
    if language == "zh":
        return (
            "**贪心，答案大段照抄提示词或自己**（改写、代码、摘要、翻译），没有草稿模型：用后缀匹配，"
            "草稿可以长，`--drafting suffix --gamma 16`。真实模型上最好的固定选择是普通解码的 "
            f"{low} 倍（{names[0]}）到 "
            f"{high} 倍（{names[1]}）；不想选长度就用 `auto`，"
            f"全部提示词上是 {_all(file, 'greedy')} 倍。"
        )
    return (
        "**Greedy, and the answer copies from the prompt or from itself** (edits, code, summaries, "
        "translations), no draft model: match suffixes with long drafts, `--drafting suffix "
        f"--gamma 16`. On the real model the best fixed choice gives {low} × plain decoding "
        f"({names[0]}) to {high} × ({names[1]}). "
        f"Without choosing a length, `auto` gives {_all(file, 'greedy')} × over all prompts."
    )


def _all(file: str, sampler: str) -> str:
    return told(claim_of(file, sampler, "all")[AUTO])


def _chat(language: str) -> str:
    claim = claim_of("policies-smollm2.json", "greedy", "chat")
    middle, low, high = results("heads.json")["samplers"]["greedy"]["speed_ratio"]
    found = (claim[BEST], claim[AUTO], {"median": middle, "low": low, "high": high})
    best, auto, head = (f"{told(one)}" for one in found)
    words = [verdict(one, language) for one in found]
    if language == "zh":
        return (
            f"**开放对话**，能抄的很少：最好的固定选择（{_best(claim, language)}）是普通解码的 "
            f"{best} 倍（{words[0]}），`auto` 是 {auto} 倍（{words[1]}），另五十个问题上训练过的"
            f"[草稿头](heads.md)是 {head} 倍（{words[2]}）。"
        )
    return (
        "**Open chat**, where there is little to copy: the best fixed choice "
        f"({_best(claim, language)}) gives {best} × plain decoding ({words[0]}), `auto` {auto} × "
        f"({words[1]}); on fifty other questions a trained [head](heads.md) gives {head} × "
        f"({words[2]})."
    )


def _sampled(language: str) -> str:
    files = ("policies-smollm2.json", "policies-bundled.json")
    gamma = _quickest_length("nucleus").removeprefix("model ")
    found = [claim_of(file, "nucleus", "all")[BEST] for file in files]
    greedy = [claim_of(file, "greedy", "all")[BEST] for file in files]
    real, bundled, real_greedy, bundled_greedy = (told(one) for one in (*found, *greedy))
    if language == "zh":
        return (
            "**采样**时收益小得多，因为复制来的草稿只有在目标模型恰好抽到它时才被接受："
            "核采样（nucleus，0.8，0.9）下最好的固定选择在真实模型上是"
            f" {real} 倍，贪心时是 {real_greedy} 倍；在内置的一对上是 {bundled} 倍，"
            f"贪心时是 {bundled_greedy} 倍。草稿模型在那里用 γ = {gamma} 最快。"
        )
    return (
        "**Sampling** gains much less, because a copied token is accepted only if it is what the "
        "target draws: with "
        f"nucleus (0.8, 0.9) the best fixed choice gives {real} × on the real model, where greedy "
        f"decoding gives {real_greedy} ×, and {bundled} × on the bundled pair instead of "
        f"{bundled_greedy} ×. With nucleus sampling the bundled draft model is "
        f"quickest at γ = {gamma}."
    )


def _rows(sampler: str) -> dict[str, dict[str, float]]:
    rows = results("policies-bundled.json")["rows"][sampler]
    return {row["method"]: row["all"] for row in rows}


def _quickest_length(sampler: str) -> str:
    rows = _rows(sampler)
    return max((n for n in rows if n.startswith("model ")), key=lambda n: rows[n]["median"])


def _bundled(language: str) -> str:
    rows, best = _rows("greedy"), _quickest_length("greedy")
    gamma = best.removeprefix("model ")
    longest = claim_of("policies-bundled.json", "greedy", "long")
    if language == "zh":
        return (
            f"**有草稿模型，贪心**：固定的 γ = {gamma} 在内置的一对上最快，"
            f"{told(rows[best])} 倍；重复自己的长文里最好的固定选择是 {told(longest[BEST])} 倍"
            f"（{_best(longest, language)}）。"
        )
    return (
        f"**With a draft model, greedy**: a fixed γ = {gamma} is quickest on the bundled pair, "
        f"{told(rows[best])} ×; for long texts, which repeat themselves, the best fixed choice "
        f"gives {told(longest[BEST])} × ({_best(longest, language)})."
    )


def _rules(language: str) -> str:
    rows, fixed = _rows("greedy"), _quickest_length("greedy")
    names = ("cost_aware", "throughput", "EGAG", "entropy_cost")
    adaptive = {name: rows[name]["median"] for name in names}
    shown = [f"{_rule(name)} {value:.2f}" for name, value in adaptive.items()]
    won = [name for name, value in adaptive.items() if value > rows[fixed]["median"]]
    best = rows[fixed]["median"]
    if language == "zh":
        said = f"{'、'.join(map(_rule, won))}更快" if won else "没有一个更快"
        return (
            f"**自适应草稿长度**：草稿模型相同，最好的固定长度是 {best:.2f} 倍；"
            f"{'，'.join(shown)}。{said}。"
        ) + ("" if won else "模型这么小，规则省下的草稿抵不过它自己的计算。")
    said = f"quicker are {', '.join(map(_rule, won))}" if won else "none is quicker"
    return (
        f"**Adaptive draft lengths**: with the same draft model, the best fixed length gives "
        f"{best:.2f} ×; {', '.join(shown)}: {said}."
    ) + (
        ""
        if won
        else " On models this small, what a rule saves in drafts does not pay for its own work."
    )


def _rule(name: str) -> str:
    return name if name.isupper() else f"`{name}`"


def _translation(language: str) -> str:
    claim = claim_of("policies-bundled-seq2seq.json", "greedy", "french")
    rows = {row["method"]: row["ratio_to_target_ar"] for row in results("seq2seq.json")["rows"]}
    found = rows["speculative_gamma_4"]
    value = found["median"] if isinstance(found, dict) else found
    said = verdict(claim[BEST], language)
    if language == "zh":
        return (
            f"**内置的编码器–解码器对**：最好的固定选择是普通解码的 {told(claim[BEST])} 倍"
            f"（{said}），草稿模型、γ = 4 是 {value:.2f} 倍。"
            "它展示的是正确性，不是速度：用这一对模型翻译时，先关掉投机。"
        )
    return (
        f"**The bundled encoder–decoder pair**: the best fixed choice gives {told(claim[BEST])} × "
        f"plain decoding ({said}), its draft model with γ = 4 {value:.2f} ×. The pair shows "
        "correctness, not speed: with this pair, translate without speculation."
    )


BLOCKS: dict[str, Callable[[str], str]] = {"which": which, "answers": answers}
