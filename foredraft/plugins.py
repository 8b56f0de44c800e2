"""Components from outside: modules that are named, and plugins that installed packages announce.

Importing one registers what it holds; nothing of the package changes for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.registry import nearest

GROUP = "foredraft.plugins"  # of entry points
REMEDY = "give a module that Python finds, or a path that ends in .py"
EXAMPLES = "write e.g. transformers.generation.utils:_speculative_sampling, or file.py:function"


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


def load_function(named: str) -> Callable[..., object]:
    """Return somebody's function.

    Args:
        named: MODULE:FUNCTION, the module by name or as a path that ends in `.py`; the function may
            be one of a class in it: `module:Class.function`.

    Raises:
        ConfigError: it is spelt otherwise, cannot be imported, or is no function.
    """
    module, colon, name = named.rpartition(":")
    if not (colon and module and all(part.isidentifier() for part in name.split("."))):
        raise ConfigError(f"{quoted(named, 300)} is no MODULE:FUNCTION; {EXAMPLES}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; the command's own folder stands there
    with foreign(f"importing {quoted(module, 300)}", REMEDY, ConfigError):
        _import(module)
    found: object = sys.modules[placed(module)]
    for part in name.split("."):
        if not hasattr(found, part):
            guess = nearest(part, [one for one in dir(found) if callable(getattr(found, one))])
            raise ConfigError(f"{quoted(module, 300)} has no {quoted(name)}{guess}; {EXAMPLES}")
        found = getattr(found, part)
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"{quoted(named, 300)} is of type {kind}, no function; {EXAMPLES}")
    return found


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
