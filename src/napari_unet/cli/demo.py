"""``napari-unet demo``: the whole line on a sample image, without a window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_unet.cli.console import INTERRUPTED, json_option, note, report, stopping_on_interrupt
from napari_unet.cli.predict import chosen_settings, instance_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.cli.jobs import Training
    from napari_unet.engine.samples import Sample

# The samples' objects are larger than this many pixels; after half a minute specks remain.
_MIN_SIZE = 64


@click.command("demo", short_help="Learn, segment and draw a figure: all on a sample image.")
@click.option(
    "--sample",
    default="ihc",
    show_default=True,
    help="ihc (stained tissue), cells (drawn, touching), cell or coins.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("output/demo"),
    show_default=True,
    help="Folder for the results; made if it is not there.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long to learn.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@instance_options
@json_option
def demo_command(
    sample: str, output: Path, seconds: float, seed: int, as_json: bool, **options: Any
) -> None:
    """Learn from the strokes of a sample image, segment it and write everything.

    Writes annotations, probability map, classes and instances (TIFF), the model and a figure.
    """
    from napari_unet.engine.files import make_folder, write_labels
    from napari_unet.engine.samples import find_sample
    from napari_unet.model.checkpoint import save_model

    chosen = find_sample(sample)
    make_folder(output)
    image = chosen.load()
    annotations = chosen.annotations(image)
    note(f"{chosen.title}: learning for {seconds:g} s from {len(chosen.strokes())} strokes.")
    with stopping_on_interrupt() as stop:
        segmenter, training = _learn(chosen, image, annotations, seconds, seed, stop)
        files = [write_labels(output / f"{sample}_annotations.tif", annotations)]
        if training.losses:
            files.append(save_model(segmenter.model, output / f"{sample}_model.safetensors"))
        probability = None if stop.is_set() else _predict(segmenter, sample, stop)
        interrupted = stop.is_set()
    result: dict[str, Any] = {"sample": sample, **training.summary()}
    if probability is not None:
        files += _save(probability, image, annotations, chosen, training, output, options)
    result["files"] = files
    lines = [training.sentence(), f"Written to {output.resolve()}:"]
    report(result, lines + [f"  {path.name}" for path in files], as_json)
    if interrupted:
        note("Stopped; what was done so far is saved.")
        sys.exit(INTERRUPTED)


def _learn(
    sample: Sample,
    image: NDArray[Any],
    annotations: NDArray[Any],
    seconds: float,
    seed: int,
    stop: Any,
) -> tuple[Any, Training]:
    from napari_unet.cli.jobs import train
    from napari_unet.engine.finetune import FinetuneRequest
    from napari_unet.engine.image import SourceImage
    from napari_unet.engine.segmenter import Segmenter

    source = SourceImage(image)
    segmenter = Segmenter(classes=len(sample.classes), seed=seed)
    segmenter.set_image(source)
    return segmenter, train(segmenter, FinetuneRequest(source, annotations, seconds), stop)


def _predict(segmenter: Any, title: str, stop: Any) -> NDArray[np.float32] | None:
    from napari_unet.cli.jobs import predict_image
    from napari_unet.engine.predict import PredictRequest

    return predict_image(segmenter.model, PredictRequest(segmenter.image), stop, title)


def _save(
    probability: NDArray[np.float32],
    image: NDArray[Any],
    annotations: NDArray[Any],
    sample: Sample,
    training: Training,
    output: Path,
    options: dict[str, Any],
) -> list[Path]:
    from napari_unet.engine.results import InstanceSettings, find_instances, save_results

    settings = chosen_settings(InstanceSettings(min_size=_MIN_SIZE), options)
    instances = find_instances(probability, settings)
    files = list(save_results(output / sample.name, probability, instances))
    try:
        from napari_unet.cli.figure import demo_figure
    except ImportError:
        note("No figure: matplotlib is not installed; pip install matplotlib")
        return files
    path = output / f"{sample.name}_figure.png"
    return [*files, demo_figure(path, image, annotations, probability, instances, sample, training)]
