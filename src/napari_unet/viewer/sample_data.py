"""The entries of File > Open Sample > U-Net."""

from __future__ import annotations

from typing import Any

from napari_unet.engine.samples import find_sample

#: Layers as napari takes them from plugins: data, keywords, kind of layer.
LayerTuples = list[tuple[Any, dict[str, Any], str]]


def sample_layers(name: str) -> LayerTuples:
    """Return a sample as the one image layer that napari adds.

    The strokes stay out: the user paints, and the first image is not hidden behind a drawing.

    Parameters
    ----------
    name
        A name in `napari_unet.engine.samples.SAMPLES`.

    Raises
    ------
    InputError
        If there is no such sample.
    """
    image = find_sample(name).load()
    return [(image, {"name": name, "rgb": image.ndim == 3}, "image")]


def open_ihc() -> LayerTuples:
    """Return the immunohistochemistry image, colour."""
    return sample_layers("ihc")


def open_cells() -> LayerTuples:
    """Return the drawn image of touching cells, grey."""
    return sample_layers("cells")


def open_cell() -> LayerTuples:
    """Return the image of a single cell, grey."""
    return sample_layers("cell")


def open_coins() -> LayerTuples:
    """Return the image of coins, grey."""
    return sample_layers("coins")
