"""Which channels of an image, or of several layers, a model is shown, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_unet.engine.image import ImageKind

_COLOURS: Final = ("red", "green", "blue")
#: What an axis of channels is called.
CHANNEL_LABELS: Final = ("c", "channel", "channels")


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A grey image of the shape of the image: a layer, a colour of it, or a part of it.

    Attributes
    ----------
    layer
        The layer.
    number
        Which colour of an RGB layer, or where along its axis of channels; None: it is one channel.
    axis
        That axis of the layer; None if `number` is a colour, or None.
    """

    layer: Image
    number: int | None = None
    axis: int | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Channel):
            return NotImplemented
        where = (self.number, self.axis) == (other.number, other.axis)
        return self.layer is other.layer and where

    def __hash__(self) -> int:
        return hash((id(self.layer), self.number, self.axis))

    @property
    def name(self) -> str:
        """Of the layer, and which part of it."""
        if self.number is None:
            return str(self.layer.name)
        part = f"channel {self.number + 1}" if self.axis is not None else _COLOURS[self.number]
        return f"{self.layer.name}, {part}"

    def pixels(self, level: int) -> Any:
        """Return an array of its own, which is read when it is indexed; `level` of a pyramid."""
        data = self.layer.data[level] if self.layer.multiscale else self.layer.data
        if self.number is None:
            return data
        return OneChannel(data, data.ndim - 1 if self.axis is None else self.axis, self.number)


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """What of an image is shown to a model.

    Attributes
    ----------
    axis
        The axis of the layer that holds channels; None: it has none, or its colours.
    chosen
        In the model's order; empty: the image as it is, with all channels of `axis`.
    """

    axis: int | None = None
    chosen: tuple[Channel, ...] = ()

    def channels(self, layer: Image) -> tuple[Channel, ...]:
        """Return them one by one; empty for an image as it is, grey or of colours."""
        if self.chosen or self.axis is None:
            return self.chosen
        return tuple(Channel(layer, n, self.axis) for n in range(level_shape(layer)[self.axis]))


class OneChannel:
    """One position along an axis of an array: an array of the other axes, read when indexed.

    Parameters
    ----------
    data
        Anything that can be indexed.
    axis, number
        The axis, and the position.
    """

    def __init__(self, data: Any, axis: int, number: int) -> None:
        self._data, self._axis, self._number = data, axis, number
        self.shape: tuple[int, ...] = tuple(n for a, n in enumerate(data.shape) if a != axis)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(data.dtype)

    def __getitem__(self, index: tuple[int, ...]) -> Any:
        whole: list[Any] = [*index, *[slice(None)] * (self.ndim - len(index))]
        whole.insert(self._axis, self._number)
        return self._data[tuple(whole)]


class Stacked:
    """Arrays of one shape as the channels of an image, the last axis; read when indexed.

    Parameters
    ----------
    channels
        Anything that can be indexed, at least one.
    """

    def __init__(self, channels: Sequence[Any]) -> None:
        self._channels = tuple(channels)
        self.shape: tuple[int, ...] = (*channels[0].shape, len(channels))
        self.ndim = len(self.shape)
        self.dtype = np.result_type(*(channel.dtype for channel in channels))

    def __getitem__(self, index: tuple[int, ...]) -> NDArray[Any]:
        return np.stack([np.asarray(channel[index]) for channel in self._channels], axis=-1)


def level_shape(layer: Image, level: int = 0) -> tuple[int, ...]:
    """Return all axes of a layer but that of colours."""
    data = layer.data[level] if layer.multiscale else layer.data
    return tuple(int(length) for length in data.shape[: layer.ndim])


def candidates(layer: Image, choice: ChannelChoice, layers: Iterable[Image]) -> tuple[Channel, ...]:
    """Return everything that can be a channel beside the pixels of an image.

    Parameters
    ----------
    layer, choice
        The image, and which of its axes holds channels.
    layers
        Other image layers.
    """
    own = ChannelChoice(choice.axis).channels(layer) or _parts(layer)
    shape = _without(level_shape(layer), choice.axis)
    found = [*own]
    for other in layers:
        alike = other is not layer and other.multiscale == layer.multiscale
        if alike and level_shape(other) == shape and _same_place(other, layer, choice.axis):
            found += _parts(other)
    return tuple(found)


def _parts(layer: Image) -> tuple[Channel, ...]:
    if layer.rgb:
        return tuple(Channel(layer, number) for number in range(len(_COLOURS)))
    return (Channel(layer),)


def _without(values: Sequence[Any], axis: int | None) -> tuple[Any, ...]:
    return tuple(value for number, value in enumerate(values) if number != axis)


def _same_place(first: Image, second: Image, axis: int | None) -> bool:
    """Whether pixels of `first` are pixels of `second`, of which `axis` does not count."""
    return all(
        np.allclose(getattr(first, name), _without(getattr(second, name), axis))
        for name in ("scale", "translate")
    )


def usual_choice(layer: Image, kind: ImageKind | None, layers: Sequence[Image]) -> ChannelChoice:
    """Choose the channels that a model takes, if there is only one way to do it.

    Parameters
    ----------
    layer
        The image.
    kind
        What the model takes; None if it takes whatever comes.
    layers
        All image layers, of which those that are channels of the image are taken together.

    Returns
    -------
    ChannelChoice
        Without any channel if the image as it is fits, or nothing does.
    """
    if kind is None:
        return ChannelChoice()
    axis = _axis(layer, kind)
    if kind.channels == plain_count(layer) and axis is None:
        return ChannelChoice()
    if axis is not None:
        fits = level_shape(layer)[axis] == kind.channels
        return ChannelChoice(axis, ChannelChoice(axis).channels(layer) if fits else ())
    together = list(candidates(layer, ChannelChoice(), layers))
    together.sort(key=lambda channel: layers.index(channel.layer))
    named = _by_name(together, kind.names)
    if named is None and len(together) != kind.channels:
        return ChannelChoice()
    return ChannelChoice(None, tuple(named or together))


def _by_name(found: Sequence[Channel], names: Sequence[str]) -> list[Channel] | None:
    """Bring channels into the order of a model's names; None if they do not bear them."""
    ordered = []
    for name in names:
        bearing = [each for each in found if str(each.layer.name).rsplit(": ", 1)[-1] == name]
        if len(bearing) != 1:
            return None
        ordered += bearing
    return ordered or None


def _axis(layer: Image, kind: ImageKind) -> int | None:
    """Return the axis that holds channels: the one that is labelled so, or has their number."""
    labels = [str(label).lower() for label in layer.axis_labels[:-2]]
    labelled = [axis for axis, label in enumerate(labels) if label in CHANNEL_LABELS]
    if labelled and (kind.channels > 1 or kind.ndim > 2):
        return labelled[0]
    if layer.rgb or kind.channels == 1 or layer.ndim <= kind.ndim:
        return None
    lengths = level_shape(layer)[:-2]
    alike = [axis for axis, length in enumerate(lengths) if length == kind.channels]
    return alike[0] if len(alike) == 1 else None


def plain_count(layer: Image) -> int:
    """Return how many channels a network sees of an image as it is."""
    return len(_COLOURS) if layer.rgb else 1


def in_words(count: int) -> str:
    """Return a number of channels in words."""
    return {1: "one channel (grey)", 3: "three channels (RGB)"}.get(count, f"{count} channels")
