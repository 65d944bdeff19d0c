"""The weighted loss of the paper, for annotations that leave most pixels out.

Source: Ronneberger et al. 2015, section 3, equation 1: the cross-entropy of a pixel-wise softmax,
weighted pixel by pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.ops.annotations import NOT_ANNOTATED
from napari_unet.ops.errors import InputError

# Label k is channel k - 1, so "not annotated" becomes a channel that does not exist.
_LEFT_OUT = NOT_ANNOTATED - 1


def weighted_cross_entropy(
    logits: Tensor, annotations: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy, averaged over the annotated pixels by their weights.

    With l the label of pixel x and p its softmax, ``sum w(x) (-log p_l(x)) / sum w(x)`` over the
    annotated pixels: equation 1, divided by the weights so that its size, and with it the learning
    rate, does not depend on how much is annotated.

    Parameters
    ----------
    logits
        Shape (N, K, Y, X) or (N, K, Z, Y, X), any floating dtype; the loss is computed in float32
        at least, also under autocast.
    annotations
        Shape (N, Y, X) or (N, Z, Y, X), whole numbers of any integer dtype: 0 not annotated, k is
        channel k - 1. Pixels that are not annotated count neither in the sum nor in the divisor.
    weights
        Shape of the annotations, finite and not negative; None weights all pixels alike.

    Returns
    -------
    Tensor
        A scalar. 0, with a gradient of zeros, if nothing is annotated or all weights are 0.

    Raises
    ------
    InputError
        If the shapes do not go together.
    """
    return weighted_mean(*weighted_entropies(logits, annotations, weights))


def weighted_mean(sums: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over all images from what `weighted_entropies` summed up; 0 without weight.

    Parameters
    ----------
    sums, weights
        Each of shape (N,).
    """
    total = weights.sum()
    # Not a clamp: weights may be small, and their scale must not matter.
    return sums.sum() / torch.where(total > 0, total, torch.ones_like(total))


def weighted_entropies(
    logits: Tensor, annotations: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum up what `weighted_cross_entropy` is the quotient of, image by image.

    Parameters
    ----------
    logits, annotations, weights
        As for `weighted_cross_entropy`.

    Returns
    -------
    tuple of Tensor
        Each of shape (N,): the weighted entropies, and the weights.

    Raises
    ------
    InputError
        If the shapes do not go together.
    """
    expected = (logits.shape[0], *logits.shape[2:])
    for name, tensor in (("annotations", annotations), ("weights", weights)):
        if tensor is not None and tuple(tensor.shape) != expected:
            raise InputError(
                f"{name} of shape {tuple(tensor.shape)} do not fit the logits; give {expected}"
            )
    target = annotations.long() - 1
    # bfloat16 holds 8 bits of a sum over a whole tile: far too few.
    exact = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    # 0 where the pixel is left out, and no gradient there.
    entropy = functional.cross_entropy(exact, target, ignore_index=_LEFT_OUT, reduction="none")
    weight = (target != _LEFT_OUT).to(entropy.dtype)
    if weights is not None:
        weight = weight * weights.to(entropy.dtype)
    pixels = tuple(range(1, entropy.ndim))
    return (weight * entropy).sum(dim=pixels), weight.sum(dim=pixels)
