"""What a model's name means: a folder, a GGUF file, a short name, or a place on the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from foredraft.cache import cache_home
from foredraft.errors import ModelError, quoted
from foredraft.loading.documents import shown
from foredraft.loading.folder import CONFIG
from foredraft.loading.hub import HUB_NAME, SETTINGS_FILES, fetched, fetched_file

ENDING = ".gguf"
MODELS = "FOREDRAFT_MODELS"  # the folder in which short names are found
SHORT_NAME = re.compile(r"(?!\.)[\w.-]{1,96}")
HUB_FILE = re.compile(rf"(?P<name>{HUB_NAME.pattern}):(?P<file>(?:[\w-][\w. -]*/)*[\w-][\w. -]*)")
REAL_MODELS = ("smollm2", "gemma3")  # that `scripts/real_models.py` fetches


def models_folder() -> Path | None:
    """Return the folder of models with short names, there or not; None without a home."""
    given = os.environ.get(MODELS)
    if given:
        return Path(given)
    home = cache_home()
    return home and home / "models"


def resolve_name(name: str) -> str:
    """Return what a name leads to: the path of a folder or a GGUF file, or a name on the hub.

    Raises:
        ModelError: to nothing, or to more than one.
    """
    try:
        path = Path(name).expanduser()
        is_dir, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, ~nobody
        is_dir = exists = False
    if is_dir:
        return str(_model_in(path, name))
    if exists and path.suffix.lower() == ENDING:
        return str(path)
    short = None if exists else _short(name)
    if short is not None:
        return str(short)
    if exists or not (HUB_NAME.fullmatch(name) or HUB_FILE.fullmatch(name)):
        raise ModelError(
            f"no model folder {quoted(name, 300)}; give 'bundled', 'bundled-seq2seq', an existing "
            f"folder or {ENDING} file, or a hub name such as Qwen/Qwen2.5-0.5B or "
            f"owner/name:file{ENDING}"
        )
    return name


def file_of(source: str) -> Path | None:
    """Return the GGUF file that a name leads to, fetched from the hub; None if none is meant.

    Raises:
        ModelError: it cannot be fetched, or is no such file.
    """
    on_hub = None if Path(source).exists() else HUB_FILE.fullmatch(source)
    if on_hub is None:
        return Path(source) if source.lower().endswith(ENDING) and Path(source).is_file() else None
    file = on_hub["file"]
    if not file.lower().endswith(ENDING):
        raise ModelError(f"{quoted(source, 300)} names no {ENDING} file; name one, or no file")
    return fetched_file(on_hub["name"], file)


def settings_of(source: str) -> Path:
    """Return the folder with the settings of a model that is in no file."""
    return Path(source) if Path(source).is_dir() else fetched(source, SETTINGS_FILES)


def _model_in(folder: Path, name: str) -> Path:
    """Return a folder that holds a model, or the one GGUF file that it holds."""
    if (folder / CONFIG).is_file():
        return folder
    files = sorted(one for one in folder.iterdir() if one.suffix.lower() == ENDING)
    if not files:
        raise ModelError(
            f"folder {quoted(name, 300)} holds no model: {CONFIG} is missing, and so is any "
            f"{ENDING} file"
        )
    if len(files) > 1:
        listed = ", ".join(one.name for one in files[:5]) + (", …" if len(files) > 5 else "")
        raise ModelError(f"folder {quoted(name, 300)} holds several models; name one of {listed}")
    return files[0]


def _short(name: str) -> Path | None:
    """Return what a short name means; None if it means nothing here."""
    if not SHORT_NAME.fullmatch(name):
        return None
    models = models_folder()
    if models is not None:
        for place in (models / f"{name}{ENDING}", models / name):
            if place.is_dir():
                return _model_in(place, str(place))
            if place.is_file():
                return place
    if name not in REAL_MODELS:
        return None
    where = "a home folder" if models is None else shown(models)
    raise ModelError(
        f"the model {name!r} is not in {where} ({MODELS}); get it with: "
        f"python scripts/real_models.py {name}"
    )
