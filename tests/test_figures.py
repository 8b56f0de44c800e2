"""The words of the figures fit into their boxes and into the picture, also in a wide font."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import matplotlib
import pytest
from PIL import ImageFont

FIGURES = sorted((Path(__file__).parents[1] / "docs" / "figures").glob("*.svg"))
SIZE = 15  # of words that are not small, in pixels; a Chinese character is as wide
WIDE = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), SIZE)
BOX = re.compile(
    r'<rect class="[^"]*" x="([\d.-]+)" y="[\d.-]+" width="([\d.]+)" height="34" rx="5"/>\n'
    r'<text x="([\d.-]+)" y="[\d.-]+" class="mid">([^<]*)</text>'
)
WORDS = re.compile(r'<text x="([\d.-]+)" y="[\d.-]+" class="([^"]*)">([^<]*)</text>')


def width(words: str, look: str = "") -> float:
    """Return how wide words are in DejaVu Sans, with Chinese ones in a font of full width."""
    latin = "".join(letter for letter in words if letter < "⺀")
    whole = WIDE.getlength(latin) + SIZE * (len(words) - len(latin))
    return float(whole * 13 / SIZE if "small" in look else whole)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_words_fit_into_their_boxes_and_the_picture(figure: Path) -> None:
    svg = figure.read_text(encoding="utf-8")
    whole = re.search(r'viewBox="0 0 (\d+)', svg)
    assert whole
    for _, room, _, words in BOX.findall(svg):
        assert width(unescape(words)) <= float(room), words
    for x, look, words in WORDS.findall(svg):
        wide = width(unescape(words), look)
        left = float(x) - (wide / 2 if "mid" in look else wide if "end" in look else 0)
        assert left >= 0, words
        assert left + wide <= float(whole[1]), words


def test_the_label_that_ran_over_would_be_noticed() -> None:
    assert width("end the draft, or guess a random token") > 260
    assert width("结束草稿，或猜一个随机 token") < 260
