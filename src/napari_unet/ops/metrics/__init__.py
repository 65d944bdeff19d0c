"""How well a prediction agrees with the truth.

- `pixels`: pixel errors, Dice and IoU of classes;
- `clusters`: Rand and information scores of segments, for borders between touching cells;
- `warping`: what is topologically wrong with a border;
- `objects`: SEG, average precision and panoptic quality of separate objects.

Everywhere the prediction comes first, then the truth, and no score depends on how objects are
numbered.
"""

from napari_unet.ops.metrics.clusters import (
    RandScores,
    boundary_segments,
    rand_error,
    v_info,
    v_rand,
)
from napari_unet.ops.metrics.objects import (
    IOU_THRESHOLDS,
    ObjectMatch,
    ObjectScores,
    PanopticQuality,
    average_precision,
    match_objects,
    panoptic_quality,
    seg,
    seg_per_object,
)
from napari_unet.ops.metrics.pixels import (
    dice_per_class,
    iou_per_class,
    mean_dice,
    mean_iou,
    pixel_error,
    pixel_f_error,
)
from napari_unet.ops.metrics.warping import (
    split_merge_error,
    warp,
    warping_error,
)

__all__ = [
    "IOU_THRESHOLDS",
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
    "seg_per_object",
    "split_merge_error",
    "v_info",
    "v_rand",
    "warp",
    "warping_error",
]
