"""foredraft: faster text from language models, with their output distribution unchanged."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from foredraft.version import __version__ as __version__

if TYPE_CHECKING:
    from foredraft.exports import *  # noqa: F403
    from foredraft.exports import __all__ as __all__
else:
    # Loading torch takes seconds: only who asks for a name waits, and a command that is
    # interrupted meanwhile can still end without a traceback.
    def __getattr__(name: str) -> Any:
        """Return a public name, or a module of the package."""
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        try:
            return getattr(import_module(f"{__name__}.exports"), name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module(f"{__name__}.exports").__all__})
