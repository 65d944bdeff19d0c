"""Measures of two partitions of the pixels: Rand error, V_rand, V_info.

Sources: Rand, J. Am. Stat. Assoc. 66, 1971; Arganda-Carreras et al., Front. Neuroanat. 9, 2015,
"Crowdsourcing the creation of image segmentation algorithms for connectomics", section "Metrics";
the program of the EM challenge's organisers (Fiji, Trainable Segmentation), for what the papers
leave open: objects are 4-connected, border pixels of the truth are left out, border pixels of the
prediction are objects of one pixel each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse
from skimage import segmentation

from napari_unet.ops.metrics.pixels import same_shape


@dataclass(frozen=True, slots=True)
class RandScores:
    """A score and its two sides, all 0 to 1, more is better.

    Attributes
    ----------
    score
        Harmonic mean of the two (alpha = 0.5).
    split
        Low where objects of the truth were split.
    merge
        Low where objects of the truth were merged.
    """

    score: float
    split: float
    merge: float


def boundary_segments(interior: ArrayLike, thin: bool = False) -> NDArray[np.int32]:
    """Give every 4-connected region of an interior mask a number.

    Parameters
    ----------
    interior
        Shape (Y, X), boolean or 0 and 1; False is the border between objects.
    thin
        Grow the objects into the border by a watershed until a line of about one pixel is left, so
        that the width of the border does not count.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        0 is border, objects are 1, 2, ...
    """
    mask = np.asarray(interior) != 0
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    if thin and labels.any():
        distance = ndimage.distance_transform_edt(~mask)
        labels = segmentation.watershed(distance, labels, watershed_line=True)  # type: ignore[no-untyped-call]
    return labels.astype(np.int32)


def rand_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Compute the Rand error of the EM challenge of 2012: 1 - F-score of pairs of pixels.

    With p_ij the share of the truth's object pixels that lie in object i of the prediction and j
    of the truth: F = 2 sum p_ij^2 / (sum_i p_i^2 + sum_j p_j^2).

    Parameters
    ----------
    prediction, truth
        Label images of the same shape; 0 is border.

    Returns
    -------
    float
        0 to 1, less is better; 0 if the truth has no object.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    return 1 - v_rand(prediction, truth).score


def v_rand(prediction: ArrayLike, truth: ArrayLike) -> RandScores:
    """Compute the foreground-restricted Rand scores (Arganda-Carreras et al. 2015, equation 3).

    ``split = sum p_ij^2 / sum_j t_j^2`` and ``merge = sum p_ij^2 / sum_i s_i^2``, with s_i and t_j
    the shares of the objects of prediction and truth.

    Parameters
    ----------
    prediction, truth
        Label images of the same shape; 0 is border: pixels where the truth has it are left out,
        where the prediction has it, each pixel is an object of its own.

    Returns
    -------
    RandScores
        All 1 if the truth has no object.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    shares = _shares(prediction, truth)
    if shares is None:
        return RandScores(1.0, 1.0, 1.0)
    joint, of_prediction, of_truth, pixel = shares
    alone = 1 - joint.sum()  # pixels that the prediction has as border
    both = float((joint**2).sum() + alone * pixel)
    split = both / float((of_truth**2).sum())
    merge = both / float((of_prediction**2).sum() + alone * pixel)
    return RandScores(2 * split * merge / (split + merge), split, merge)


def v_info(prediction: ArrayLike, truth: ArrayLike) -> RandScores:
    """Compute the foreground-restricted information scores (same source, equation 4).

    ``split = I(S; T) / H(S)`` and ``merge = I(S; T) / H(T)``, with S the prediction, T the truth, I
    the mutual information and H the entropy. An entropy of 0 (one object) gives 1.

    Parameters, result and errors are those of `v_rand`.
    """
    shares = _shares(prediction, truth)
    if shares is None:
        return RandScores(1.0, 1.0, 1.0)
    joint, of_prediction, of_truth, pixel = shares
    alone = 1 - joint.sum()
    # Every pixel that stands alone adds -p log p with p the share of one pixel.
    lonely = -alone * np.log(pixel) if alone > 1e-12 else 0.0
    h_prediction = _entropy(of_prediction) + lonely
    h_truth = _entropy(of_truth)
    information = h_prediction + h_truth - (_entropy(joint) + lonely)
    split = information / h_prediction if h_prediction > 1e-12 else 1.0
    merge = information / h_truth if h_truth > 1e-12 else 1.0
    total = h_prediction + h_truth
    score = 2 * information / total if total > 1e-12 else 1.0
    return RandScores(float(score), float(split), float(merge))


def _shares(
    prediction: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float] | None:
    """Shares of the truth's object pixels: of each pair, each side's objects, and one pixel."""
    p, t = np.asarray(prediction), np.asarray(truth)
    same_shape(p, t)
    inside = t > 0
    count = int(inside.sum())
    if not count:
        return None
    _, of_p = np.unique(p[inside], return_inverse=True)
    _, of_t = np.unique(t[inside], return_inverse=True)
    table = sparse.coo_matrix((np.ones(count), (of_p, of_t))).tocsr() / count
    table.sum_duplicates()
    of_truth = np.asarray(table.sum(axis=0)).ravel()
    if (p[inside] == 0).any():  # the smallest label comes first
        table = table[1:]
    return table.data, np.asarray(table.sum(axis=1)).ravel(), of_truth, 1 / count


def _entropy(shares: NDArray[Any]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())
