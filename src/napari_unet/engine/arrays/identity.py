"""What tells one large prediction from another: a job goes on with nothing but its own tiles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_unet.engine.arrays.ranges import Measured
from napari_unet.engine.arrays.source import Place
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError

if TYPE_CHECKING:
    from napari_unet.engine.arrays.predict_array import PredictArrayRequest

# Of a stack, so many images are read again to see whether it is still the same.
_COMPARED: Final = 16
# What the settings of a job are called on the command line.
_OPTIONS: Final = {
    "content": "--save",
    "dtype": "--dtype",
    "precision": "--precision",
    "averaging": "--averaging",
    "tile": "the inner side of its tiles (--tile-size)",
}


def described(
    model: UNet, request: PredictArrayRequest, measured: Mapping[Place, Measured]
) -> dict[str, Any]:
    """Return what must be the same for the job to go on, fit for JSON."""
    source = request.source
    return {
        "model": _fingerprint(model),
        "input": {
            "axes": source.axes,
            "shape": [int(length) for length in source.array.shape],
            "dtype": str(np.dtype(source.array.dtype)),
            "channels": list(source.selected),
            "values": {
                ",".join(map(str, place)): measured[place].digest
                for place in spread(list(source.places()))
            },
        },
        "settings": {
            "content": request.content,
            "dtype": request.dtype,
            "precision": request.precision,
            "averaging": request.averaging,
        },
    }


def refuse_another(
    job: dict[str, Any], known: dict[str, Any], request: PredictArrayRequest
) -> None:
    """Raise InputError, with the reason, if the output belongs to another job."""
    reasons = []
    if job["model"] != known.get("model"):
        reasons.append("it was made with another model")
    before, now = known.get("input", {}), job["input"]
    for name in ("axes", "shape", "dtype", "channels"):
        if before.get(name) != now[name]:
            reasons.append(f"the {name} of its array was {before.get(name)}, and is {now[name]}")
    if not reasons and before.get("values") != now["values"]:
        reasons.append("the values of its array have changed")
    for name, value in job["settings"].items():
        if (earlier := known.get("settings", {}).get(name)) != value:
            reasons.append(f"{_OPTIONS[name]} was {earlier}, and is {value}")
    if reasons:
        raise InputError(
            f"{request.output} holds tiles of another job: {'; '.join(reasons)}; choose another "
            "output, or give --overwrite to begin anew"
        )


def _fingerprint(model: UNet) -> str:
    """Return a hash of the network: its shape and every weight."""
    text = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        text.update(name.encode())
        text.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return text.hexdigest()


def spread(places: Sequence[Place]) -> list[Place]:
    """Choose a few places, evenly."""
    count = min(len(places), _COMPARED)
    return [places[i * len(places) // count] for i in range(count)]
