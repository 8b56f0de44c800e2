"""What methods, prompts and parts are called in the tables, by language; a name unknown stays."""

from __future__ import annotations

import re

CONTENDERS = {
    "en": {
        "plain": "foredraft, plain",
        "nasd": "foredraft, NASD",
        "suffix": "foredraft, suffix",
        "prompt_lookup": "foredraft, prompt lookup",
        "hybrid": "foredraft, suffix + n-grams",
        "head": "foredraft, head",
        "auto": "foredraft, auto with head",
        "transformers": "transformers, bfloat16",
        "transformers_lookup": "transformers, prompt lookup",
        "llamacpp": "llama.cpp",
        "llamacpp_lookup": "llama.cpp, prompt lookup",
        "openvino": "OpenVINO GenAI",
        "openvino_lookup": "OpenVINO, prompt lookup",
        "ours": "foredraft",
    },
    "zh": {
        "plain": "foredraft，普通解码",
        "nasd": "foredraft，NASD",
        "suffix": "foredraft，后缀匹配",
        "prompt_lookup": "foredraft，提示词查找",
        "hybrid": "foredraft，后缀 + n 元组",
        "head": "foredraft，草稿头",
        "auto": "foredraft，auto（含草稿头）",
        "transformers": "transformers，bfloat16",
        "transformers_lookup": "transformers，提示词查找",
        "llamacpp": "llama.cpp",
        "llamacpp_lookup": "llama.cpp，提示词查找",
        "openvino": "OpenVINO GenAI",
        "openvino_lookup": "OpenVINO，提示词查找",
        "ours": "foredraft",
    },
}
METHODS = {
    "en": {
        "plain": "plain decoding",
        "target_ar": "plain decoding (Target AR)",
        "speculative_gamma_4": "draft model, γ = 4",
        "egag_1_6_0.9": "EGAG (1, 6, 0.9)",
        "nasd_basic_3_filler_3": "NASD (n = 3, filler 3, γ = 4)",
        "transformers_generate": "transformers `generate`",
        "transformers_assisted": "transformers, assisted",
        "transformers_assisted_best": "transformers, assisted, best fixed length",
        "transformers_prompt_lookup": "transformers, prompt lookup",
        "speculative": "draft model, tuned γ",
        "nasd": "NASD (n = 3, filler 3, γ = 8)",
        "hybrid": "suffix match, else draft model",
        "llamacpp": "llama.cpp",
        "llamacpp_lookup": "llama.cpp, prompt lookup",
        "ngram_over_the_input": "n-grams over the input",
        "auto": "`auto`",
        "cost_aware": "draft model, `cost_aware`",
        "throughput": "draft model, `throughput`",
        "asymmetric": "draft model, `asymmetric`",
        "entropy_cost": "draft model, `entropy_cost`",
        "entropy_cost, in nats": "EGAG's rule, in nats",
        "entropy_cost, priced": "EGAG's rule, knowing the cost",
        "EGAG": "EGAG (1, 6, 0.9)",
        "NASD": "NASD (n = 3, filler 3, γ = 4)",
        "suffix cost_aware": "suffix match, `cost_aware`",
        "bandit": "bandit",
        "bandit(plain, suffix, ngram)": "bandit of plain, suffix, n-grams",
        "hybrid(suffix, model) 4": "suffix match, else draft model, γ = 4",
        "hybrid(suffix, model) cost_aware": "suffix match, else draft model, `cost_aware`",
    },
    "zh": {
        "plain": "普通解码",
        "target_ar": "普通解码（Target AR）",
        "speculative_gamma_4": "草稿模型，γ = 4",
        "egag_1_6_0.9": "EGAG（1，6，0.9）",
        "nasd_basic_3_filler_3": "NASD（n = 3，filler 3，γ = 4）",
        "transformers_generate": "transformers `generate`",
        "transformers_assisted": "transformers 辅助生成",
        "transformers_assisted_best": "transformers 辅助生成，最好的固定长度",
        "transformers_prompt_lookup": "transformers 提示词查找",
        "speculative": "草稿模型，调好的 γ",
        "nasd": "NASD（n = 3，filler 3，γ = 8）",
        "hybrid": "后缀匹配，否则草稿模型",
        "llamacpp": "llama.cpp",
        "llamacpp_lookup": "llama.cpp 提示词查找",
        "ngram_over_the_input": "输入上的 n 元组",
        "auto": "`auto`",
        "cost_aware": "草稿模型，`cost_aware`",
        "throughput": "草稿模型，`throughput`",
        "asymmetric": "草稿模型，`asymmetric`",
        "entropy_cost": "草稿模型，`entropy_cost`",
        "entropy_cost, in nats": "EGAG 的规则，以 nat 计",
        "entropy_cost, priced": "EGAG 的规则，计入代价",
        "EGAG": "EGAG（1，6，0.9）",
        "NASD": "NASD（n = 3，filler 3，γ = 4）",
        "suffix cost_aware": "后缀匹配，`cost_aware`",
        "bandit": "多臂老虎机",
        "bandit(plain, suffix, ngram)": "多臂老虎机（普通、后缀、n 元组）",
        "hybrid(suffix, model) 4": "后缀匹配，否则草稿模型，γ = 4",
        "hybrid(suffix, model) cost_aware": "后缀匹配，否则草稿模型，`cost_aware`",
    },
}
OF_LENGTH = {  # drafter → its name, before a length
    "en": {
        "model": "draft model, γ = ",
        "suffix": "suffix match, γ ≤ ",
        "prompt_lookup": "prompt lookup, γ ≤ ",
        "ngram": "n-grams, γ ≤ ",
    },
    "zh": {
        "model": "草稿模型，γ = ",
        "suffix": "后缀匹配，γ ≤ ",
        "prompt_lookup": "提示词查找，γ ≤ ",
        "ngram": "n 元组，γ ≤ ",
    },
}
IN_CHINESE = {
    **{"dialogue": "对话", "translation": "翻译", "long": "长文", "code": "代码", "all": "全部"},
    **{"chat": "对话", "copying": "复制与编辑", "summary": "摘要", "french": "法语句子"},
    **{"stories": "故事", "translations": "翻译", "repetition": "重复"},
    **{"greedy": "贪心", "nucleus": "nucleus", "of each kind": "每类各自的"},
    **{"method": "方法", "sampler": "采样", "prompts": "提示词", "case": "情形", "ratio": "比值"},
    **{"tokens": "token 数", "deciding": "决定", "draft calls": "草稿前向"},
    **{"target pass": "目标前向", "verdict": "验证", "learning": "学习"},
    **{"rest of step": "轮内其余", "between": "轮间", "that is": "即"},
    **{"auto / plain": "auto ÷ 普通解码", "auto / best fixed": "auto ÷ 最好的固定选择"},
    "auto / oracle": "auto ÷ oracle（事后最优）",
    "a drafter of noise": "输出噪声的草稿模型",
    "temperature 1.5": "温度 1.5",
    "texts of 8 tokens": "8 个 token 的短文本",
    "prompts of one word": "只有一个词的提示词",
}


def contender(name: str, language: str) -> str:
    """Return what a contender of `benchmarks/real.py` is called."""
    return CONTENDERS[language].get(name, name)


def drafter(name: str, language: str) -> str:
    """Return what a contender of ours drafts with, without the program's name."""
    return contender(name, language).removeprefix("foredraft").lstrip(",， ")


def method(name: str, language: str) -> str:
    """Return what a method is called, with its settings."""
    if told := METHODS[language].get(name):
        return told
    if (match := re.fullmatch(r"(\w+) (\d+)", name)) and match[1] in OF_LENGTH[language]:
        return OF_LENGTH[language][match[1]] + match[2]
    return f"`{name}`"


def word(name: str, language: str) -> str:
    """Return a heading, a kind of prompt or a sampler."""
    return IN_CHINESE.get(name, name) if language == "zh" else name


def words(names: list[str], language: str) -> list[str]:
    """Return several of them."""
    return [word(name, language) for name in names]
