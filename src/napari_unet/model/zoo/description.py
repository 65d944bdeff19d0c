"""What a bioimage.io package says of its model, read without the package's own code or help.

Source: the bioimage.io model description, formats 0.4 and 0.5
(https://bioimage-io.github.io/spec-bioimage-io/). The library that defines it checks more than it
takes to run a model (a cover that is missing, an author without a name), and downloads what a
description names by its address; so the few fields that matter are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from napari_unet.model.zoo.axes import (
    SPACE,
    Axis,
    axis_scales,
    input_axes,
    output_axes,
    plane_pixel,
)
from napari_unet.model.zoo.container import Container, checked_name
from napari_unet.model.zoo.fields import items, source, table, text, unexpected
from napari_unet.model.zoo.yaml_text import LONGEST_TEXT, parse_yaml
from napari_unet.ops.errors import InputError

#: Names that the description of a package may have.
DESCRIPTIONS: Final = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
#: Under this key of ``config`` our own packages name the file with their weights for learning on.
OWN_KEY: Final = "napari_unet"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of pre- or postprocessing, by its name in the description."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an answer of a model.

    Attributes
    ----------
    name
        Its name in the description.
    axes
        Its axes, in order.
    steps
        Pre- or postprocessing, in order.
    test
        File with a test tensor; empty if there is none.
    pad
        How an input is continued beyond the image, as numpy names it.
    """

    name: str
    axes: tuple[Axis, ...]
    steps: tuple[Step, ...]
    test: str
    pad: str = "reflect"

    @property
    def space(self) -> tuple[Axis, ...]:
        """The axes of space, z before y before x."""
        found = {axis.name: axis for axis in self.axes if axis.kind == "space"}
        return tuple(found[name] for name in SPACE if name in found)

    @property
    def channels(self) -> int:
        """How many channels there are; 1 without such an axis."""
        return next((axis.size for axis in self.axes if axis.kind == "channel"), 1)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What its channels are called; empty if nobody named them."""
        return next((axis.labels for axis in self.axes if axis.kind == "channel"), ())


@dataclass(frozen=True, slots=True)
class Weights:
    """One form of a model's weights: file, checksum, and whether further files belong to it."""

    file: str
    sha256: str = ""
    external: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """What a package says of its model.

    Attributes
    ----------
    name, summary, licence
        For people.
    authors, tags, citations
        For people.
    input, output
        The tensors.
    other_outputs
        Names of further answers, which are not looked at.
    weights
        By format: "onnx", "torchscript", "pytorch_state_dict", ...
    own_weights
        Our own model file in the package; empty if another program made it.
    are_classes
        Whether our own program says that the channels of the answer sum to 1.
    pixel
        Height and width of the pixels that it learned on, and their unit; None if not told.
    folder
        Where in the container the description lies; its files are named from there.
    """

    name: str
    summary: str
    licence: str
    authors: tuple[str, ...]
    tags: tuple[str, ...]
    citations: tuple[str, ...]
    input: Tensor
    output: Tensor
    other_outputs: tuple[str, ...]
    weights: Mapping[str, Weights]
    own_weights: str = ""
    are_classes: bool = False
    pixel: tuple[float, float, str] | None = None
    folder: str = ""

    @property
    def answers_classes(self) -> bool:
        """Whether the channels of the answer are all classes there are, background included."""
        return self.are_classes or "softmax" in (step.name for step in self.output.steps)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, background first; empty if nobody named them."""
        names = self.output.channel_names
        return names if self.answers_classes or not names else ("background", *names)


def find_description(container: Container) -> str | None:
    """Return the name of a package's description; None if there is none."""
    best: tuple[int, int, str] | None = None
    for name in container.names():
        path = PurePosixPath(name)
        usual = path.name in DESCRIPTIONS
        if (usual or path.name.endswith(".bioimageio.yaml")) and len(path.parts) <= 2:
            rank = DESCRIPTIONS.index(path.name) if usual else len(DESCRIPTIONS)
            candidate = (len(path.parts), rank, name)
            best = candidate if best is None else min(best, candidate)
    return None if best is None else best[2]


def read_description(container: Container) -> Description:
    """Read what a package says of its model.

    Raises
    ------
    InputError
        If there is no description, or it is not one of a model that this program can run.
    """
    name = find_description(container)
    if name is None:
        raise InputError(
            f"{container.path} holds no {DESCRIPTIONS[0]} or {DESCRIPTIONS[1]}; choose a "
            "bioimage.io package"
        )
    values = parse_yaml(container.read(name, LONGEST_TEXT), name)
    folder = str(PurePosixPath(name).parent)
    return parse_description(values, "" if folder == "." else folder)


