"""Scores of a partition into segments: Rand and information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import segmentation

from napari_unet.ops.metrics.contingency import contingency


@dataclass(frozen=True, slots=True)
class RandScores:
    """A score and its two parts, each 0 to 1, more is better.

    Attributes
    ----------
    score
        The harmonic mean of `split` and `merge`.
    split
        Low where segments of the truth are split.
    merge
        Low where segments of the truth are merged.
    """

    score: float
    split: float
    merge: float


def rand_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compute 1 - F-score of the foreground-restricted Rand index, as the EM challenge did.

    Parameters
    ----------
    prediction, truth
        As for `v_rand`; for the challenge's figure the `boundary_segments` of the masks, with
        borders as wide as they are.

    Returns
    -------
    float
        0 to 1, less is better; 0 if the truth has no object.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.

    Notes
    -----
    A measure of the ISBI 2012 challenge, 0.0382 in table 1 of the U-Net paper. The challenge's page
    on evaluation: "1 - the maximal F-score of the foreground-restricted Rand index". Of the pairs
    of pixels within true objects, positive are those in one segment; a pixel makes a pair with
    itself too, as in the organisers' program (Trainable Segmentation in Fiji, `RandError`), so that
    this is 1 - `v_rand`. There pairs of all sections are counted together, and the best threshold
    of the probabilities from 0 to 1 in steps of 0.1 is taken. Rand 1971, J. Am. Stat. Assoc.
    66:846, and scikit-image's `adapted_rand_error` have pairs of different pixels, which matters
    only where segments have few pixels.
    """
    return 1 - v_rand(prediction, truth).score


def v_rand(prediction: NDArray[Any], truth: NDArray[Any]) -> RandScores:
    """Compute the foreground-restricted Rand score V^Rand.

    Parameters
    ----------
    prediction, truth
        Label images (Y, X), boolean or integer. Pixels with `truth` 0 (border) are left out; each
        pixel predicted as border where the truth has an object is a segment of its own.

    Returns
    -------
    RandScores
        All 1 where the truth has no object.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.

    Notes
    -----
    With p_ij the share of pixels in predicted segment i and true segment j, s_i and t_j its sums:
    split = sum p_ij^2 / sum t_j^2, merge = sum p_ij^2 / sum s_i^2, and the score weighs both with
    alpha = 0.5. Source: Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy 9:142, equation 3.
    """
    joint, predicted, true = _with_singletons(prediction, truth)
    if not true.size:
        return RandScores(1.0, 1.0, 1.0)
    both, p, t = (float((n * n).sum()) for n in (joint, predicted, true))
    return RandScores(2 * both / (p + t), both / t, both / p)


def v_info(prediction: NDArray[Any], truth: NDArray[Any]) -> RandScores:
    """Compute the foreground-restricted information theoretic score V^Info.

    Parameters
    ----------
    prediction, truth
        As for `v_rand`.

    Returns
    -------
    RandScores
        All 1 where the truth has no object. An image in one segment cannot be split further and
        one true segment cannot be merged: these parts are 1 then.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.

    Notes
    -----
    With the mutual information I and the entropies H of prediction S and truth T: split = I / H(S),
    merge = I / H(T), and the score weighs both with alpha = 0.5. Source: Arganda-Carreras et al.
    2015, Frontiers in Neuroanatomy 9:142, section on metrics.
    """
    joint, predicted, true = _with_singletons(prediction, truth)
    if not true.size:
        return RandScores(1.0, 1.0, 1.0)
    total = true.sum()
    together, s, t = (_entropy(n / total) for n in (joint, predicted, true))
    mutual = max(0.0, s + t - together)
    score = 2 * mutual / (s + t) if s + t else 1.0
    return RandScores(score, mutual / s if s else 1.0, mutual / t if t else 1.0)


def boundary_segments(interior: NDArray[Any], thin: bool = False) -> NDArray[np.int32]:
    """Find and number the regions into which borders divide an image.

    Parameters
    ----------
    interior
        Shape (Y, X); not 0 within cells, 0 on the borders between them.
    thin
        Whether borders are first thinned to lines one pixel wide, as the scores "after border
        thinning" of Arganda-Carreras et al. 2015 ask for: the regions grow into the border at equal
        speed until they almost touch (watershed of the distance to them). None is joined or lost.
        The organisers thin the prediction, not the truth; how is not written, only "to 1-pixel
        width".

    Returns
    -------
    ndarray of int32, shape (Y, X)
        1, 2, ... for the 4-connected regions in reading order, as the EM challenge numbers them; 0
        on borders.
    """
    mask = np.asarray(interior, bool)
    segments, _ = ndimage.label(mask)
    if thin and not mask.all() and mask.any():
        distance = ndimage.distance_transform_edt(~mask)
        segments = segmentation.watershed(  # type: ignore[no-untyped-call]
            distance, segments, watershed_line=True
        )
    numbered: NDArray[np.int32] = segments.astype(np.int32)
    return numbered


_Counts = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _restricted_pixels(prediction: NDArray[Any], truth: NDArray[Any]) -> _Counts:
    """Count pixels within true objects: per pair of segments, per predicted one, per true one."""
    table = contingency(prediction, truth)
    within = table.columns > 0
    kept = within & (table.rows > 0)
    pixels = table.pixels.astype(np.float64)
    predicted = np.bincount(table.rows[kept], pixels[kept])
    true = np.bincount(table.columns[within], pixels[within])
    return pixels[kept], _present(predicted), _present(true)


def _with_singletons(prediction: NDArray[Any], truth: NDArray[Any]) -> _Counts:
    """Count as `_restricted_pixels` does, with a segment for every pixel predicted as border."""
    joint, predicted, true = _restricted_pixels(prediction, truth)
    ones = np.ones(int(true.sum() - joint.sum()))
    return np.concatenate([joint, ones]), np.concatenate([predicted, ones]), true


def _present(counts: NDArray[Any]) -> NDArray[np.float64]:
    return counts[counts > 0].astype(np.float64)


def _entropy(shares: NDArray[np.float64]) -> float:
    return float(-(shares * np.log(shares)).sum())
