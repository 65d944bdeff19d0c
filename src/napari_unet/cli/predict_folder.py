"""``napari-unet predict IMAGES -o FOLDER``: image files, and folders of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_unet.cli.console import (
    BAD_INPUT,
    INTERRUPTED,
    fail,
    note,
    report,
    stopping_on_interrupt,
)

if TYPE_CHECKING:
    import threading

    from napari_unet.engine.images.axes import Corrections
    from napari_unet.engine.images.batch import BatchItem, BatchRequest
    from napari_unet.engine.images.events import BatchFinished, BatchRow
    from napari_unet.engine.images.settings import FileSettings

_INSTANCE_OPTIONS: Final = ("method", "threshold", "seed_threshold", "min_size", "fill_holes")


def predict_into_folder(
    images: tuple[Path, ...],
    model: Path,
    output: Path | None,
    options: Mapping[str, Any],
    corrections: Corrections,
    as_json: bool,
) -> None:
    """Predict images and folders of them, and report what was done and what failed.

    Raises
    ------
    InputError
        If the model cannot be used, a folder holds no image, or the output cannot be written.
    """
    from napari_unet.engine.images.batch import BatchRequest

    items = _find_items(images, output, options)
    settings = _settings(model, options, corrections)
    request = BatchRequest(items, model, output, settings, options["overwrite"])
    with stopping_on_interrupt() as stop:
        finished = _follow(request, stop)
    failed = [row for row in finished.rows if row.state == "failed"]
    if len(items) == 1 and failed:
        reason = failed[0].reason
        image = str(failed[0].image)
        fail(reason if image in reason else f"{image}: {reason}")
    report(_summary(finished), _lines(finished, len(items)), as_json)
    done = len(finished.rows) - len(failed)
    if finished.stopped:
        note(
            f"Stopped; {done} of {len(items)} images are done. The same command goes on with the "
            "rest."
        )
        sys.exit(INTERRUPTED)
    if failed:
        note(f"{len(failed)} of {len(items)} images failed{':' if as_json else '.'}")
        for row in failed if as_json else ():
            note(f"  {row.image}  {_reason(row)}")
        sys.exit(BAD_INPUT)


def _find_items(
    images: Sequence[Path], output: Path | None, options: Mapping[str, Any]
) -> tuple[BatchItem, ...]:
    from napari_unet.engine.images.batch import BatchItem, find_images
    from napari_unet.engine.images.omezarr import is_zarr
    from napari_unet.engine.images.opening import image_name

    items: list[BatchItem] = []
    for path in images:
        if path.is_dir() and not is_zarr(path):
            items += find_images(
                path, options["patterns"], recursive=options["recursive"], output=output
            )
        else:
            items.append(BatchItem(path, Path(image_name(path))))
    return tuple(items)


def _settings(model: Path, options: Mapping[str, Any], corrections: Corrections) -> FileSettings:
    from napari_unet.engine.exchange.open import usage_of
    from napari_unet.engine.images.axes import parse_size_of_plane
    from napari_unet.engine.images.settings import FileSettings

    given = {name: options[name] for name in _INSTANCE_OPTIONS if options[name] is not None}
    text = options["model_pixel_size"]
    return FileSettings(
        corrections,
        tuple(options["channels"]),
        options["rescale"],
        None if text is None else parse_size_of_plane(text),
        options["scaling"],
        options["tile_size"],
        options["precision"],
        options["averaging"],
        replace(usage_of(model).instances, **given) if given else None,
        options["result_format"],
        options["zarr_version"],
        options["labels_into_image"],
    )


def _follow(request: BatchRequest, stop: threading.Event) -> BatchFinished:
    """Run a batch with a bar that counts images, and notes above it."""
    from napari_unet.cli.jobs import progress_bar
    from napari_unet.engine.events import Noticed
    from napari_unet.engine.images.batch import predict_batch
    from napari_unet.engine.images.events import (
        BatchFinished,
        ImageFinished,
        ImageProgressed,
        ImageStarted,
    )

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with progress_bar("Predicting", total=len(request.items), bar_format=form) as bar:
        for event in predict_batch(request, stop):
            match event:
                case ImageStarted():
                    bar.set_postfix_str(f"{event.number + 1} of {bar.total}, {event.image.name}")
                case ImageProgressed():
                    bar.update(event.number + event.fraction - bar.n)
                case ImageFinished():
                    bar.update(event.number + 1 - bar.n)
                    for text in event.row.notes:
                        note(f"{event.row.image}: {text}")
                case Noticed():
                    note(event.message)
                case BatchFinished():
                    return event
    raise AssertionError("a batch ends with BatchFinished")


def _summary(finished: BatchFinished) -> dict[str, Any]:
    return {
        "results": [
            {
                "image": row.image,
                "files": row.files,
                "instances": row.objects,
                "axes": row.axes,
                "skipped": row.state == "skipped",
                "notes": row.notes,
            }
            for row in finished.rows
            if row.state != "failed"
        ],
        "failed": [
            {"image": row.image, "error": row.reason}
            for row in finished.rows
            if row.state == "failed"
        ],
        "tables": finished.tables,
        "stopped": finished.stopped,
    }


def _lines(finished: BatchFinished, count: int) -> list[str]:
    """Return the files of a single image, or the table of many."""
    if count == 1:
        return [str(path) for row in finished.rows for path in row.files]
    cells = [("state", "image", "objects", "axes")]
    for row in finished.rows:
        objects = "" if row.objects is None else str(row.objects)
        cells.append((str(row.state), str(row.image), objects, row.axes))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    reasons = ["reason", *(_reason(row) for row in finished.rows)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), reason])
        for row, reason in zip(cells, reasons, strict=True)
    ]
    return [*(line.rstrip() for line in lines), *map(str, finished.tables)]


def _reason(row: BatchRow) -> str:
    """Return why an image failed, without its own path."""
    return row.reason.removeprefix(str(row.image)).strip(" :")
