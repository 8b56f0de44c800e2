"""Just enough SVG for the figures: boxes, words, arrows, curves; follows light and dark.

A figure brings its own paper: a page may be dark where the reader's system is light.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

STYLE = """
.paper { fill: #fff }
text { font: 15px system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; fill: #222 }
.small { font-size: 13px } .bold { font-weight: 700 } .mid { text-anchor: middle }
.end { text-anchor: end }
.line { stroke: #555; fill: none; stroke-width: 1.5 } .grid { stroke: #ccc; fill: none }
.plain { fill: #eceff1; stroke: #78909c } .draft { fill: #fff3e0; stroke: #fb8c00 }
.kept { fill: #e8f5e9; stroke: #43a047 } .cut { fill: #ffebee; stroke: #e53935 }
.extra { fill: #e3f2fd; stroke: #1e88e5 } .empty { fill: none; stroke: #b0bec5 }
.head { fill: #555 }
.c0 { stroke: #1e88e5 } .c1 { stroke: #43a047 } .c2 { stroke: #fb8c00 } .c3 { stroke: #e53935 }
.c4 { stroke: #8e24aa } .curve { fill: none; stroke-width: 2.2 } .dot { stroke-width: 5 }
@media (prefers-color-scheme: dark) {
.paper { fill: #1e2129 }
text { fill: #eee } .line { stroke: #bbb } .head { fill: #bbb } .grid { stroke: #444 }
.plain { fill: #37474f } .draft { fill: #5d4037 } .kept { fill: #1b5e20 }
.cut { fill: #7f1d1d } .extra { fill: #0d47a1 }
}
"""


class Drawing:
    """A picture being drawn; coordinates are pixels from the upper left corner.

    Args:
        width: in pixels.
        height: in pixels.
        title: what a screen reader says.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            '<rect class="paper" width="100%" height="100%" rx="6"/>',
            '<defs><marker id="head" markerWidth="9" markerHeight="7" refX="8" refY="3.5" '
            'orient="auto"><path class="head" d="M0 0 L9 3.5 L0 7 z"/></marker></defs>',
        ]

    def text(self, x: float, y: float, words: str, look: str = "") -> None:
        """Write words; `look` names classes of the style, e.g. `mid small`."""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{look}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, words: str, kind: str = "plain") -> None:
        """Draw a cell, 34 high, with words in its middle; `kind` is its colour."""
        self._parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="34" rx="5"/>'
        )
        if words:
            self.text(x + width / 2, y + 22, words, "mid")

    def swatch(self, x: float, y: float, kind: str) -> None:
        """Draw a small square in the colour of a kind of cell, for a legend."""
        self._parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="14" height="14" rx="3"/>'
        )

    def line(self, points: Iterable[tuple[float, float]], look: str = "line") -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{look}" points="{path}"/>')

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Draw an arrow from one point to another."""
        self._parts.append(
            f'<path class="line" marker-end="url(#head)" d="M{x0:g} {y0:g} L{x1:g} {y1:g}"/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a rectangle of any size, with no words in it; `kind` is its colour."""
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/>'
        )

    def dot(self, x: float, y: float, look: str) -> None:
        """Mark a point."""
        self._parts.append(f'<circle class="dot {look}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')

    def __str__(self) -> str:
        drawn = "\n".join([*self._parts, "</svg>"]) + "\n"
        return drawn.replace(STYLE, _used(STYLE, drawn), 1)


def _used(style: str, drawn: str) -> str:
    """Return the rules of a style that something drawn has a class for."""
    classes = {name for names in re.findall(r'class="([^"]*)"', drawn) for name in names.split()}
    kept = re.sub(
        r"\.([\w]+) \{[^}]*\} ?", lambda rule: rule[0] if rule[1] in classes else "", style
    )
    return re.sub(r"\n\s*\n", "\n", kept)
