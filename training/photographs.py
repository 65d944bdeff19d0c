"""Freely licensed photographs as scenes, beside the drawn ones.

They lie in the folder that NAPARI_UNET_DATA names; only sets whose licence allows bundled weights
take part, without what is kept back for the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from click_data import SETS
from numpy.typing import NDArray
from pool import Scene
from scipy import ndimage
from skimage.transform import resize

from napari_unet.engine.files import read_image
from napari_unet.ops.images import to_channels_first
from napari_unet.ops.normalize import percentile_normalize

# Of a photograph's pixels to those of a scene: how far apart the objects are is of no meaning.
_SCALES = (0.6, 1.7)


class Photographs:
    """Parts of photographs at any scale.

    Parameters
    ----------
    folder
        Of the sets.
    without
        Names of sets that do not take part, for a starter that is judged on their kind.
    side
        Of a scene, in pixels.
    """

    def __init__(self, folder: Path, without: set[str], side: int = 288) -> None:
        self._side = side
        self._sets: dict[str, list[Scene]] = {}
        for name in (*SETS, "pfc_neurons"):
            if name not in without:
                # One set has stained sections among many more fluorescent nuclei.
                for scene in _scenes(name, folder):
                    kind = "grey" if scene.image.ndim == 2 else "colour"
                    self._sets.setdefault(f"{name}, {kind}", []).append(scene)

    @property
    def names(self) -> list[str]:
        """Of the sets that take part."""
        return list(self._sets)

    def draw(self, rng: np.random.Generator) -> Scene:
        """Take a part of any photograph of any set, enlarged or reduced."""
        scenes = self._sets[self.names[int(rng.integers(len(self._sets)))]]
        scene = scenes[int(rng.integers(len(scenes)))]
        side = round(self._side * np.exp(rng.uniform(*np.log(_SCALES))))
        rows, columns = scene.regions.shape
        missing = [(0, max(0, side - length)) for length in (rows, columns)]
        top, left = (int(rng.integers(0, max(0, n - side) + 1)) for n in (rows, columns))

        def cut(array: NDArray[np.generic], order: int) -> NDArray[np.generic]:
            part = array[top : top + side, left : left + side]
            part = np.pad(part, missing + [(0, 0)] * (part.ndim - 2), mode="symmetric")
            target = (self._side, self._side, *part.shape[2:])
            return resize(part, target, order, preserve_range=True, anti_aliasing=order > 0)

        image = np.rint(cut(scene.image, 1)).astype(np.uint8)
        regions = cut(scene.regions, 0).astype(np.uint8)
        return Scene(image, None, regions, cut(scene.instances, 0).astype(np.int32))


def _scenes(name: str, folder: Path) -> Iterator[Scene]:
    """Read what may be trained on of a set."""
    if name == "pfc_neurons":
        parts = _neurons(folder)
    elif name == "axon_myelin_em":
        parts = _axons(folder)
    else:
        parts = ((i, 1 + (m > 0), m) for i, m, kept in SETS[name](folder) if not kept)
    for image, regions, instances in parts:
        scaled = np.clip(percentile_normalize(to_channels_first(image)), 0, 1)
        grey = (scaled == scaled[:1]).all()
        values = np.rint((scaled[0] if grey else np.moveaxis(scaled, 0, 2)) * 255).astype(np.uint8)
        yield Scene(values, None, regions.astype(np.uint8), instances.astype(np.int32))


_Part = tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]


def _axons(folder: Path) -> Iterator[_Part]:
    """Background, myelin and axons; as in `click_data`, half of one image is kept back."""
    for path in sorted((folder / "axon_myelin_em" / "images").iterdir()):
        image = read_image(path).data
        classes = read_image(folder / "axon_myelin_em" / "classes" / path.name).data
        if path.stem == "sem_demo":
            half = slice(None, image.shape[1] // 2)
            image, classes = image[:, half], classes[:, half]
        instances, _ = ndimage.label(classes == 2)
        yield image, 1 + classes, instances


def _neurons(folder: Path) -> Iterator[_Part]:
    """Background, bodies and processes; every fourth image is kept back."""
    for number, path in enumerate(sorted((folder / "pfc_neurons" / "images").iterdir())):
        if number % 4 == 3:
            continue
        [truth] = (folder / "pfc_neurons" / "semantic").glob(f"{path.stem}.*")
        classes = read_image(truth).data
        values = np.unique(classes)
        regions = 1 + np.searchsorted(values, classes)
        yield read_image(path).data, regions, np.zeros(regions.shape, np.int32)
