"""``napari-unet fine-tune``: an image and its annotations in, a model out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from napari_unet.cli.console import INTERRUPTED, json_option, note, report, stopping_on_interrupt
from napari_unet.cli.image_options import chosen_corrections, image_options
from napari_unet.ops.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.engine.image import SourceImage
    from napari_unet.engine.images.axes import PixelSize
    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.engine.trainer import FinetuneConfig

# Long enough that a few strokes are learned on two cores, short enough to wait for.
_DEFAULT_SECONDS = 60.0
# A step on a stack has the voxels of one on an image then, with their context: about a tenth of
# what patches of the usual side would have.
_PATCH_OF_STACKS: Final = 24
_BATCH_OF_STACKS: Final = 2


class _Channels(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A number of channels, or auto."""

    name = "NUMBER|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word."""
        return "auto" if value == "auto" else click.INT.convert(value, param, ctx)


@click.command("fine-tune", short_help="Learn from the annotations of an image.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("annotations", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to save the model, such as cells.safetensors.",
)
@click.option("-m", "--model", type=click.Path(path_type=Path), help="Model to start from.")
@click.option(
    "--starter",
    default="small",
    show_default=True,
    help="What a new model begins from: a bundled starter, the file of another one, or none for "
    "random weights.",
)
@click.option(
    "--channels",
    type=_Channels(),
    help="Width of a new model with random weights; auto measures which is quick enough here. A "
    "starter has its own.  [default: 16]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help=f"How long to learn.  [default: {_DEFAULT_SECONDS:.0f}, unless --steps is given]",
)
@click.option("--steps", type=click.IntRange(min=1), help="How many steps to learn.")
@click.option(
    "--classes",
    type=click.IntRange(min=2),
    help="Number of classes, background included.  [default: the highest label]",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "sgd"]),
    default="adamw",
    show_default=True,
    help="sgd is the paper's, with momentum 0.99.",
)
@click.option(
    "--ndim",
    type=click.Choice(["2", "3"]),
    default="2",
    show_default=True,
    help="3 learns from a stack (z, y, x) as a whole; strokes on a few of its planes will do.",
)
@image_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@json_option
def fine_tune_command(
    image: Path, annotations: Path, output: Path, as_json: bool, **options: Any
) -> None:
    """Learn from the ANNOTATIONS of an IMAGE and save the model.

    ANNOTATIONS is a label image of the same size (0 not annotated, 1 background, 2 and up the
    classes) or a stroke set (.json). Some strokes are held out, and the model is scored on them.
    Ctrl-C ends the learning and saves what was learned so far.
    """
    from napari_unet.cli.jobs import train
    from napari_unet.engine.files import make_folder
    from napari_unet.engine.finetune import FinetuneRequest
    from napari_unet.model.checkpoint import save_model

    source, labels, learned_at = _read(image, annotations, options)
    segmenter = _make_segmenter(labels, options)
    segmenter.set_image(source)
    # Minutes of learning are not to be lost for a folder that cannot be written.
    make_folder(output.parent)
    if output.is_dir():
        raise InputError(f"{output} is a folder; add the name of the model file")
    seconds, steps = options["seconds"], options["steps"]
    if seconds is None and steps is None:
        seconds = _DEFAULT_SECONDS
    with stopping_on_interrupt() as stop:
        training = train(segmenter, FinetuneRequest(source, labels, seconds, steps), stop)
        interrupted = stop.is_set()
    if not training.losses:
        sys.exit(INTERRUPTED)
    path = save_model(segmenter.model, output, segmenter.usage.learned_at(*learned_at).to_dict())
    if interrupted:
        note("Stopped; the model so far is saved.")
    result = {"model": path, "classes": segmenter.classes, **training.summary()}
    report(result, [training.sentence(), str(path)], as_json)
    if interrupted:
        sys.exit(INTERRUPTED)


def _read(
    image: Path, annotations: Path, options: dict[str, Any]
) -> tuple[SourceImage, NDArray[Any], tuple[PixelSize | None, tuple[str, ...]]]:
    """Return the image, its annotations, and the pixel size and channels for the model file."""
    from napari_unet.engine.dataset.stacks import read_stack
    from napari_unet.engine.files import read_image
    from napari_unet.engine.image import SourceImage
    from napari_unet.engine.images.axes import spacing_of

    corrections = chosen_corrections(options["axes"], options["pixel_size"], options["level"])
    if options["ndim"] == "3":
        stack, info = read_stack(image, corrections)
        if annotations.suffix.lower() == ".json":
            raise InputError(
                f"{annotations} is for an image; give the labels of the stack's voxels"
            )
        labels, _ = read_stack(annotations, replace(corrections, sizes=()))
        source = SourceImage(stack, 3, spacing_of(info))
        return source, labels, (info.pixel_size, info.channels)
    if corrections != type(corrections)():
        raise InputError("--axes, --pixel-size and --level are for stacks; add --ndim 3")
    opened = read_image(image)
    source = SourceImage(opened.data)
    learned_at = opened.size, opened.channels
    return source, _read_annotations(annotations, source.shape), learned_at


def _read_annotations(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    from napari_unet.engine.files import read_labels
    from napari_unet.ops.annotations import draw_strokes, strokes_from_json

    if path.suffix.lower() != ".json":
        return read_labels(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a stroke set; give another file") from error
    return draw_strokes(strokes_from_json(text)[1], shape)


def _make_segmenter(labels: NDArray[Any], options: dict[str, Any]) -> Segmenter:
    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.engine.trainer import FinetuneConfig

    config = FinetuneConfig(optimizer=options["optimizer"], seed=options["seed"])
    if options["ndim"] == "3":
        config = replace(config, patch_size=_PATCH_OF_STACKS, batch=_BATCH_OF_STACKS)
    classes = options["classes"]
    if options["model"] is None:
        return _new_segmenter(labels, options, config)
    if options["channels"] is not None:
        raise InputError("the model has its own width; leave out --channels or --model")
    segmenter = Segmenter(options["model"], seed=options["seed"], config=config)
    if segmenter.guest is not None:
        raise InputError(
            f"{options['model']} is a model of another program, which cannot learn here; choose a "
            "model of napari-unet, or start without --model"
        )
    if classes is not None and classes != segmenter.classes:
        raise InputError(
            f"the model has {segmenter.classes} classes, not {classes}; leave out --classes, or "
            "start without --model"
        )
    return segmenter


def _new_segmenter(
    labels: NDArray[Any], options: dict[str, Any], config: FinetuneConfig
) -> Segmenter:
    from napari_unet.engine.beginning import MOST_CLASSES
    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.ops.labels import as_label_image

    highest = int(as_label_image(labels, "annotation image", int(options["ndim"])).max())
    classes = options["classes"] or max(highest, 2)
    if classes > MOST_CLASSES:
        raise InputError(
            f"the annotations have labels up to {highest}; classes must be 2 to {MOST_CLASSES}, "
            "background included"
        )
    # There is no starter for stacks.
    at_random = options["starter"] == "none" or options["ndim"] == "3"
    return Segmenter(
        None,
        classes,
        starter=None if at_random else options["starter"],
        channels=options["channels"],
        seed=options["seed"],
        config=config,
    )
