"""foredraft: faster text from language models, with their output distribution unchanged."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from foredraft.version import __version__ as __version__

if TYPE_CHECKING:
    from foredraft.exports import *  # noqa: F403
    from foredraft.exports import __all__ as __all__
else:
    # Loading torch takes seconds: only who asks for a name waits, and a command that is
    # interrupted meanwhile can still end without a traceback.
    def __getattr__(name: str) -> Any:
        """Return a public name, or the list of them."""
        exports = import_module(f"{__name__}.exports")
        if name == "__all__" or name in exports.__all__:
            return getattr(exports, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module(f"{__name__}.exports").__all__})
