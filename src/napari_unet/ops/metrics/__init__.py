"""How well a prediction agrees with the truth, by the measures of the field.

``pixels`` compares pixel by pixel, ``clusters`` pairs of pixels, ``objects`` object by object, and
``warping`` the topology. Every function names its source.
"""

from __future__ import annotations

from napari_unet.ops.metrics.clusters import (
    RandScores,
    boundary_segments,
    rand_error,
    v_info,
    v_rand,
)
from napari_unet.ops.metrics.objects import (
    ObjectMatch,
    ObjectScores,
    PanopticQuality,
    average_precision,
    match_objects,
    panoptic_quality,
    seg,
)
from napari_unet.ops.metrics.pixels import (
    dice_per_class,
    iou_per_class,
    mean_dice,
    mean_iou,
    pixel_error,
    pixel_f_error,
)
from napari_unet.ops.metrics.warping import warping_error

__all__ = [
    "ObjectMatch",
    "ObjectScores",
    "PanopticQuality",
    "RandScores",
    "average_precision",
    "boundary_segments",
    "dice_per_class",
    "iou_per_class",
    "match_objects",
    "mean_dice",
    "mean_iou",
    "panoptic_quality",
    "pixel_error",
    "pixel_f_error",
    "rand_error",
    "seg",
    "v_info",
    "v_rand",
    "warping_error",
]
