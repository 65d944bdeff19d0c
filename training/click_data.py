"""Images and objects that the click network learns from: drawn scenes and free photographs.

Photographs lie in the folder that NAPARI_UNET_DATA names; only sets whose licence allows bundled
weights take part, and of each a part is kept back for `benchmarks/clicks.py`: every fourth image,
or the right half of an image, or the last planes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pool import Pool
from scipy import ndimage
from tifffile import imread

from napari_unet.engine.files import read_image
from napari_unet.model.windows import Pyramid
from napari_unet.ops.images import to_channels_first
from napari_unet.ops.normalize import percentile_normalize

# Objects of fewer pixels are not asked for.
_SMALLEST = 12


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """An image with outlined objects.

    Attributes
    ----------
    image
        Shape (1 or 3, Y, X), float32, scaled by its percentiles.
    labels
        Shape (Y, X), int32; 0 is no object.
    boxes
        Number, rows and columns of each object.
    pyramid
        The image at all scales.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    boxes: tuple[tuple[int, tuple[slice, slice]], ...]
    pyramid: Pyramid

    @classmethod
    def of(cls, image: NDArray[np.generic], labels: NDArray[np.generic]) -> Objects:
        """Find the objects of an image of shape (Y, X) or (Y, X, 3)."""
        scaled = percentile_normalize(to_channels_first(image))
        numbered = labels.astype(np.int32)
        areas = np.bincount(numbered.ravel())
        found = enumerate(ndimage.find_objects(numbered), start=1)
        boxes = tuple((n, box) for n, box in found if box and areas[n] >= _SMALLEST)
        pyramid = Pyramid(torch.from_numpy(scaled).clamp(-0.2, 1.5))
        return cls(scaled, numbered, boxes, pyramid)


class DrawnObjects:
    """Scenes of a pool; now and then their regions are the objects, and not their cells."""

    def __init__(self, pool: Pool, share_of_regions: float) -> None:
        self._pool = pool
        self._share = share_of_regions

    def draw(self, rng: np.random.Generator) -> Objects:
        """Take any scene that has objects."""
        while True:
            scene = self._pool.draw(rng)
            labels = scene.instances
            if rng.random() < self._share:
                labels = _parts(scene.regions, rng)
            image = scene.image
            found = Objects.of(image, labels)
            if found.boxes:
                return found


def _parts(regions: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int32]:
    """Return the connected parts of one region that is neither nearly all nor nearly nothing."""
    shares = np.bincount(regions.ravel()) / regions.size
    possible = [n for n in range(1, len(shares)) if 0.002 < shares[n] < 0.35]
    if not possible:
        return np.zeros(regions.shape, np.int32)
    labels, _ = ndimage.label(regions == rng.choice(possible))
    areas = np.bincount(labels.ravel())
    return np.where((areas < 40)[labels], 0, labels).astype(np.int32)


class PhotographedObjects:
    """The images of one set."""

    def __init__(self, images: list[Objects]) -> None:
        self._images = images

    def draw(self, rng: np.random.Generator) -> Objects:
        """Take any image."""
        return self._images[int(rng.integers(len(self._images)))]


def photographs(folder: Path) -> dict[str, PhotographedObjects]:
    """Read all sets that may train bundled weights, without what is held back."""
    sets = {
        name: [Objects.of(image, labels) for image, labels, kept in read(folder) if not kept]
        for name, read in SETS.items()
    }
    return {
        name: PhotographedObjects([i for i in images if i.boxes]) for name, images in sets.items()
    }


Labelled = tuple[NDArray[np.generic], NDArray[np.generic], bool]


def _dsb2018(folder: Path) -> Iterator[Labelled]:
    for number, path in enumerate(sorted((folder / "dsb2018" / "images").iterdir())):
        masks = folder / "dsb2018" / "masks" / f"{path.stem}.tif"
        yield read_image(path).data, imread(masks), number % 4 == 3


def _axons(folder: Path) -> Iterator[Labelled]:
    for path in sorted((folder / "axon_myelin_em" / "images").iterdir()):
        image = read_image(path).data
        classes = read_image(folder / "axon_myelin_em" / "classes" / path.name).data
        labels, _ = ndimage.label(classes == 2)
        if path.stem != "sem_demo":
            yield image, labels, False
            continue
        middle = image.shape[1] // 2
        yield image[:, :middle], labels[:, :middle], False
        yield image[:, middle:], labels[:, middle:], True


def _chloroplasts(folder: Path) -> Iterator[Labelled]:
    for path in sorted((folder / "chloroplast_em" / "images").iterdir()):
        image = read_image(path).data
        labels = imread(folder / "chloroplast_em" / "masks" / f"{path.stem}.tif")
        middle = image.shape[1] // 2
        yield image[:, :middle], labels[:, :middle], False
        yield image[:, middle:], labels[:, middle:], True


def _stardist(folder: Path) -> Iterator[Labelled]:
    image = imread(folder / "stardist_samples" / "images" / "img2d.tif")
    labels = imread(folder / "stardist_samples" / "masks" / "img2d.tif")
    half = image.shape[1] // 2
    yield image[:, :half], labels[:, :half], False
    yield image[:, half:], labels[:, half:], True


def _ovules(folder: Path) -> Iterator[Labelled]:
    [image_file] = (folder / "plantseg_nuclei3d" / "images").iterdir()
    [mask_file] = (folder / "plantseg_nuclei3d" / "masks").iterdir()
    image, labels = imread(image_file), imread(mask_file)
    for plane in range(0, len(image), 3):
        yield image[plane], labels[plane], plane > 65


#: What is read of each set: images, labels, and whether they are kept back for the benchmark.
SETS = {
    "dsb2018": _dsb2018,
    "axon_myelin_em": _axons,
    "chloroplast_em": _chloroplasts,
    "stardist_samples": _stardist,
    "plantseg_nuclei3d": _ovules,
}
