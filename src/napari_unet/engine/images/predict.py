"""Predict an image file of any axes, plane by plane, and write what was found beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from napari_unet.engine.averaging import Averaging
from napari_unet.engine.events import Noticed, PredictionFinished, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.images.axes import Corrections, ImageInfo, PixelSize, spacing_of
from napari_unet.engine.images.events import FileOpened, FilePredicted, FileProgressed
from napari_unet.engine.images.fitting import EACH, choose_channels, rescaling
from napari_unet.engine.images.lazy import OpenedImage, PlaneIndex
from napari_unet.engine.images.opening import UNREADABLE, open_image, unreadable
from napari_unet.engine.images.storing import (
    Begun,
    LabelsIntoImage,
    ResultFormat,
    ResultStore,
    result_store,
)
from napari_unet.engine.images.zarr_writing import Version
from napari_unet.engine.plan import Precision
from napari_unet.engine.predict import PredictRequest, predict_tiles
from napari_unet.engine.results import InstanceSettings, find_instances
from napari_unet.engine.usage import Scaling, Usage
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import to_channels_first
from napari_unet.ops.normalize import percentile_normalize, sample_range, scale_to_range
from napari_unet.ops.stitching import continue_objects

# Grey values for the percentiles of a whole stack: so many planes, of each so many pixels.
_SAMPLED_PLANES: Final = 32
_SAMPLED_PIXELS: Final = 2**17


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


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A network, how it is meant to be used, and how the user wants it used.

    Attributes
    ----------
    model
        The network; it must not change meanwhile.
    usage
        What the training found best.
    settings
        What the user wants.
    replace_labels
        Whether label images that an image has already are replaced.
    fingerprint
        What stands for the model and the settings: label images that the same job has begun are
        gone on with. Empty: they are begun anew.
    """

    model: UNet | ForeignModel
    usage: Usage
    settings: FileSettings = field(default_factory=FileSettings)
    replace_labels: bool = False
    fingerprint: str = ""

    @property
    def ndim(self) -> Literal[2, 3]:
        """Whether the network looks at planes or at stacks as a whole."""
        return 3 if getattr(self.model.config, "ndim", 2) == 3 else 2


def predict_file(
    predictor: Predictor, path: Path, stem: Path, stop: threading.Event | None = None
) -> Iterator[FileOpened | FileProgressed | FilePredicted | Noticed]:
    """Predict one image file and write the results.

    Parameters
    ----------
    predictor
        The network and how it is used.
    path
        The image.
    stem
        Folder and name of the results, without an ending.
    stop
        Checked before every tile; when it is set the job ends, and nothing is written.

    Yields
    ------
    FileOpened
        When it is known what the file holds.
    FileProgressed, Noticed
        Meanwhile.
    FilePredicted
        Last, unless it was stopped.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit the model, or the results cannot be written.
    """
    settings, learned = predictor.settings, predictor.usage.learned_from
    with open_image(path, settings.corrections) as image:
        info = image.info
        answers = choose_channels(
            info, settings.channels, predictor.model.config.in_channels, learned.channels
        )
        model_size = settings.model_pixel_size or learned.size
        factors, notes = rescaling(info, model_size, settings.rescale)
        _check_axes(info, predictor.ndim)
        notes = (*info.notes, *notes)
        yield FileOpened(info, notes)
        files: list[Path] = []
        objects = 0
        for number, channels in enumerate(answers):
            each = settings.channels == (EACH,) and len(answers) > 1
            ending = f"_{_channel_name(info, channels[0])}" if each else ""
            job = _FileJob(predictor, image, channels, factors, stop, ending)
            for event in job.run(stem.with_name(f"{stem.name}{ending}")):
                if isinstance(event, FileProgressed):
                    event = FileProgressed((number + event.fraction) / len(answers))
                yield event
            if job.files is None:
                return
            files += job.files
            objects += job.objects
        yield FilePredicted(info, tuple(files), objects, notes)


def _check_axes(info: ImageInfo, ndim: int) -> None:
    if ndim == 3 and info.axis("z") is None:
        raise InputError(
            f"the model looks at stacks, but {info.path} has axes {info.names}; give --axes if one "
            "of them is z, or take a model of planes"
        )


def _channel_name(info: ImageInfo, channel: int) -> str:
    if channel < len(info.channels):
        name = "".join(c if c.isalnum() or c in "-+." else "-" for c in info.channels[channel])
        return f"{channel + 1}-{name}"
    return f"channel-{channel + 1}"


