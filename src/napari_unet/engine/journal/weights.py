"""The network of a session in a project: a file for every round of learning, and the way back.

Each round has two files. One is an ordinary model file, which every part of the program opens. The
other, with "state" in its name, holds what the next step of the training depends on besides: the
optimiser's moments, random numbers, and which strokes are held out.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_unet.engine.image import SourceImage
from napari_unet.engine.journal.changes import ModelFile
from napari_unet.engine.journal.folder import MODELS, hash_file, write_file
from napari_unet.engine.journal.format import JournalError
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.model.augment import AugmentConfig
from napari_unet.model.checkpoint import load_model, load_notes, save_model
from napari_unet.ops.errors import InputError
from napari_unet.ops.held_out import HeldOut

_STATE: Final = "napari-unet training state 1"
# Under this name the notes of the model file hold the SHA-256 of the state beside it.
_STATE_HASH: Final = "training_state"
# A patch and a batch of more would take more memory than a machine has; who writes so is hostile.
_LARGEST_PATCH: Final = 4096
_LARGEST_BATCH: Final = 256
# States are three times as large as a network; with fewer rounds back, learning goes on from the
# weights alone.
_STATES_KEPT: Final = 8


def network_mark(segmenter: Segmenter) -> tuple[int, int, bool]:
    """Return what is another one whenever the network is: which one, its steps, if it learned."""
    network = segmenter._network
    training = network.training
    return id(network), 0 if training is None else training.step, network.is_fine_tuned


def save_weights(segmenter: Segmenter, folder: Path, image: SourceImage | None = None) -> ModelFile:
    """Write the network to a project's folder, where no training runs at the same time.

    Parameters
    ----------
    segmenter
        Whose network.
    folder
        Of the project.
    image
        Whose held-out strokes are kept with it.

    Returns
    -------
    ModelFile
        What was written; it is on the disk.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    models = folder / MODELS
    path = free_path(models)
    speaker = segmenter.speaker
    notes = segmenter.usage.to_dict()
    training = segmenter._network.training
    step = 0 if training is None else training.step
    if training is not None:
        _save_state(_state_path(path), segmenter, training, image)
        notes[_STATE_HASH] = hash_file(_state_path(path))[0]
    save_model(segmenter.model, path, notes)
    _remove_old_states(models)
    digest, size = hash_file(path)
    return ModelFile(path.name, digest, size, step, speaker)


def copy_weights(model: ModelFile, source: Path, folder: Path) -> ModelFile:
    """Copy a network from one project's folder to another's, and the state of its training.

    What the state knows of strokes of the other image stays there.

    Parameters
    ----------
    model
        The network.
    source, folder
        Of the project that has it, and of the one that is to have it.

    Returns
    -------
    ModelFile
        The copy; it is on the disk.

    Raises
    ------
    InputError
        If a file is missing, is not what it was, or cannot be written.
    OSError
        If a file cannot be read or written.
    """
    old, path = source / MODELS / model.name, free_path(folder / MODELS)
    if hash_file(old) != (model.sha256, model.size):
        raise JournalError(f"{old} is damaged or was replaced")
    notes = load_notes(old)
    with suppress(JournalError):  # of rounds that are long past there is none
        if notes.get(_STATE_HASH) == hash_file(_state_path(old))[0]:
            contents = _without_strokes(_state_path(old))
            write_file(_state_path(path), contents)
            notes[_STATE_HASH] = hashlib.sha256(contents).hexdigest()
    save_model(load_model(old), path, notes)
    digest, size = hash_file(path)
    return replace(model, name=path.name, sha256=digest, size=size)


def load_weights(
    segmenter: Segmenter, folder: Path, model: ModelFile | None, image: SourceImage | None
) -> bool:
    """Go on with a network of a project, exactly where it was if that is known.

    Parameters
    ----------
    segmenter
        Whose network is replaced. What was accepted stays.
    folder
        Of the project.
    model
        The file; None for a new network.
    image
        The image at hand.

    Returns
    -------
    bool
        Whether learning goes on exactly where it was, rather than from the weights alone.

    Raises
    ------
    InputError
        If the file is missing, damaged, or does not fit the image; the old network stays.
    """
    if model is None:
        _start_anew(segmenter)
        return True
    path = folder / MODELS / model.name
    if hash_file(path) != (model.sha256, model.size):
        raise JournalError(f"{path} is damaged or was replaced; learn again from the strokes")
    exact = False
    with suppress(InputError, OSError):
        if hash_file(_state_path(path))[0] == load_notes(path).get(_STATE_HASH):
            exact = _load_state(_state_path(path), segmenter, image)
    if not exact:
        segmenter.use_model(path)
    return exact


def _start_anew(segmenter: Segmenter, classes: int | None = None) -> None:
    accepted = segmenter.accepted
    segmenter.start_anew(classes)
    segmenter.accepted = accepted


