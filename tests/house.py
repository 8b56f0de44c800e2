"""The package as a tree, one comment a file, from the first lines of the module docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "foredraft"


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")


def tree() -> str:
    """Return the tree as it stands in the page about architecture."""
    rows = [("foredraft/", first_line(PACKAGE / "__init__.py"))]
    modules = sorted(PACKAGE.glob("*.py"))
    for folder in [PACKAGE, *sorted(p.parent for p in PACKAGE.glob("*/__init__.py"))]:
        if folder != PACKAGE:
            rows.append((f"  {folder.name}/", first_line(folder / "__init__.py")))
            modules = sorted(folder.glob("*.py"))
        indent = "  " if folder == PACKAGE else "    "
        rows += [(indent + m.name, first_line(m)) for m in modules if m.name != "__init__.py"]
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{comment}" for name, comment in rows)
