"""How image files are predicted, as far as the user decides."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from napari_unet.engine.averaging import Averaging
from napari_unet.engine.images.axes import Corrections, PixelSize
from napari_unet.engine.images.storing import ResultFormat
from napari_unet.engine.images.zarr_writing import Version
from napari_unet.engine.plan import Precision
from napari_unet.engine.results import InstanceSettings
from napari_unet.engine.usage import Scaling


@dataclass(frozen=True, slots=True)
class FileSettings:
    """How image files are predicted; None leaves it to the model.

    Attributes
    ----------
    corrections
        What the user knows better than the files.
    channels
        Names or numbers of the channels to use; "each" alone predicts every one by itself.
    rescale
        Whether images are brought to the pixel size that the model learned on, and the answer back.
    model_pixel_size
        That size, where the model does not say it.
    scaling
        Whether grey values are scaled for every plane by itself or for all planes alike.
    tile_size, precision, averaging
        As for `PredictRequest`.
    instances
        How objects are cut out.
    result_format, zarr_version
        How results are stored.
    labels_into_image
        Name of label images that are written into the OME-Zarr that the image is, in place of files
        of results; None: files.
    """

    corrections: Corrections = field(default_factory=Corrections)
    channels: tuple[str, ...] = ()
    rescale: bool = False
    model_pixel_size: PixelSize | None = None
    scaling: Scaling | None = None
    tile_size: int | None = None
    precision: Precision = "auto"
    averaging: Averaging | None = None
    instances: InstanceSettings | None = None
    result_format: ResultFormat = "tiff"
    zarr_version: Version = "0.5"
    labels_into_image: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, all of them fit for JSON."""
        values = asdict(self)
        if self.labels_into_image is None:  # so that what was done before this option stays done
            del values["labels_into_image"]
        return values
