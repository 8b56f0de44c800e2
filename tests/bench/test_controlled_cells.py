"""Controls in a grid: what bends the target's distribution bends its baseline's, too."""

from __future__ import annotations

from foredraft.bench.cells import CONTROLS, PLAIN
from foredraft.config import DecodingConfig

BENT = {
    "repetition_penalty": 1.5,
    "presence_penalty": 1.0,
    "frequency_penalty": 1.0,
    "logit_bias": ("5=1",),
    "no_repeat_ngram_size": 2,
    "bad_words": ("x",),
    "min_new_tokens": 3,
    "json_schema": '{"type": "object"}',
    "regex": "a+",
    "grammar": 'start: "a"',
}


def test_every_setting_that_bends_is_one_of_the_baseline() -> None:
    plain = DecodingConfig()
    for name, value in BENT.items():
        assert plain.replace(**{name: value}).controls != plain.controls, name
    assert set(BENT) == set(CONTROLS) <= set(PLAIN)
    # Any other setting, at any value, leaves the controls as they are: none has been forgotten.
    others = {
        **{"n": 2, "logprobs": 3, "prediction": "x", "length": 9, "stop": ("x",)},
        **{"gamma": 2, "egag": True, "cache": False, "sampler": "multinomial"},
    }
    for name, value in others.items():
        assert plain.replace(**{name: value}).controls == ()
