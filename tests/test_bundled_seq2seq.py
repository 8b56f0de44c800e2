"""The bundled encoder–decoder pair: it translates, losslessly, is measured, and stays small."""

from __future__ import annotations

import io
import re
import runpy
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM

from foredraft import DecodingConfig, Engine, LoadOptions
from foredraft.decoding import first_difference
from foredraft.loading.runtime import is_native
from foredraft.zoo import ZOO_DIR, bundled_path

ROOT = Path(__file__).parents[1]
ROLES = ("seq2seq_target", "seq2seq_drafter")
MOST_BYTES = 45e6  # of all bundled weights together
# French → what a sensible translation may be, in lower case and without punctuation.
TRANSLATIONS = {
    "Je m'appelle Romain.": r"(my name is|my names|i am|im|im called) romain",
    "Je suis fatigué.": r"(i am|im) (so |very )?(tired|exhausted)",
    "Il fait froid.": r"(it is|its) (very )?(cold|chilly)( here| today)?",
    "Où est la gare ?": r"wheres? (is )?the (train |railway |railroad )?station",
    "Elle a deux frères.": r"(she has|shes got|she has got) (two|2) brothers",
    "Nous avons faim.": r"(we are|were) (all )?(hungry|starving)",
    "Merci beaucoup.": r"(thank you|thanks)( very much| so much| a lot)?|many thanks",
    "J'aime les chats.": r"i (like|love) (the )?cats",
    "Quelle heure est-il ?": r"what time is it( now)?|whats the time",
    "Je ne comprends pas.": r"i (do not|dont|cannot|cant) (understand|get it)( it| that)?",
    "Il habite à Paris.": r"(he lives|he is living|hes living) in paris",
}
HELD_OUT = (
    "Ma tante prépare une soupe de potiron.",
    "Nos cousins arrivent de Lyon ce soir.",
    "Pourquoi le chien dort-il sous la table ?",
)


@cache
def engine() -> Engine:
    return Engine.load("bundled-seq2seq", options=LoadOptions(device="cpu"))


def simplified(text: str) -> str:
    """Return words only: case, punctuation and apostrophes are matters of taste."""
    return " ".join(re.sub(r"[^\w\s]", "", text.lower().replace("-", " ")).split())


@pytest.mark.parametrize("sentence", TRANSLATIONS)
def test_simple_sentences_are_translated_sensibly(sentence: str) -> None:
    said = engine().generate(sentence, method="target").text
    assert re.fullmatch(TRANSLATIONS[sentence], simplified(said)), said


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no_cache"])
def test_greedy_text_is_that_of_plain_decoding(cache: bool) -> None:
    pair, base = engine(), DecodingConfig(cache=cache)
    configs = [base, base.replace(egag=True, egag_gamma_max=6), base.replace(verifier="block")]
    accepted = 0
    for sentence in (*TRANSLATIONS, *HELD_OUT):
        plain = pair.generate(sentence, base, method="target").tokens
        for config in configs:
            for method in ("speculative", "ngram"):
                done = pair.generate(sentence, config, method=method)
                prompt = pair.encode(sentence)
                found = first_difference(pair.target.model, prompt, done.tokens, plain)
                assert found is None or found.is_near_tie, (sentence, method, found)
                accepted += sum(record.num_accepted for record in done.records)
    assert accepted > 0


def test_with_coupled_verification_the_seed_alone_decides_the_translation() -> None:
    config = DecodingConfig(verifier="coupled", sampler="multinomial(temperature=0.7)", seed=3)
    for sentence in HELD_OUT:
        methods = ("target", "speculative", "ngram")
        assert len({engine().generate(sentence, config, method=m).text for m in methods}) == 1


def test_the_pair_is_of_the_size_that_was_planned() -> None:
    loaded = engine()
    assert loaded.drafter is not None
    for model in (loaded.target, loaded.drafter):
        assert is_native(model.model)
    for role, low, high in zip(ROLES, (5e6, 0.7e6), (9e6, 1.5e6), strict=True):
        network = AutoModelForSeq2SeqLM.from_pretrained(bundled_path(role))
        assert low <= sum(p.numel() for p in network.parameters()) <= high


@pytest.mark.parametrize("role", ROLES)
def test_the_card_states_chrf_and_bleu_on_held_out_sentences(role: str) -> None:
    card = (bundled_path(role) / "CARD.md").read_text(encoding="utf-8")
    found = re.search(
        r"of ([\d,]+) held-out sentences.*BLEU (\d+\.\d), chrF (\d+\.\d)", card, re.DOTALL
    )
    assert found is not None
    num_sentences, bleu, chrf = (float(figure.replace(",", "")) for figure in found.groups())
    assert num_sentences >= 500
    assert 0 < bleu < chrf < 100


def test_the_example_prints_one_translation_three_times() -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        runpy.run_path(str(ROOT / "examples" / "encoder_decoder.py"), run_name="__main__")
    lines = printed.getvalue().splitlines()
    texts = [line[13:] for line in lines[:3]]
    assert len(set(texts)) == 1
    assert "Romain" in texts[0]
    assert "the same tokens three times: True" in lines


def test_all_bundled_weights_together_stay_small() -> None:
    weights = list(ZOO_DIR.glob("*/*.safetensors"))
    assert len(weights) == 4
    assert sum(path.stat().st_size for path in weights) < MOST_BYTES
    assert not list(ZOO_DIR.rglob("*.bin"))
    assert not list(ZOO_DIR.rglob("*.pt"))


def test_the_benchmarks_sentences_are_two_hundred_different_short_ones() -> None:
    text = (ROOT / "benchmarks" / "sentences.txt").read_text(encoding="utf-8")
    sentences = text.splitlines()
    assert len(set(sentences)) == len(sentences) == 200
    assert all(3 <= len(sentence.replace(" ?", "").split()) <= 12 for sentence in sentences)
    assert set(HELD_OUT) <= set(sentences)
