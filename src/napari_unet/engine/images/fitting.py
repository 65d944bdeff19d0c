"""Does an image fit the model: which channels it takes, and how large its pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from napari_unet.engine.images.axes import ImageInfo, PixelSize, unit_ratio
from napari_unet.ops.errors import InputError

#: Each channel is an image of its own.
EACH: Final = "each"
# Objects of one kind differ by more than this among themselves.
_NOTEWORTHY: Final = 0.1
# Interpolating for less than this blurs more than it mends.
_WORTH_RESCALING: Final = 0.02
# A larger factor is a wrong unit and not a magnification.
_LARGEST_FACTOR: Final = 16.0

_COUNTS: Final = {1: "one channel (grey)", 3: "three channels (RGB)"}


def choose_channels(
    info: ImageInfo, wanted: Sequence[str], in_channels: int, learned: Sequence[str] = ()
) -> list[tuple[int, ...]]:
    """Choose the channels of an image that a model is to see.

    Parameters
    ----------
    info
        The image.
    wanted
        Names or numbers (from 1) in the model's order; "each" takes every channel as an image of
        its own; empty takes all if that fits.
    in_channels
        How many the model takes.
    learned
        Names of the channels that the model learned on, in its order.

    Returns
    -------
    list of tuple of int
        Channels from 0, one tuple for each answer that is wanted.

    Raises
    ------
    InputError
        If they do not fit the model, or there is no such channel.
    """
    count = info.channel_count
    if list(wanted) == [EACH]:
        if in_channels != 1:
            raise InputError(
                f"the model takes {_channels(in_channels)} at once; choose that many with --channel"
            )
        return [(channel,) for channel in range(count)]
    if wanted:
        chosen = tuple(_find_channel(info, name) for name in wanted)
        if len(chosen) != in_channels:
            raise InputError(
                f"the model takes {_channels(in_channels)}, but {len(chosen)} are chosen; give "
                f"--channel {in_channels} times"
            )
        return [chosen]
    if count != in_channels:
        raise InputError(_unfitting(info, in_channels))
    if learned and set(learned) == set(info.channels) and len(set(learned)) == count:
        return [tuple(info.channels.index(name) for name in learned)]
    return [tuple(range(count))]


def _channels(count: int) -> str:
    return _COUNTS.get(count, f"{count} channels")


def _find_channel(info: ImageInfo, name: str) -> int:
    if name in info.channels:
        return info.channels.index(name)
    if name.isdecimal() and 1 <= int(name) <= info.channel_count:
        return int(name) - 1
    raise InputError(f"{info.path} has no channel {name!r}; it has {_offered(info)}")


def _offered(info: ImageInfo) -> str:
    if len(info.channels) == info.channel_count:
        return ", ".join(f"{i} ({name})" for i, name in enumerate(info.channels, start=1))
    return f"1 to {info.channel_count}" if info.channel_count > 1 else "1 alone"


def _unfitting(info: ImageInfo, in_channels: int) -> str:
    model = f"the model takes {_channels(in_channels)}"
    if info.rgb:
        return (
            f"{info.path} is RGB, but {model}; convert the image to grey, or choose one "
            "colour with --channel 1, 2 or 3"
        )
    held = "1 channel" if info.channel_count == 1 else f"{info.channel_count} channels"
    if info.channel_count < in_channels:
        return f"{info.path} has {held}, but {model}; choose a matching image or another model"
    each = ", or predict every channel by itself with --channel each" if in_channels == 1 else ""
    times = "" if in_channels == 1 else f", {in_channels} times in the model's order"
    return (
        f"{info.path} has {held}: {_offered(info)}, but {model}; choose with --channel{times}{each}"
    )


def scale_factors(image: PixelSize, model: PixelSize) -> tuple[float, float] | None:
    """Return by how much an image must be enlarged, in height and width, to look like the model's.

    None if the units cannot be compared.
    """
    ratio = unit_ratio(image.unit, model.unit)
    if ratio is None:
        return None
    return image.height * ratio / model.height, image.width * ratio / model.width


def common_size(sizes: Sequence[PixelSize | None]) -> PixelSize | None:
    """Return the first of many pixel sizes if the others are about the same, else None."""
    first = sizes[0] if sizes else None
    if first is None:
        return None
    for size in sizes[1:]:
        factors = None if size is None else scale_factors(size, first)
        if factors is None or any(abs(factor - 1) > _NOTEWORTHY for factor in factors):
            return None
    return first


def rescaling(
    info: ImageInfo, model: PixelSize | None, wanted: bool
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Decide whether an image is rescaled to the pixels that a model learned on.

    Returns
    -------
    tuple
        Factors for height and width, None to leave it alone; notes for the user.

    Raises
    ------
    InputError
        If rescaling is wanted and a pixel size is not known, or the two have nothing in common.
    """
    image = info.pixel_size
    if model is None:
        if wanted:
            raise InputError(
                "the model does not say the size of the pixels that it learned on; give it with "
                "--model-pixel-size, or leave out --rescale"
            )
        return None, ()
    if image is None:
        if wanted:
            raise InputError(
                f"{info.path} does not say its pixel size; give it with --pixel-size, or leave out "
                "--rescale"
            )
        return None, (
            f"the model learned on pixels of {show_size(model)}, and the image does not say the "
            "size of its own; give it with --pixel-size",
        )
    factors = scale_factors(image, model)
    if factors is None or any(not 1 / _LARGEST_FACTOR <= f <= _LARGEST_FACTOR for f in factors):
        text = (
            f"{info.path} has pixels of {show_size(image)} and the model learned on "
            f"{show_size(model)}, which cannot be compared; correct them with --pixel-size"
        )
        if wanted:
            raise InputError(text)
        return None, (text,)
    if wanted:
        off = any(abs(factor - 1) > _WORTH_RESCALING for factor in factors)
        return (factors if off else None), ()
    if (difference := size_difference(image, model)) is None:
        return None, ()
    return None, (
        f"{difference}; --rescale brings the image to the model's size and the answer back",
    )


def size_difference(image: PixelSize, model: PixelSize) -> str | None:
    """Say how pixel sizes differ, if they can be compared and differ by more than a tenth."""
    factors = scale_factors(image, model)
    if factors is None or all(abs(factor - 1) <= _NOTEWORTHY for factor in factors):
        return None
    return (
        f"the image has pixels of {show_size(image)}, the model learned on pixels of "
        f"{show_size(model)}"
    )


def show_size(size: PixelSize) -> str:
    """Return a pixel size in words."""
    if abs(size.height / size.width - 1) < 1e-3:
        return f"{size.width:.4g} {size.unit or ''}".strip()
    return f"{size.height:.4g} x {size.width:.4g} {size.unit or ''}".strip()
