"""Where the real models are, for tests marked `real`."""

from __future__ import annotations

from pathlib import Path

import pytest

from foredraft.errors import ModelError
from foredraft.loading.named import REAL_MODELS, resolve_name

each_real_model = pytest.mark.parametrize("name", REAL_MODELS)


def real_file(name: str) -> Path:
    """Return a real file; skip, with the way to it, where it is not here."""
    try:
        return Path(resolve_name(name))
    except ModelError as error:
        if "scripts/real_models.py" not in str(error):
            raise
        pytest.skip(str(error))
