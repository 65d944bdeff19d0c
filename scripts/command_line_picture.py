"""Do the main job from the command line and draw what it wrote: the picture of the tutorial.

Usage: python scripts/command_line_picture.py IMAGE STROKES [--seconds 30] [--output FILE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
import tifffile
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries

from napari_unet.engine.files import read_image
from napari_unet.ops.annotations import draw_strokes, strokes_from_json

mpl.use("Agg")


def run(*arguments: str) -> None:
    """Run one command of the program and print it."""
    print("$ napari-unet", *arguments)
    subprocess.run([sys.executable, "-m", "napari_unet", *arguments], check=True)


def draw(image_path: Path, strokes_path: Path, results: Path, output: Path) -> None:
    """Draw strokes, probability, and objects side by side."""
    image = read_image(image_path).data
    _, strokes = strokes_from_json(strokes_path.read_text("utf-8"))
    painted = draw_strokes(strokes, image.shape[:2])
    stem = image_path.name.split(".")[0]
    probability = tifffile.imread(results / f"{stem}_probabilities.tif")
    instances = tifffile.imread(results / f"{stem}_instances.tif")
    figure = Figure(figsize=(13.5, 4.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis in axes:
        axis.set_axis_off()
        axis.imshow(image, cmap="gray")
    axes[0].set_title("strokes (blue: membrane, orange: cell)")
    axes[0].imshow(
        np.ma.masked_equal(painted, 0), cmap=mpl.colors.ListedColormap(["#0072B2", "#E69F00"])
    )
    axes[1].set_title("probability of cell")
    axes[1].imshow(probability[-1], cmap="cividis", vmin=0, vmax=1)
    axes[2].set_title(f"{instances.max()} objects")
    colours = np.random.default_rng(0).permutation(instances.max() + 1)
    axes[2].imshow(
        np.ma.masked_where(instances == 0, colours[instances]), cmap="viridis", alpha=0.45
    )
    edges = np.ma.masked_equal(find_boundaries(instances, mode="inner"), 0)
    axes[2].imshow(edges, cmap=mpl.colors.ListedColormap(["#E69F00"]))
    figure.savefig(output, dpi=90)


def main() -> None:
    """Run the commands and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("strokes", type=Path)
    parser.add_argument("--seconds", default="30")
    parser.add_argument("--output", type=Path, default=Path("docs/images/em-command-line.png"))
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        model, results = f"{folder}/em.safetensors", f"{folder}/em"
        image, strokes = str(arguments.image), str(arguments.strokes)
        run("fine-tune", image, strokes, "-o", model, "--seconds", arguments.seconds)
        run("predict", image, "--model", model, "-o", results)
        draw(arguments.image, arguments.strokes, Path(results), arguments.output)


if __name__ == "__main__":
    main()
