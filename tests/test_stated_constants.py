"""The chapter on draft lengths states the numbers that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foredraft import arms, chances, costs, curves
from foredraft.drafting import auto, decision, hybrid, judged
from foredraft.gamma import adaedl, calibration, confidence, cost_aware, entropy_cost, svip

PAGE = Path(__file__).parents[1] / "docs" / "en" / "06b-draft-lengths.md"
SAID = {
    "confidence": f"threshold ({confidence.ConfidenceGamma().threshold} unless",
    "svip": rf"$\sqrt{{{svip.SHARE}\, H}} > {svip.SvipGamma().threshold}$",
    "adaedl": rf"1 - \sqrt{{{adaedl.ENTROPY_SHARE}\, H}} < \lambda",
    "adaedl start": rf"the start, $\lambda = {adaedl.FIRST_THRESHOLD}$",
    "adaedl step": rf"{1 - adaedl.THRESHOLD_EMA:.1f} \cdot {adaedl.STEP} =",
    "adaedl acceptance": rf"A \leftarrow {adaedl.ACCEPTANCE_EMA}\, A",
    "calibration start": f"$b = {calibration.FIRST_BIAS}$",
    "calibration bounds": rf"[{calibration.LEAST},\, {calibration.MOST}]",
    "mean memory": f"newest {calibration.MEAN_MEMORY} labels",
    "mean start": f"begins at {calibration.FIRST_MEAN},",
    "text memory": f"has a memory of {chances.TEXT_MEMORY}",
    "young": f"in its first {costs.YOUNG} rounds a time below {costs.SUDDENLY:g}",
    "longer": f"each further token must add {100 * costs.LONGER:g} % to the rate",
    "hope": rf"${cost_aware.HOPE} / \sqrt{{n}}$",
    "learning": "lengths {}, {}, {}, {}, {} and {} whatever".format(*cost_aware.LEARNING),
    "newest times": f"newest {curves.NEWEST} times",
    "remembered times": f"within {curves.REMEMBERED} measurements",
    "explore": f"share of the time ({cost_aware.CostAwareGamma().explore} unless",
    "longest rest": f"up to {entropy_cost.LONGEST_REST}, because",
    "lost": rf"\le {arms.MOST_LOST}\, T_n",
    "hybrid": rf"\pi_1 \ge {hybrid.CONFIDENT}$",
    "judged": rf"h + {judged.PRIOR:g} g",
    "chance": f"at most {judged.LARGEST_CHANCE}. The",
    "luck": rf"\frac{{z + {chances.TEXT_PRIOR:g}}}",
    "looks": f"newest {judged.LOOKS} looks",
    "rest": f"At most {judged.LONGEST_REST} are left out",
    "plain waits": f"after {costs.PLAIN_MORE}, {2 * costs.PLAIN_MORE} and {costs.PLAIN_EVERY}",
    "plain kept": f"median of the newest {costs.PLAIN_KEPT}",
    "worthwhile": f"promise {costs.WORTHWHILE} times the speed",
    "horizon": rf"N = \min \left( {auto.HORIZON},",
    "suddenly": f"a time below {costs.SUDDENLY:g} of it",
    "deciding": f"at {1000 * decision.DECIDING_SECONDS:g} ms each, "
    f"take {100 * decision.DECIDING_SHARE:g} % of the time",
    "auto length": f"at most {auto.Auto().gamma_max} tokens, whatever",
}


@pytest.mark.parametrize("name", SAID)
def test_the_chapter_says_what_the_code_has(name: str) -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
    assert SAID[name] in text
