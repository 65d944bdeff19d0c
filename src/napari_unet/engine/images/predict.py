"""Predict an image file of any axes, plane by plane, and write what was found beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from napari_unet.engine.events import (
    JobEvent,
    Noticed,
    PlanePredicted,
    PredictionFinished,
    TilePredicted,
)
from napari_unet.engine.image import SourceImage
from napari_unet.engine.images.axes import ImageInfo, spacing_of
from napari_unet.engine.images.events import FileOpened, FilePredicted, FileProgressed
from napari_unet.engine.images.fitting import EACH, choose_channels, rescaling
from napari_unet.engine.images.lazy import OpenedImage, PlaneIndex
from napari_unet.engine.images.opening import UNREADABLE, open_image, unreadable
from napari_unet.engine.images.settings import FileSettings
from napari_unet.engine.images.storing import (
    Begun,
    LabelsIntoImage,
    ResultStore,
    result_store,
)
from napari_unet.engine.planes import PlaneObjects, PlanesRequest, predict_planes
from napari_unet.engine.predict import PredictRequest, predict_tiles
from napari_unet.engine.results import InstanceSettings
from napari_unet.engine.usage import Usage
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import to_channels_first
from napari_unet.ops.normalize import percentile_normalize, sample_range, scale_to_range

# Grey values for the percentiles of a whole stack: so many planes, of each so many pixels.
_SAMPLED_PLANES: Final = 32
_SAMPLED_PIXELS: Final = 2**17
# In place of the image of a request that each plane is put into.
_NO_IMAGE: Final = SourceImage.from_normalized(np.zeros((1, 1, 1), np.float32))


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
        self._predictor = predictor
        self._image = image
        self._channels = channels
        self._factors = factors
        self._stop = stop
        self._settings = predictor.settings
        scaling = self._settings.scaling or predictor.usage.learned_from.scaling
        self._ranges: list[tuple[float, float]] | None = None
        self._scale_alike = scaling == "image" and bool(image.stack_shape)
        self._objects = PlaneObjects(
            self._instance_settings(),
            joins=predictor.ndim == 2 and image.info.axis("z") is not None,
        )
        # Of the plane, or the stack, that is being predicted: its sides, and the answer so far.
        self._sides: tuple[int, ...] = ()
        self._probability: NDArray[np.float32] = np.zeros((0,), np.float32)

    @property
    def objects(self) -> int:
        """How many objects were found."""
        return self._objects.count

    def run(self, stem: Path) -> Iterator[FileProgressed | Noticed]:
        """Predict all planes and write the results; `files` stays None if it was stopped."""
        store = self._store(stem)
        if self._scale_alike:
            self._ranges = self._sample_ranges()
        try:
            places = list(self._image.planes()) if self._predictor.ndim == 2 else self._stacks()
            done = self._go_on(store.begun, places)
            share = (len(places) - done) / len(places)
            for event in self._predict(places[done:]):
                match event:
                    case TilePredicted():
                        self._probability[(slice(None), *event.inner)] = event.probability
                        yield FileProgressed(1 - share + share * event.done / event.total)
                    case PlanePredicted():
                        self._hand_over(event.plane, store)
                    case Noticed():
                        yield event
                    case PredictionFinished():
                        if not event.stopped:
                            self.files = store.finish()
        finally:
            if self.files is None:
                store.discard()

    def _predict(self, places: Sequence[PlaneIndex]) -> Iterator[JobEvent]:
        like = PredictRequest(
            _NO_IMAGE,
            tile_size=self._settings.tile_size,
            precision=self._settings.precision,
            averaging=self._settings.averaging or self._predictor.usage.averaging,
        )
        model, stop = self._predictor.model, self._stop
        request = PlanesRequest(self._source, places, None, like)
        return predict_planes(lambda each: predict_tiles(model, each, stop), request, stop)

    def _source(self, index: PlaneIndex) -> SourceImage:
        """Read a plane, or a stack, and make room for the answer."""
        channels = self._normalized(self._read(index))
        self._sides = channels.shape[1:]
        if self._factors is not None:
            channels = _resized(channels, self._target(self._sides))
        classes = self._predictor.model.config.classes
        self._probability = np.zeros((classes, *channels.shape[1:]), np.float32)
        return SourceImage.from_normalized(channels, self._spacing(channels.ndim - 1))

    def _hand_over(self, index: PlaneIndex, store: ResultStore) -> None:
        """Hand an answer that is whole to the store, with the objects in it."""
        probability = self._probability
        if self._factors is not None:
            probability = _resized(probability, self._sides)
        spacing = self._spacing(probability.ndim - 1)
        store.add(index, probability, self._objects.cut_out(index, probability, spacing))

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
        self._objects.count = begun.objects
        is_between = 0 < begun.pieces < len(places)
        if is_between and begun.read is not None and self._predictor.ndim == 2:
            last = places[begun.pieces - 1]
            self._objects.go_on_after(last, begun.read(last), begun.objects)
        return begun.pieces

    def _stacks(self) -> list[PlaneIndex]:
        time = self._image.info.axis("t")
        return [()] if time is None else [(number,) for number in range(time.length)]

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
