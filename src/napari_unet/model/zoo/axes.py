"""The axes of a package's tensors, in the two ways in which packages write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from napari_unet.model.zoo.fields import items, number, table, text, unexpected, whole
from napari_unet.ops.errors import InputError

Kind = Literal["batch", "channel", "space", "time", "index"]
#: Axes of images, from the slowest on.
SPACE: Final = ("z", "y", "x")
_LONGEST_NAME: Final = 100
_MADE_UP: Final = re.compile(
    r"(channel|ch|c|input|raw|raw_intensity|output|probability|prediction|mask)?[ _-]?[0-9]*",
    re.IGNORECASE,
)
# Letters of format 0.4.
_LETTERS: Mapping[str, tuple[Kind, str]] = {
    "b": ("batch", "batch"),
    "c": ("channel", "channel"),
    "i": ("index", "index"),
    "t": ("time", "time"),
    "z": ("space", "z"),
    "y": ("space", "y"),
    "x": ("space", "x"),
}


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a tensor.

    Attributes
    ----------
    kind
        What it is.
    name
        "batch", "channel", "z", "y", "x", ...
    size
        The smallest possible size.
    step
        By how much it may grow; 0 if it is fixed.
    lost
        Of an answer: pixels on each side by which it is smaller than the input.
    halo
        Of an answer: pixels on each side that are to be cut off.
    labels
        Of channels: what each is called; empty if nobody named them.
    """

    kind: Kind
    name: str
    size: int
    step: int = 0
    lost: int = 0
    halo: int = 0
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it for people: "y (64 + n x 16)", "channel (nuclei, border)"."""
        if self.kind == "batch":
            return self.name
        sizes = f"{self.size} + n x {self.step}" if self.step else f"{self.size}"
        return f"{self.name} ({', '.join(self.labels) or sizes})"

    def size_for(self, wanted: int) -> int:
        """Return the smallest possible size of at least `wanted`, or the largest there is."""
        if not self.step:
            return self.size
        return self.size + -(-max(wanted - self.size, 0) // self.step) * self.step


def input_axes(tensor: Mapping[str, Any], what: str) -> tuple[Axis, ...]:
    """Read the axes of an input.

    Raises
    ------
    InputError
        If they are missing or not understood.
    """
    axes = tensor.get("axes")
    if isinstance(axes, str):
        return _checked(_letter_inputs(axes, tensor, what), what)
    found: list[Axis] = []
    references: list[tuple[int, str]] = []
    for entry in items(axes, f"axes of {what}"):
        kind, name, values = _entry(entry, what)
        size = values.get("size", 1)
        if kind == "batch":
            found.append(Axis("batch", name, 1))
        elif kind == "channel":
            found.append(_channel_axis(name, values, what))
        elif isinstance(size, Mapping) and "axis_id" in size:
            references.append((len(found), text(size["axis_id"], "size")))
            found.append(Axis(kind, name, 1))
        else:
            found.append(Axis(kind, name, *_size(size, what)))
    for place, other in references:  # as long as another axis of the same tensor
        like = [axis for axis in found if axis.name == other]
        if not like:
            raise unexpected(f"a size of {what}", other, "the size of an axis of its own")
        found[place] = replace(found[place], size=like[0].size, step=like[0].step)
    return _checked(found, what)


def output_axes(
    tensor: Mapping[str, Any], inputs: Sequence[Axis], what: str, scales: Mapping[str, float]
) -> tuple[Axis, ...]:
    """Read the axes of an answer.

    Parameters
    ----------
    tensor
        Its description.
    inputs
        The axes of the input.
    what
        Its name, for errors.
    scales
        Pixel sizes of the input by axis, see `axis_scales`.

    Raises
    ------
    InputError
        If they are not understood, or the answer has another resolution than the input.
    """
    axes = tensor.get("axes")
    if isinstance(axes, str):
        return _checked(_letter_outputs(axes, tensor, inputs, what), what)
    before = {axis.name: axis for axis in inputs}
    found = []
    for entry in items(axes, f"axes of {what}"):
        kind, name, values = _entry(entry, what)
        if kind == "batch":
            found.append(Axis("batch", name, 1))
            continue
        if kind == "channel":
            found.append(_channel_axis(name, values, what))
            continue
        halo = whole(values.get("halo", 0), f"halo of {what}", high=4096)
        size = values.get("size", 1)
        like = before.get(name)
        if like is None:
            found.append(Axis(kind, name, *_size(size, what), halo=halo))
            continue
        if isinstance(size, Mapping) and "axis_id" in size:
            offset = whole(size.get("offset", 0), f"offset of {what}", low=-(2**16), high=0)
        elif isinstance(size, int) and not like.step:
            offset = size - like.size
        else:
            raise unexpected(f"size {name} of {what}", size, "that of the input's axis")
        if number(values.get("scale", 1), "scale") != scales.get(name, 1.0):
            raise _other_resolution(what)
        found.append(replace(like, kind=kind, lost=_lost(offset, what), halo=halo))
    return _checked(found, what)


def axis_scales(tensor: Mapping[str, Any]) -> dict[str, float]:
    """Return the pixel size along each axis of an input; 1 where none is given."""
    axes = tensor.get("axes")
    if not isinstance(axes, list):
        return {}
    entries = (_entry(entry, "input") for entry in axes)
    return {name: number(values.get("scale", 1), "scale") for _, name, values in entries}


def plane_pixel(tensor: Mapping[str, Any]) -> tuple[float, float, str] | None:
    """Return height and width of an input's pixels and their unit; None if they are not told."""
    axes = tensor.get("axes")
    if not isinstance(axes, list):
        return None
    found = {name: values for _, name, values in (_entry(entry, "input") for entry in axes)}
    rows, columns = found.get("y", {}), found.get("x", {})
    unit = text(columns.get("unit"), "unit")
    if not unit or unit != text(rows.get("unit"), "unit"):
        return None
    height, width = (number(axis.get("scale", 1), "scale") for axis in (rows, columns))
    return (height, width, unit[:40]) if height > 0 and width > 0 else None


