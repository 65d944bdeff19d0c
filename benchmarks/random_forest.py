"""What interactive pixel classifiers do: a random forest on filter responses of every pixel.

The features are those of ilastik and Labkit: smoothed grey value, Laplacian, gradient magnitude,
eigenvalues of the structure tensor and of the Hessian, at several scales. Such a program is given
a few strokes; here the forest gets pixels from all over the dense labels, the best that it can hope
for.

Needs scikit-learn, which nothing but this benchmark uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from paper_data import foreground
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.ops.normalize import percentile_normalize

# Widths of the Gaussians in pixels: ilastik's choice, without its 0.3, which is the image itself.
SIGMAS = (0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
_TREES = 100
_PIXELS = 100_000
_ROWS_AT_ONCE = 128


class RandomForest:
    """A forest that tells foreground from background.

    It learns from 100,000 pixels at the most: the same number from every image and, where an image
    has enough, half of these foreground and half background, as strokes of a careful user would be.
    So a probability of 0.5 is not where foreground becomes the likelier class; the threshold is
    chosen on validation images anyway.

    Parameters
    ----------
    labelled
        What to learn from.
    seed
        Draws the pixels and the trees.
    cores
        Processor cores to use.
    """

    def __init__(self, labelled: LabelledSet, seed: int = 0, cores: int = 2) -> None:
        rng = np.random.default_rng(seed)
        count = _PIXELS // len(labelled.images)
        rows, classes = [], []
        for image in labelled.images:
            truth = foreground(image, labelled.kind).ravel()
            chosen = _balanced(truth, image, count, rng)
            rows.append(pixel_features(image.image).reshape(len(truth), -1)[chosen])
            classes.append(truth[chosen])
        self._forest = RandomForestClassifier(_TREES, n_jobs=cores, random_state=seed)
        self._forest.fit(np.concatenate(rows), np.concatenate(classes))

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return the share of trees that call a pixel foreground.

        Parameters
        ----------
        image
            Shape (Y, X) or (Y, X, C).

        Returns
        -------
        ndarray of float32, shape (Y, X)
            Between 0 and 1.
        """
        features = pixel_features(image)
        probability = np.empty(image.shape[:2], np.float32)
        for start in range(0, len(probability), _ROWS_AT_ONCE):
            rows = features[start : start + _ROWS_AT_ONCE]
            votes = self._forest.predict_proba(rows.reshape(-1, rows.shape[-1]))[:, 1]
            probability[start : start + _ROWS_AT_ONCE] = votes.reshape(rows.shape[:2])
        return probability


def pixel_features(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the filter responses around every pixel.

    Parameters
    ----------
    image
        Shape (Y, X) or (Y, X, C); brought to one scale by its percentiles, as for our networks.

    Returns
    -------
    ndarray of float32, shape (Y, X, F)
        F = C (1 + 7 scales): the grey value and, at every scale, Gaussian, Laplacian, gradient
        magnitude, and the larger and the smaller eigenvalue of structure tensor and Hessian.
    """
    channels = np.moveaxis(np.atleast_3d(image), -1, 0)
    found = []
    for channel in percentile_normalize(channels):
        found.append(channel)
        for sigma in SIGMAS:
            found += _responses(channel, sigma)
    return np.stack(found, axis=-1)


def _responses(channel: NDArray[np.float32], sigma: float) -> list[NDArray[np.float32]]:
    def derivative(y: int, x: int) -> NDArray[np.float32]:
        response: NDArray[np.float32] = ndimage.gaussian_filter(
            channel, sigma, order=(y, x), mode="mirror"
        )
        return response

    gy, gx = derivative(1, 0), derivative(0, 1)
    hessian = derivative(2, 0), derivative(1, 1), derivative(0, 2)
    # ilastik integrates the structure tensor over half the width of its gradients.
    tensor = (
        ndimage.gaussian_filter(product, sigma / 2, mode="mirror")
        for product in (gy * gy, gy * gx, gx * gx)
    )
    return [
        derivative(0, 0),
        hessian[0] + hessian[2],
        np.hypot(gy, gx),
        *_eigenvalues(*tensor),
        *_eigenvalues(*hessian),
    ]


def _eigenvalues(
    yy: NDArray[np.float32], yx: NDArray[np.float32], xx: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the larger and the smaller eigenvalue of a symmetric 2 x 2 matrix in every pixel."""
    middle = (yy + xx) / 2
    apart = np.hypot((yy - xx) / 2, yx)
    return middle + apart, middle - apart


def _balanced(
    truth: NDArray[np.bool_], image: LabelledImage, count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw pixels, half of them foreground, as far as there are so many; none is drawn twice."""
    usable = np.ones(truth.shape, bool) if image.valid is None else image.valid.ravel()
    drawn = []
    for is_foreground in (True, False):
        pixels = np.flatnonzero((truth == is_foreground) & usable)
        drawn.append(rng.choice(pixels, min(count // 2, len(pixels)), replace=False))
    return np.concatenate(drawn)
