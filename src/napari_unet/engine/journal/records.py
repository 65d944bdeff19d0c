"""Changes as lines of a journal, and back."""

from __future__ import annotations

import re
from math import prod
from typing import Any, Final

import numpy as np

from napari_unet.engine.journal.changes import (
    LARGEST_ENTRY,
    MOST_BOXES,
    ROLES,
    AcceptanceChanged,
    Accepted,
    BoxChange,
    Change,
    Entry,
    LayerAdded,
    ModelChanged,
    ModelFile,
    Painted,
    SettingsChanged,
    ViewChanged,
)
from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.format import (
    DTYPES,
    JournalError,
    compress,
    decompress,
    from_text,
    to_text,
)

# What a file of weights is called: no folder, nothing that a file system could take otherwise.
_MODEL_NAME: Final = re.compile(r"[0-9]{1,12}\.safetensors")
_LAYER_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")


# ---------------------------------------------------------------------------- to JSON


def to_values(entry: Entry) -> dict[str, Any]:
    """Return an entry as values for `encode_line`."""
    values: dict[str, Any] = {"n": entry.number, "kind": entry.change.kind, "t": entry.time}
    if entry.undoes:
        values["undoes"] = entry.undoes
    if entry.redoes:
        values["redoes"] = entry.redoes
    if entry.joins:
        values["joins"] = True
    return values | _content(entry.change)


def _content(change: Change) -> dict[str, Any]:
    match change:
        case LayerAdded():
            return {
                "layer": change.layer,
                "role": change.role,
                "name": change.name[:200],
                "shape": list(change.shape),
                "dtype": change.dtype,
            }
        case Painted():
            boxes = [_box_values(box) for box in change.boxes]
            dtype = change.boxes[0].after.dtype.name if change.boxes else "uint8"
            return {"layer": change.layer, "why": change.why, "dtype": dtype, "boxes": boxes}
        case Accepted():
            return region_values(change)
        case AcceptanceChanged():
            return {"before": list(change.before), "after": list(change.after)}
        case ModelChanged():
            return {
                "why": change.why,
                "before": model_values(change.before),
                "after": model_values(change.after),
            }
        case SettingsChanged() | ViewChanged():
            return {"values": dict(change.values)}


def _box_values(box: BoxChange) -> dict[str, Any]:
    return {
        "start": list(box.start),
        "shape": list(box.after.shape),
        "before": to_text(compress(box.before)),
        "after": to_text(compress(box.after)),
    }


def region_values(region: Accepted) -> dict[str, Any]:
    """Return an accepted region as values for JSON."""
    return {
        "start": list(region.start),
        "shape": list(region.labels.shape),
        "labels": to_text(compress(region.labels)),
    }


def model_values(model: ModelFile | None) -> dict[str, Any] | None:
    """Return a model file as values for JSON."""
    if model is None:
        return None
    return {
        "name": model.name,
        "sha256": model.sha256,
        "size": model.size,
        "step": model.step,
        "speaker": model.speaker,
    }


# ---------------------------------------------------------------------------- from JSON


def from_values(values: dict[str, Any]) -> Entry:
    """Read an entry.

    Raises
    ------
    JournalError
        If the values are not those of an entry.
    """
    checked = Checked(values)
    return Entry(
        number=checked.whole("n", 1),
        change=_read_change(checked),
        time=checked.text("t", 40, ""),
        undoes=checked.whole("undoes", 0, default=0),
        redoes=checked.whole("redoes", 0, default=0),
        joins=checked.get("joins") is True,
    )


def _read_change(values: Checked) -> Change:
    kind = values.text("kind", 20)
    match kind:
        case "layer":
            return _read_layer(values)
        case "paint":
            dtype = values.choice("dtype", DTYPES)
            return Painted(
                _layer_id(values), values.text("why", 40, ""), _read_boxes(values, dtype)
            )
        case "accept":
            return read_region(values)
        case "accepted":
            return AcceptanceChanged(values.wholes("before"), values.wholes("after"))
        case "model":
            before, after = values.optional("before"), values.optional("after")
            return ModelChanged(values.text("why", 40, ""), read_model(before), read_model(after))
        case "settings":
            return SettingsChanged(values.table("values"))
        case "view":
            return ViewChanged(values.table("values"))
    raise JournalError(f"a change of the unknown kind {kind!r}; a newer program may have made it")


def _layer_id(values: Checked) -> str:
    name = values.text("layer", 40)
    if not _LAYER_NAME.fullmatch(name):
        raise JournalError("a layer has no proper id")
    return name


def _read_layer(values: Checked) -> LayerAdded:
    role = values.choice("role", ROLES)
    return LayerAdded(
        _layer_id(values),
        next(each for each in ROLES if each == role),
        values.text("name", 200, ""),
        values.shape("shape"),
        values.choice("dtype", DTYPES),
    )


def _read_boxes(values: Checked, dtype: str) -> tuple[BoxChange, ...]:
    boxes = values.objects("boxes", MOST_BOXES)
    item = np.dtype(DTYPES[dtype]).itemsize
    if sum(prod(box.shape("shape")) for box in boxes) * item > LARGEST_ENTRY:
        raise JournalError("a change claims more pixels than one can hold")
    return tuple(_read_box(box, dtype) for box in boxes)


def _read_box(values: Checked, dtype: str) -> BoxChange:
    start, shape = values.wholes("start"), values.shape("shape")
    if len(start) != len(shape):
        raise JournalError("a box begins in other axes than it has")
    before = decompress(from_text(values.get("before")), shape, dtype)
    after = decompress(from_text(values.get("after")), shape, dtype)
    return BoxChange(start, before, after)


def read_region(values: Checked) -> Accepted:
    """Read an accepted region."""
    start, shape = values.wholes("start"), values.shape("shape")
    if len(start) != len(shape):
        raise JournalError("a box begins in other axes than it has")
    return Accepted(start, decompress(from_text(values.get("labels")), shape, "uint8"))


def read_model(values: Checked | None) -> ModelFile | None:
    """Read a model file; its name cannot lead out of its folder."""
    if values is None:
        return None
    name, digest = values.text("name", 40), values.text("sha256", 64)
    if not _MODEL_NAME.fullmatch(name):
        raise JournalError("a file of weights has no proper name")
    speaker = values.choice("speaker", ("at once", "network"))
    return ModelFile(name, digest, values.whole("size", 0), values.whole("step", 0), speaker)