def free_path(models: Path) -> Path:
    """Return a file in the folder of weights that is not there yet, behind all others."""
    last = max((int(path.name[:12]) for path in _files(models)), default=0)
    return models / f"{last + 1:012d}.safetensors"


def _files(models: Path) -> list[Path]:
    found = [path for path in models.glob("*.safetensors") if path.name[:12].isdigit()]
    return sorted(found)


def _state_path(path: Path) -> Path:
    return path.with_name(f"{path.name[:12]}.state.safetensors")


def _remove_old_states(models: Path) -> None:
    states = [path for path in _files(models) if ".state." in path.name]
    for path in states[:-_STATES_KEPT]:
        with suppress(OSError):
            os.unlink(path)


# ---------------------------------------------------------------------------- state


def _save_state(
    path: Path, segmenter: Segmenter, training: Trainer, image: SourceImage | None
) -> None:
    tensors = {f"trainer.{name}": value for name, value in training.state().items()}
    held_out = None if image is None else training.held_out.get(image)
    if held_out is not None:
        tensors["held_out.mask"] = torch.from_numpy(held_out.mask.copy())
        tensors["held_out.labels"] = torch.from_numpy(held_out.labels.copy())
    losses = {} if image is None else training.losses.get(image, {})
    for label, grid in losses.items():  # patches are drawn more often where the loss was high
        tensors[f"losses.{label}"] = torch.from_numpy(grid.copy())
    notes = {
        "step": training.step,
        "speaker": segmenter.speaker,
        "classes": segmenter.classes,
        "starter": segmenter.answers_at_once,
        "config": asdict(training.config),
        "enough": bool(held_out and held_out.enough),
        "reason": held_out.reason if held_out else "",
    }
    contents = save(tensors, {"format": _STATE, "notes": json.dumps(notes)})
    try:
        write_file(path, contents)
    except OSError as error:
        reason = (error.strerror or "writing failed").lower()
        raise InputError(f"{path} cannot be written: {reason}; make room on the disk") from error


def _without_strokes(path: Path) -> bytes:
    """Return a state as the contents of a file, without what it knows of the image's strokes."""
    with safe_open(path, framework="pt", device="cpu") as file:
        names = [name for name in file.keys() if name.startswith("trainer.")]
        return save({name: file.get_tensor(name) for name in names}, file.metadata())


def _load_state(path: Path, segmenter: Segmenter, image: SourceImage | None) -> bool:
    """Take up a training; False if there is none that fits."""
    if image is None or not path.is_file() or path.is_symlink():
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        if metadata.get("format") != _STATE:
            return False
        notes = json.loads(metadata["notes"])
        config = read_config(notes["config"], segmenter.config)
        # Without a starter the network's own shape is not known from the state.
        if not notes["starter"] or not segmenter.begins_from_starter:
            return False
        _start_anew(segmenter, int(notes["classes"]))
        network = segmenter._network
        network.prepare(image, config.device)
        trainer = network.go_on(_part(tensors, "trainer."), notes["step"], notes["speaker"], config)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise JournalError(f"{path} is damaged") from error
    segmenter.config = config
    held_out = _part(tensors, "held_out.")
    if held_out and tuple(held_out["mask"].shape) == image.shape:
        trainer.held_out[image] = HeldOut(
            held_out["mask"].numpy(), held_out["labels"].numpy(), notes["enough"], notes["reason"]
        )
    losses = _part(tensors, "losses.")
    trainer.losses[image] = {int(label): grid.numpy() for label, grid in losses.items()}
    return True


def read_config(values: Any, here: FinetuneConfig) -> FinetuneConfig:
    """Read how was learned; on which device is this machine's own matter.

    Parameters
    ----------
    values
        What `dataclasses.asdict` returned, from JSON; device may be missing.
    here
        The present settings; the device is theirs.

    Raises
    ------
    InputError
        If a value is missing, of another kind, or out of bounds.
    """
    try:
        augment = _alike(values["augment"], asdict(AugmentConfig()))
        rest = {name: value for name, value in values.items() if name not in ("augment", "device")}
        usual = {name: getattr(here, name) for name in asdict(here) if name in rest}
        config = FinetuneConfig(
            **_alike(rest, usual), augment=AugmentConfig(**augment), device=here.device
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise JournalError("the settings of learning are damaged") from error
    if (config.patch_size or 0) > _LARGEST_PATCH or (config.batch or 0) > _LARGEST_BATCH:
        raise JournalError("the settings of learning ask for more memory than there is")
    return config


def _alike(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Return values if each is of the kind of the usual one; numbers may be of either kind."""
    for name, value in values.items():
        known = usual[name]
        numbers = isinstance(value, (int, float)) and isinstance(known, (int, float))
        if known is not None and value is not None and type(value) is not type(known):
            if not numbers or isinstance(value, bool) or isinstance(known, bool):
                raise TypeError(name)
    return values


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