class _FileJob:
    """One answer for one file: all its planes with the same channels."""

    def __init__(
        self,
        predictor: Predictor,
        image: OpenedImage,
        channels: tuple[int, ...],
        factors: tuple[float, float] | None,
        stop: threading.Event | None,
        ending: str = "",
    ) -> None:
        self._label_name = f"{predictor.settings.labels_into_image}{ending}"
        self.files: tuple[Path, ...] | None = None
        self.objects = 0
        self._predictor = predictor
        self._image = image
        self._channels = channels
        self._factors = factors
        self._stop = stop
        self._settings = predictor.settings
        scaling = self._settings.scaling or predictor.usage.learned_from.scaling
        self._ranges: list[tuple[float, float]] | None = None
        self._scale_alike = scaling == "image" and bool(image.stack_shape)
        self._found = self._instance_settings()
        self._precision = self._settings.precision
        self._before: NDArray[np.int32] = np.zeros((0, 0), np.int32)

    def run(self, stem: Path) -> Iterator[FileProgressed | Noticed]:
        """Predict all planes and write the results; `files` stays None if it was stopped."""
        store = self._store(stem)
        if self._scale_alike:
            self._ranges = self._sample_ranges()
        try:
            places = list(self._image.planes()) if self._predictor.ndim == 2 else self._stacks()
            done = self._go_on(store.begun, places)
            for number, index in enumerate(places[done:], start=done):
                for event in self._predict(index, store):
                    if isinstance(event, FileProgressed):
                        event = FileProgressed((number + event.fraction) / len(places))
                    yield event
                if self._is_stopped():
                    break
            else:
                self.files = store.finish()
        finally:
            if self.files is None:
                store.discard()

    def _store(self, stem: Path) -> ResultStore:
        predictor, settings = self._predictor, self._settings
        classes, ndim = predictor.model.config.classes, predictor.ndim
        told = predictor.usage.class_names
        names = told if len(told) == classes else ()
        if settings.labels_into_image is not None:
            return LabelsIntoImage(
                self._image,
                self._label_name,
                classes,
                ndim,
                replace=predictor.replace_labels,
                job=predictor.fingerprint,
                names=names,
            )
        kind, version = settings.result_format, settings.zarr_version
        return result_store(stem, self._image.info, classes, ndim, kind, version, names=names)

    def _go_on(self, begun: Begun, places: Sequence[PlaneIndex]) -> int:
        """Take up what an earlier run has stored; return how many pieces that are."""
        self.objects = begun.objects
        is_between = 0 < begun.pieces < len(places)
        if is_between and begun.read is not None and self._predictor.ndim == 2:
            self._before = begun.read(places[begun.pieces - 1])
        return begun.pieces

    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _stacks(self) -> list[PlaneIndex]:
        time = self._image.info.axis("t")
        return [()] if time is None else [(number,) for number in range(time.length)]

    def _predict(self, index: PlaneIndex, store: ResultStore) -> Iterator[FileProgressed | Noticed]:
        """Predict one plane, or one stack, and hand the answer to the store."""
        channels = self._normalized(self._read(index))
        sides = channels.shape[1:]
        if self._factors is not None:
            channels = _resized(channels, self._target(sides))
        request = PredictRequest(
            _Channels(channels, self._spacing(channels.ndim - 1)),
            tile_size=self._settings.tile_size,
            precision=self._precision,
            averaging=self._settings.averaging or self._predictor.usage.averaging,
        )
        model = self._predictor.model
        probability = np.zeros((model.config.classes, *channels.shape[1:]), np.float32)
        for event in predict_tiles(model, request, self._stop):
            match event:
                case TilePredicted():
                    probability[(slice(None), *event.inner)] = event.probability
                    yield FileProgressed(event.done / event.total)
                case Noticed():
                    yield event
                case PredictionFinished():
                    if event.stopped:
                        return
                    # What the first plane showed holds for all of them.
                    if self._precision == "auto":
                        self._precision = "fp32" if event.exact else "fast"
        if self._factors is not None:
            probability = _resized(probability, sides)
        store.add(index, probability, self._cut_out(index, probability))

    def _cut_out(self, index: PlaneIndex, probability: NDArray[np.float32]) -> NDArray[np.int32]:
        """Cut out objects; those that go on from the plane before, along z, keep their number."""
        objects = find_instances(probability, self._found, self._spacing(probability.ndim - 1))
        if self._predictor.ndim == 3 or self._image.info.axis("z") is None:
            self.objects += int(objects.max(initial=0))
            return objects
        before = self._before if index[-1] > 0 else np.zeros_like(objects)
        self._before = continue_objects(before, objects, self.objects + 1)
        self.objects = max(self.objects, int(self._before.max(initial=0)))
        return self._before

    def _spacing(self, ndim: int) -> tuple[float, ...] | None:
        """Return the size of a voxel along z, y and x, in pixels of the plane; None for a plane."""
        if ndim == 2:
            return None
        sizes = spacing_of(self._image.info)
        return tuple(size / sizes[-1] for size in sizes)

    def _read(self, index: PlaneIndex) -> NDArray[np.float32]:
        """Read (C, Y, X), or (C, Z, Y, X) for a network that looks at stacks."""
        if self._predictor.ndim == 2:
            return self._read_plane(index)
        depth = self._image.stack_shape[-1]
        return np.stack([self._read_plane((*index, plane)) for plane in range(depth)], axis=1)

    def _read_plane(self, index: PlaneIndex) -> NDArray[np.float32]:
        path = self._image.info.path
        try:
            plane = self._image.read_plane(index, self._channels)
        except UNREADABLE as error:
            raise unreadable(path, error) from error
        try:
            return np.concatenate([to_channels_first(channel) for channel in plane])
        except InputError as error:
            where = f", plane {_place(index)}" if index else ""
            raise InputError(f"{path}{where}: {error}") from error

    def _normalized(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        if isinstance(self._predictor.model, ForeignModel):
            return channels  # its package says how they are normalised
        if self._ranges is None:
            return percentile_normalize(channels)
        scaled = [
            scale_to_range(channel, *limits)
            for channel, limits in zip(channels, self._ranges, strict=True)
        ]
        return np.stack(scaled)

    def _sample_ranges(self) -> list[tuple[float, float]]:
        """Look at some planes of the stack, so that all of them are scaled alike."""
        places = list(self._image.planes())
        places = places[:: -(-len(places) // _SAMPLED_PLANES)]
        samples = []
        for index in places:
            plane = self._read_plane(index)
            step = max(1, int((plane[0].size / _SAMPLED_PIXELS) ** 0.5))
            samples.append(plane[:, ::step, ::step].reshape(len(plane), -1))
        ranges = []
        for values in np.concatenate(samples, axis=1):
            found = sample_range(values)
            ranges.append((float(values.min()), float(values.max())) if found is None else found)
        return ranges

    def _target(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        assert self._factors is not None
        planes, rows, columns = sides[:-2], *sides[-2:]
        height, width = self._factors
        return (*planes, max(1, round(rows * height)), max(1, round(columns * width)))

    def _instance_settings(self) -> InstanceSettings:
        settings = self._settings.instances or self._predictor.usage.instances
        if self._factors is None:
            return settings
        # The smallest object is meant in the model's pixels; objects are cut out of the image's.
        area = self._factors[0] * self._factors[1]
        return replace(settings, min_size=round(settings.min_size / area))


class _Channels(SourceImage):
    """An image of any number of channels that is normalised already; (C, Y, X) or (C, Z, Y, X)."""

    def __init__(
        self, normalized: NDArray[np.float32], spacing: tuple[float, ...] | None = None
    ) -> None:
        self.channels = len(normalized)
        self.ndim = normalized.ndim - 1
        self.spacing = spacing or (1.0,) * self.ndim
        self._data = np.moveaxis(normalized, 0, -1)
        self.__dict__["normalized"] = normalized  # what the cached property would compute


def _resized(planes: NDArray[np.float32], sides: Sequence[int]) -> NDArray[np.float32]:
    """Rescale (C, ...) to other sides, linearly; what shrinks is smoothed first."""
    smooth = any(new < old for new, old in zip(sides, planes.shape[1:], strict=True))
    scale: Callable[..., NDArray[np.float32]] = resize
    rescaled = [
        scale(plane, tuple(sides), order=1, anti_aliasing=smooth, preserve_range=True)
        for plane in planes
    ]
    return np.stack(rescaled).astype(np.float32)


def _place(index: PlaneIndex) -> str:
    return ", ".join(str(number + 1) for number in index)