def _entry(entry: Any, what: str) -> tuple[Kind, str, Mapping[str, Any]]:
    values = table(entry, f"an axis of {what}")
    kind = text(values.get("type"), "type of an axis")
    if kind not in ("batch", "channel", "space", "time", "index"):
        raise unexpected(f"an axis of {what}", kind, "batch, channel, space, time or index")
    usual = "x" if kind == "space" else kind
    name = text(values.get("id", usual), "id of an axis")
    return kind, name, values  # type: ignore[return-value]


def _size(size: Any, what: str) -> tuple[int, int]:
    """Return minimum and step."""
    if isinstance(size, Mapping):
        if "min" not in size or "step" not in size:
            raise unexpected(f"a size of {what}", dict(size), "a minimum and a step")
        return (
            whole(size["min"], f"minimum of {what}", low=1),
            whole(size["step"], f"step of {what}"),
        )
    return whole(size, f"a size of {what}", low=1), 0


def _channels(values: Mapping[str, Any], what: str) -> int:
    names = values.get("channel_names", values.get("size", ["channel"]))
    if isinstance(names, list):
        return whole(len(names), f"channels of {what}", low=1, high=1024)
    return whole(values.get("size", 1), f"channels of {what}", low=1, high=1024)


def _channel_axis(name: str, values: Mapping[str, Any], what: str) -> Axis:
    count, named = _channels(values, what), values.get("channel_names")
    if not isinstance(named, list):
        return Axis("channel", name, count)
    labels = tuple(text(each, f"a channel of {what}").strip()[:_LONGEST_NAME] for each in named)
    # Those that writers make up say nothing, and would be taken for names of stains.
    is_told = len(set(labels)) == count and not all(_MADE_UP.fullmatch(each) for each in labels)
    return Axis("channel", name, count, labels=labels if is_told and all(labels) else ())


