"""What is told of a model to the people who get it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import numbered_classes

#: The papers on which every model of this program rests.
PAPERS: Final = (
    {
        "text": "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image "
        "Segmentation. MICCAI 2015",
        "doi": "10.1007/978-3-319-24574-4_28",
    },
)
STACK_PAPER: Final = {
    "text": "Cicek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net: Learning Dense Volumetric "
    "Segmentation from Sparse Annotation. MICCAI 2016",
    "doi": "10.1007/978-3-319-46723-8_49",
}
_NAME = re.compile(r"[A-Za-z0-9_+\- ()]{5,128}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is told of a model.

    Attributes
    ----------
    name
        5 to 128 letters, digits, spaces and ``_+-()``.
    summary
        A sentence or two, up to 1024 characters.
    authors
        Their names.
    licence
        An SPDX identifier, such as "CC-BY-4.0"; empty says nothing.
    tags
        Further words to find it by.
    citations
        DOIs to cite beside the paper of the network.
    class_names
        Of the channels of the answer, background first; empty numbers them.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    name: str = "napari-unet model"
    summary: str = "A U-Net that learned to segment microscope images from brush strokes."
    authors: tuple[str, ...] = ()
    licence: str = ""
    tags: tuple[str, ...] = ()
    citations: tuple[str, ...] = ()
    class_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"{self.name[:60]!r} is no name for a model; use 5 to 128 letters, digits, spaces "
                "and _+-()"
            )
        if len(self.summary) > 1024:
            raise InputError("the summary has more than 1024 characters; shorten it")
        for author in self.authors:
            if not author.strip() or "/" in author or "\\" in author:
                raise InputError(f"{author!r} is no author's name; leave out slashes")
        for doi in self.citations:
            if not re.fullmatch(r"10\.[0-9]{4}.+", doi):
                raise InputError(f"{doi[:60]!r} is no DOI; give it as 10.1234/abc")

    def names_of(self, classes: int) -> tuple[str, ...]:
        """Return the names of so many classes.

        Raises
        ------
        InputError
            If names are given, but another number of them, or one twice.
        """
        if not self.class_names:
            return numbered_classes(classes)
        if len(self.class_names) != classes or len(set(self.class_names)) != classes:
            raise InputError(
                f"{len(self.class_names)} class names for {classes} classes; give {classes} "
                "different ones, background first"
            )
        return self.class_names

    def to_dict(self, ndim: int) -> dict[str, Any]:
        """Return it in the words of a package's description."""
        papers: tuple[Mapping[str, str], ...] = PAPERS if ndim == 2 else (*PAPERS, STACK_PAPER)
        further = ({"text": "Please cite this too", "doi": doi} for doi in self.citations)
        values: dict[str, Any] = {
            "name": self.name,
            "description": self.summary,
            "authors": [{"name": author} for author in self.authors],
            "cite": [*map(dict, papers), *further],
            "tags": ["unet", f"{ndim}d", "segmentation", "napari-unet", *self.tags],
        }
        if self.licence:
            values["license"] = self.licence
        return values

    def readme(self, ndim: int, classes: int, notes: str) -> str:
        """Return the package's documentation, Markdown."""
        kind = "images" if ndim == 2 else "stacks"
        names = "\n".join(f"- channel {n}: {name}" for n, name in enumerate(self.names_of(classes)))
        return f"""# {self.name}

{self.summary}

A U-Net (Ronneberger et al., MICCAI 2015) for {ndim}D {kind}, made with napari-unet. It answers with
the probability of each class at every pixel:

{names}

## How to use it

Every channel of the whole image is scaled so that its percentiles 1 and 99.8 become 0 and 1. Large
images are cut into tiles with the halo that the description gives; the answer does not depend on
how they are cut. The network itself mirrors the image at its border.

{notes}

The file `model.safetensors` holds the same network for napari-unet, where it can learn on.

## Validation

The test input gives the test output (`bioimageio test`). How well the model does on images of yours
is best measured on some that you label by hand: `napari-unet evaluate`.
"""
