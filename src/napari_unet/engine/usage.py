"""How a trained network is meant to be used: what travels with the weights in the model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_unet.engine.averaging import AVERAGINGS, Averaging
from napari_unet.engine.results import InstanceSettings
from napari_unet.model.checkpoint import load_notes
from napari_unet.ops.errors import InputError


@dataclass(frozen=True, slots=True)
class Usage:
    """What a training found out about its network.

    Attributes
    ----------
    kind
        What was learned: "instances" (channels background, object and perhaps outline),
        "semantic" (a channel per class), or "strokes".
    class_values
        For "semantic": the label of each class in the training data.
    instances
        How objects are cut out best, chosen on the validation images.
    averaging
        Over which versions of an image the prediction is averaged.
    training
        For people: recipe, measure, score, steps.
    """

    kind: Literal["instances", "semantic", "strokes"] = "strokes"
    class_values: tuple[int, ...] = ()
    instances: InstanceSettings = field(default_factory=InstanceSettings)
    averaging: Averaging = "none"
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, all of them fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Usage:
        """Make a usage from what `to_dict` returned; what is missing gets its default.

        Raises
        ------
        InputError
            If a value cannot be used.
        """
        try:
            kind = values.get("kind", "strokes")
            averaging = values.get("averaging", "none")
            if kind not in ("instances", "semantic", "strokes") or averaging not in AVERAGINGS:
                raise ValueError(kind, averaging)
            return cls(
                kind,
                tuple(int(value) for value in values.get("class_values", ())),
                InstanceSettings(**values.get("instances", {})),
                averaging,
                dict(values.get("training", {})),
            )
        except (TypeError, ValueError) as error:
            raise InputError("the notes on the model's use are damaged; train it again") from error


def load_usage(path: str | Path) -> Usage:
    """Read from a model file how its network is meant to be used.

    Raises
    ------
    InputError
        If the file cannot be read, or its notes are damaged.
    """
    return Usage.from_dict(load_notes(path))
