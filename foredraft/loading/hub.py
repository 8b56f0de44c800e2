"""A name on the Hugging Face hub → a folder of the local cache, with the files that are needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub

from foredraft.errors import ModelError
from foredraft.loading.documents import read_document
from foredraft.loading.headers import INDEX, SINGLE, shard_names

HUB_NAME = re.compile(r"(?!\.)[\w.-]{1,96}(/[\w.-]{1,96})?")
HUB_SECONDS = 10.0  # how long the hub may take to answer
SETTINGS_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.py", "*.tiktoken")


def _hub_has(name: str) -> bool:
    """Ask the hub once, briefly: without an answer the local cache must do, at once.

    transformers itself would try six times for each file before it looked into its cache.
    """
    try:
        huggingface_hub.model_info(name, timeout=HUB_SECONDS)
    except Exception:  # no network, switched off, unknown, gated: all mean "not from there"
        return False
    return True


def fetched(name: str, files: Sequence[str]) -> Path:
    """Return the folder of a hub model in the local cache, with these files in it.

    Raises:
        ModelError: not in the cache, and the hub is out of reach or has no such model.
    """
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=list(files), local_files_only=not _hub_has(name)
            )
        )
    except Exception as error:  # whatever the network, the cache and the hub raise
        raise ModelError(
            f"cannot fetch {name!r}: it is not in the local Hugging Face cache and the hub is out "
            "of reach or has no such model; give 'bundled', a folder, or a cached hub name"
        ) from error


def fetched_file(name: str, file: str) -> Path:
    """Return the path of one file of a hub model in the local cache; errors as for `fetched`."""
    try:
        return Path(
            huggingface_hub.hf_hub_download(name, file, local_files_only=not _hub_has(name))
        )
    except Exception as error:  # whatever the network, the cache and the hub raise
        raise ModelError(
            f"cannot fetch {file!r} of {name!r}: it is not in the local Hugging Face cache and the "
            "hub is out of reach or has no such file; give a file that is here"
        ) from error


def weight_files(folder: Path) -> list[str]:
    """Return the files of weights that the settings of a hub model call for."""
    index = read_document(folder / INDEX)
    return [SINGLE] if index is None else sorted(set(shard_names(folder / INDEX, index).values()))