def parse_description(values: Mapping[str, Any], folder: str = "") -> Description:
    """Make a description of the values of its YAML.

    Parameters
    ----------
    values
        The table.
    folder
        Where it lies in the package.

    Raises
    ------
    InputError
        If it is not one of a model that this program can run.
    """
    _check_is_model(values)
    given = _one_input(values)
    outputs = [table(o, "an output") for o in items(values.get("outputs"), "outputs")]
    if not outputs:
        raise unexpected("outputs", [], "at least one")
    tests = [items(values.get(f"test_{end}puts"), "tests") for end in ("in", "out")]
    entry = _tensor(given, input_axes(given, "the input"), "preprocessing", tests[0])
    answer = _tensor(
        outputs[0],
        output_axes(outputs[0], entry.axes, "the answer", axis_scales(given)),
        "postprocessing",
        tests[1],
    )
    if len(entry.space) < 2 or [a.name for a in entry.space] != [a.name for a in answer.space]:
        raise InputError(
            "the package's model does not turn images into images of the same axes; "
            "choose a model for segmentation"
        )
    own = table(table(values.get("config"), "config").get(OWN_KEY), OWN_KEY)
    return Description(
        name=text(values.get("name"), "name")[:200],
        summary=text(values.get("description"), "description"),
        licence=text(values.get("license"), "license"),
        authors=_people(values.get("authors")),
        tags=tuple(text(tag, "a tag") for tag in items(values.get("tags"), "tags")),
        citations=_citations(values.get("cite")),
        input=entry,
        output=answer,
        other_outputs=tuple(_name(each, "output") for each in outputs[1:]),
        weights=_weights(table(values.get("weights"), "weights")),
        own_weights=_checked_source(own.get("weights"), "the weights"),
        pixel=plane_pixel(given),
        are_classes=own.get("answers") == "classes",
        folder=folder,
    )


def _check_is_model(values: Mapping[str, Any]) -> None:
    """Refuse what is in another format, or describes something else."""
    version = text(values.get("format_version"), "format_version")
    if not version.startswith(("0.4", "0.5")):
        raise InputError(
            f"the package is in format {version[:20]!r}, and 0.4 and 0.5 are read; "
            "choose a newer copy of the model"
        )
    if text(values.get("type", "model"), "type") != "model":
        raise InputError(f"the package holds a {text(values['type'], 'type')[:40]}, no model")


def _one_input(values: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = [table(i, "an input") for i in items(values.get("inputs"), "inputs")]
    needed = [each for each in inputs if each.get("optional") is not True]
    if len(needed) != 1 or inputs[0] is not needed[0] or len(inputs) > 1:
        raise InputError(
            f"the package's model takes {len(inputs)} inputs; choose a model that takes one image"
        )
    return needed[0]


def _tensor(values: Mapping[str, Any], axes: tuple[Axis, ...], steps: str, tests: Any) -> Tensor:
    test = values.get("test_tensor", tests[0] if tests else None)
    pad = table(values.get("pad"), "pad").get("mode", "reflect")
    if pad not in ("reflect", "symmetric", "edge", "constant"):
        raise unexpected("pad", pad, "reflect, symmetric, edge or constant")
    return Tensor(
        name=_name(values, "tensor"),
        axes=axes,
        steps=tuple(_step(each, steps) for each in items(values.get(steps), steps)),
        test=_checked_source(test, "the test tensor") if test is not None else "",
        pad=pad,
    )


def _step(value: Any, what: str) -> Step:
    values = table(value, f"a step of {what}")
    name = text(values.get("id", values.get("name")), f"a step of {what}")
    return Step(name, table(values.get("kwargs"), f"kwargs of {name[:40]}"))


def _weights(values: Mapping[str, Any]) -> dict[str, Weights]:
    found = {}
    for name, entry in values.items():
        if entry is None:
            continue
        given = table(entry, f"weights {name[:40]}")
        external = given.get("external_data") is not None
        address = text(table(given, "weights").get("source"), "source of weights")
        # Weights on the internet are no use here, but others beside them may be.
        file = "" if "://" in address else _checked_source(address, "the weights")
        found[str(name)] = Weights(file, text(given.get("sha256"), "sha256"), external)
    return found


def _checked_source(value: Any, what: str) -> str:
    name = source(value, what)
    return checked_name(name) if name else ""


def _name(values: Mapping[str, Any], usual: str) -> str:
    return text(values.get("id", values.get("name", usual)), "name of a tensor")[:80]


def _people(values: Any) -> tuple[str, ...]:
    people = (table(each, "an author") for each in items(values, "authors"))
    return tuple(text(each.get("name"), "name of an author") for each in people)


def _citations(values: Any) -> tuple[str, ...]:
    found = []
    for value in items(values, "cite"):
        given = table(value, "a citation")
        link = text(given.get("doi") or given.get("url"), "doi")
        found.append(" ".join(filter(None, (text(given.get("text"), "a citation"), link))))
    return tuple(found)