def _lost(offset: int, what: str) -> int:
    if offset > 0 or offset % 2:
        raise _other_resolution(what)
    return -offset // 2


def _other_resolution(what: str) -> InputError:
    return InputError(
        f"{what} of the package has another resolution or size than the image, which this program "
        "does not handle; choose a model that answers pixel by pixel"
    )


def _checked(axes: Sequence[Axis], what: str) -> tuple[Axis, ...]:
    names = [axis.name for axis in axes]
    if len(set(names)) != len(names) or not 1 <= len(names) <= 7:
        raise unexpected(f"axes of {what}", names, "up to seven different ones")
    for axis in axes:
        if axis.kind == "space" and axis.name not in SPACE:
            raise unexpected(f"an axis of {what}", axis.name, "z, y or x")
        if axis.kind in ("time", "index") and axis.size > 1:
            raise InputError(
                f"{what} of the package needs several planes along {axis.name}, which this program "
                "does not give it; choose another model"
            )
    return tuple(axes)


# ---------------------------------------------------------------------------- format 0.4


def _letter_inputs(letters: str, tensor: Mapping[str, Any], what: str) -> list[Axis]:
    kinds = _kinds(letters, what)
    shape = tensor.get("shape")
    if isinstance(shape, Mapping):
        sizes = items(shape.get("min"), f"minimum of {what}")
        steps = items(shape.get("step"), f"step of {what}")
    else:
        sizes = items(shape, f"shape of {what}")
        steps = [0] * len(sizes)
    if not len(kinds) == len(sizes) == len(steps):
        raise unexpected(f"shape of {what}", shape, f"{len(kinds)} sizes")
    return [
        Axis(
            kind,
            name,
            whole(size, f"a size of {what}", low=1),
            0 if kind in ("batch", "channel") else whole(step, f"a step of {what}"),
        )
        for (kind, name), size, step in zip(kinds, sizes, steps, strict=True)
    ]


def _letter_outputs(
    letters: str, tensor: Mapping[str, Any], inputs: Sequence[Axis], what: str
) -> list[Axis]:
    kinds = _kinds(letters, what)
    shape = tensor.get("shape")
    before = {axis.name: axis for axis in inputs}
    halos = items(tensor.get("halo"), f"halo of {what}") or [0] * len(kinds)
    if isinstance(shape, Mapping):
        scales = items(shape.get("scale"), f"scale of {what}")
        offsets = items(shape.get("offset"), f"offset of {what}")
    else:  # of fixed sizes
        sizes = items(shape, f"shape of {what}")
        scales, offsets = [1] * len(sizes), list[Any]()
        for (_, name), size in zip(kinds, sizes, strict=False):
            like = before.get(name)
            offsets.append((whole(size, "size", low=1) - (like.size if like else 0)) / 2)
    if not len(kinds) == len(scales) == len(offsets) == len(halos):
        raise unexpected(f"shape of {what}", shape, f"{len(kinds)} sizes")
    found = []
    for (kind, name), scale, offset, halo in zip(kinds, scales, offsets, halos, strict=True):
        like = before.get(name, Axis(kind, name, 0))
        factor = number(scale if scale is not None else 0, f"scale of {what}")
        both = number(offset, f"offset of {what}") * 2
        if kind == "space":
            if factor != 1 or not both.is_integer():
                raise _other_resolution(what)
            lost = _lost(int(both), what)
            found.append(replace(like, lost=lost, halo=whole(halo, f"halo of {what}", high=4096)))
        else:
            size = whole(like.size * factor + both, f"a size of {what}", low=1)
            found.append(Axis(kind, name, size))
    return found


def _kinds(letters: str, what: str) -> list[tuple[Kind, str]]:
    if not set(letters) <= set(_LETTERS) or len(letters) > 7:
        raise unexpected(f"axes of {what}", letters, "letters out of b, c, i, t, z, y, x")
    return [_LETTERS[letter] for letter in letters]
