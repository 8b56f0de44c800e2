"""What drafts for a target: a model by name, a head, or what comes with this package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from foredraft.errors import ModelError, VocabularyMismatch, quoted
from foredraft.loading.device import resolve_device
from foredraft.loading.head import head_for, heads_in, is_head, load_head, read_head_folder
from foredraft.loading.hub import fetched, weight_files
from foredraft.loading.loader import (
    AUTO_DRAFTER,
    BUNDLED,
    BUNDLED_FOLDERS,
    BUNDLED_SEQ2SEQ,
    HEADS_DIR,
    NO_DRAFTER,
    LoadedModel,
    fitting,
    give_threads,
    load,
    load_network,
)
from foredraft.loading.named import file_of, resolve_name, settings_of
from foredraft.loading.options import LoadOptions
from foredraft.loading.pairing import fit_drafter
from foredraft.models.encoder_decoder import Seq2SeqModel
from foredraft.native.head import CompiledHead
from foredraft.phases import begins
from foredraft.translation import difference


def load_pair(
    target: str, drafter: str, options: LoadOptions, drafter_options: LoadOptions | None = None
) -> tuple[LoadedModel, LoadedModel]:
    """Load a target and the draft model for it, on any two devices and in any two dtypes.

    Raises:
        ModelError: one of them cannot be loaded.
        VocabularyMismatch: as for `load_drafter`.
    """
    loaded_target = load(target, "target", options)
    return loaded_target, load_drafter(drafter, loaded_target, drafter_options or options)


def load_drafter(
    name: str, target: LoadedModel, options: LoadOptions, *, may_be_foreign: bool = True
) -> LoadedModel:
    """Load a draft model and fit it to its target.

    One with the target's tokenizer gets the target's columns, one with another keeps its own.

    Args:
        name: as for `load`; `bundled` is the bundled drafter of the target's kind, `auto` what
            `find_drafter` finds, and the folder or name of a head a head.
        target: the target, loaded.
        options: device, precision and trust.
        may_be_foreign: whether it may have another tokenizer than the target.

    Raises:
        ModelError: it cannot be loaded, or cannot draft for this kind of target.
        VocabularyMismatch: it has another tokenizer, and may not; or the target is an
            encoder–decoder, whose encoder reads tokens of one kind.
    """
    if name == BUNDLED and isinstance(target.model, Seq2SeqModel):
        name = BUNDLED_SEQ2SEQ
    if name == AUTO_DRAFTER:
        return _found(target, options)
    if (head := _head_folder(name)) is not None:
        return _load_head(name, head, target, options)
    options = replace(options, invariant=False)
    folder, network, tokenizer, runtime = load_network(name, "drafter", options)
    begins("laying out the drafter's weights")
    try:
        with fitting(folder):
            found = difference(target.tokenizer, tokenizer, (target.name, name))
            model = fit_drafter(network, target.model, runtime, keeps_columns=found is not None)
        give_threads(model, options)
        drafter = LoadedModel(name, model, tokenizer, folder.end_tokens(tokenizer.eos_token_id))
        if not may_be_foreign or isinstance(target.model, Seq2SeqModel):
            check_vocabulary(target, drafter)
    except ModelError as error:
        raise type(error)(f"{error}, or none: --drafter {NO_DRAFTER}") from None
    return drafter


def drafter_for(name: str | None, target: LoadedModel, options: LoadOptions) -> LoadedModel | None:
    """Return a draft model by a name that may also be `none`, or `auto`, which may find none.

    Raises:
        ModelError: as for `load_drafter`.
    """
    if name is None or name == NO_DRAFTER:
        return None
    if name == AUTO_DRAFTER:
        return find_drafter(target, options)
    return load_drafter(name, target, options)


def find_drafter(target: LoadedModel, options: LoadOptions) -> LoadedModel | None:
    """Return the draft model that comes with this package for a target; None if none fits.

    It is a head of this very target, or the bundled drafter where both have one tokenizer.

    Raises:
        ModelError: a file of this package is corrupt.
    """
    if not isinstance(target.model, Seq2SeqModel):
        head = head_for(target.model, HEADS_DIR)
        if head is not None:
            return _load_head(head.name, head.path, target, options)
    try:
        return load_drafter(BUNDLED, target, options, may_be_foreign=False)
    except ModelError:
        return None


def _found(target: LoadedModel, options: LoadOptions) -> LoadedModel:
    found = find_drafter(target, options)
    if found is None:
        raise ModelError(
            f"no draft model of this package fits {quoted(target.name, 300)}; name one, or none: "
            f"--drafter {NO_DRAFTER}"
        )
    return found


def _head_folder(name: str) -> Path | None:
    """Return the folder of a head, fetched if it is on the hub; None: the name means no head."""
    if name in BUNDLED_FOLDERS:
        return None
    for head in heads_in(HEADS_DIR):
        if head.name == name:
            return head.path
    source = resolve_name(name)
    if file_of(source) is not None:
        return None
    folder = settings_of(source)
    if not is_head(folder):
        return None
    if folder != Path(source):
        fetched(source, weight_files(folder))
    return folder


def _load_head(name: str, folder: Path, target: LoadedModel, options: LoadOptions) -> LoadedModel:
    begins("laying out the head")
    lies = next(target.model.weights(), torch.empty(0)).device
    asked = resolve_device(options.device)
    if asked.type != lies.type or asked.index not in (None, lies.index):
        raise ModelError(
            f"{quoted(name, 300)} is a head, which lies where its target does, on {lies}, not "
            f"on {quoted(options.device)}; leave the drafter's device out"
        )
    head = load_head(read_head_folder(folder), target.model, target.name)
    if options.threads and isinstance(head, CompiledHead):
        head.threads = options.threads
    return LoadedModel(name, head, target.tokenizer, target.eos_token_ids)


def check_vocabulary(target: LoadedModel, drafter: LoadedModel) -> None:
    """Raise unless every id both tokenizers know means the same text.

    Raises:
        VocabularyMismatch: naming the first id that differs, or how little is shared.
    """
    names = target.name, drafter.name
    found = difference(target.tokenizer, drafter.tokenizer, names)
    if found is not None:
        raise VocabularyMismatch(f"{found}; choose a drafter of the target's family")
