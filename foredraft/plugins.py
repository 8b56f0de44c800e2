"""Components from outside: modules that are named, and plugins that installed packages announce.

Importing one registers what it holds; nothing of the package changes for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from foredraft.errors import ConfigError, foreign, quoted

GROUP = "foredraft.plugins"  # of entry points
REMEDY = "give a module that Python finds, or a path that ends in .py"


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import the plugins of installed packages, then modules.

    Args:
        modules: their names, or paths that end in `.py`.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        what = f"loading the plugin {quoted(entry.name)} ({entry.value})"
        with foreign(what, "update its package, or uninstall it", ConfigError):
            entry.load()
    for name in modules:
        with foreign(f"importing {quoted(name, 300)}", REMEDY, ConfigError):
            _import(name)


def placed(name: str) -> str:
    """Return a module's name as it is, and a path so that it holds in every folder."""
    return str(Path(name).expanduser().resolve()) if name.endswith(".py") else name


def _import(name: str) -> None:
    if not name.endswith(".py"):
        import_module(name)
        return
    known_as = file = placed(name)
    if known_as in sys.modules:
        return
    spec = spec_from_file_location(known_as, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[known_as] = module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known_as]
        raise
