"""The package as a tree with a comment a line, the first lines of the module docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "foredraft"


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")


def tree() -> str:
    """Return the tree as the page about architecture shows it: top-level modules, and rooms."""
    rows = [("foredraft/", first_line(PACKAGE / "__init__.py"))]
    modules = sorted(m for m in PACKAGE.glob("*.py") if m.name != "__init__.py")
    rows += [("  " + module.name, first_line(module)) for module in modules]
    rooms = sorted(inner.parent for inner in PACKAGE.glob("*/__init__.py"))
    rows += [(f"  {room.name}/", first_line(room / "__init__.py")) for room in rooms]
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{comment}" for name, comment in rows)
