"""How a trained network is meant to be used: what travels with the weights in the model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from napari_unet.engine.averaging import AVERAGINGS, Averaging
from napari_unet.engine.images.axes import PixelSize, tidy_unit, usable_size
from napari_unet.engine.results import InstanceSettings
from napari_unet.model.checkpoint import load_notes
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import numbered_classes

#: Over what grey values are scaled: every plane by itself, or all planes of a stack alike.
Scaling = Literal["plane", "image"]
SCALINGS: Final[tuple[Scaling, ...]] = ("plane", "image")


@dataclass(frozen=True, slots=True)
class LearnedFrom:
    """The images that a network learned from, as far as other images must be like them.

    Attributes
    ----------
    pixel_size
        Height and width of their pixels in `unit`; None if nobody knows, or they differ.
    unit
        "µm", "nm" ...
    channels
        Names of their channels, in the order in which the network takes them; empty if they have
        none.
    scaling
        Over what their grey values were scaled, by the 1st and the 99.8th percentile.
    """

    pixel_size: tuple[float, float] | None = None
    unit: str | None = None
    channels: tuple[str, ...] = ()
    scaling: Scaling = "plane"

    @property
    def size(self) -> PixelSize | None:
        """The pixel size and its unit in one; None if nobody knows."""
        return None if self.pixel_size is None else PixelSize(*self.pixel_size, self.unit)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LearnedFrom:
        """Make one of what JSON made of it; ValueError or TypeError if that cannot be used."""
        sizes = values.get("pixel_size")
        if sizes is not None:
            height, width = (usable_size(size) for size in sizes)
            if height is None or width is None:
                raise ValueError(sizes)
            sizes = (height, width)
        scaling = values.get("scaling", "plane")
        if scaling not in SCALINGS:
            raise ValueError(scaling)
        channels = tuple(str(name) for name in values.get("channels", ()))
        return cls(sizes, tidy_unit(values.get("unit")), channels, scaling)


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
    learned_from
        What other images must be like.
    class_names
        What the classes are called, background first; empty if nobody named them.
    """

    kind: Literal["instances", "semantic", "strokes"] = "strokes"
    class_values: tuple[int, ...] = ()
    instances: InstanceSettings = field(default_factory=InstanceSettings)
    averaging: Averaging = "none"
    training: Mapping[str, Any] = field(default_factory=dict)
    learned_from: LearnedFrom = field(default_factory=LearnedFrom)
    class_names: tuple[str, ...] = ()

    def names_of(self, classes: int) -> tuple[str, ...]:
        """Return a name for each of so many classes: its own, or a number."""
        if len(self.class_names) == classes:
            return self.class_names
        return numbered_classes(classes)

    def learned_at(self, size: PixelSize | None, channels: tuple[str, ...] = ()) -> Usage:
        """Return these values with what is known of the images that were learned from.

        What is known already stays: a network that learns on from a file is still one for images
        like the first ones.
        """
        known = self.learned_from
        if size is not None and size.unit is not None and known.pixel_size is None:
            sides = (float(size.height), float(size.width))
            known = replace(known, pixel_size=sides, unit=tidy_unit(size.unit))
        if channels and not known.channels:
            known = replace(known, channels=channels)
        return replace(self, learned_from=known)

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
                LearnedFrom.from_dict(values.get("learned_from", {})),
                tuple(str(name) for name in values.get("class_names", ())),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError("the notes on the model's use are damaged; train it again") from error


def load_usage(path: str | Path) -> Usage:
    """Read from a model file how its network is meant to be used.

    Raises
    ------
    InputError
        If the file cannot be read, or its notes are damaged.
    """
    return Usage.from_dict(load_notes(path))
