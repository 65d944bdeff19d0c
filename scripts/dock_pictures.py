"""Pictures of the Train and the Evaluate dock at work on drawn cells, for the documentation.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python scripts/dock_pictures.py [--output docs/images]
       [--theme dark]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from robot import Robot

from napari_unet.ops.synthetic import touching_cells
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.evaluate_widget import EvaluateWidget
from napari_unet.viewer.train.widget import TrainWidget


def new_window() -> tuple[Any, Robot]:
    """Open a window of the size of a laptop's."""
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1400, 880)
    return viewer, Robot(viewer)


def close(viewer: Any) -> None:
    """End the session's jobs and close the window."""
    controller_for(viewer).close()
    viewer.close()


def evaluate_picture(path: Path) -> None:
    """Take the Evaluate dock after it has judged objects with one error of each kind."""
    viewer, robot = new_window()
    image, truth = touching_cells((400, 400), seed=3)
    wrong = truth.copy()
    wrong[truth == 2] = 0
    wrong[truth == 5] = 6
    columns = np.indices(truth.shape)[1]
    wrong[(truth == 9) & (columns > columns[truth == 9].mean())] = truth.max() + 1
    viewer.add_image(image, name="cells")
    layers = [
        viewer.add_labels(labels, name=name, visible=False)
        for labels, name in ((truth, "truth"), (wrong, "prediction"))
    ]
    dock = EvaluateWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Evaluate", area="right")
    robot.wait(1)
    dock.truth.combo.value, dock.prediction.combo.value = layers
    dock.run.click()
    robot.wait_until(lambda: dock.scores.model() is not None)
    robot.wait(1)
    viewer.screenshot(str(path), canvas_only=False)
    close(viewer)


def train_picture(path: Path) -> None:
    """Take the Train dock while it learns from five layers of drawn cells."""
    viewer, robot = new_window()
    for seed in range(5):
        image, labels = touching_cells((320, 320), 40 + seed, seed=seed)
        viewer.add_image(image, name=f"cells {seed}", visible=seed == 0)
        viewer.add_labels(labels, name=f"cells {seed} labels", visible=seed == 0)
    dock = TrainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Train", area="right")
    path = path.absolute()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        dock.output.set_path("cells.safetensors")  # a name that anybody could have chosen
        robot.wait_until(lambda: dock.train.isEnabled())
        dock.train.click()
        robot.wait_until(lambda: len(dock.training.history.scores) >= 3, 300)
        robot.wait(1)
        viewer.screenshot(str(path), canvas_only=False)
        dock.training.close()
        robot.wait(2)
        close(viewer)


def main() -> None:
    """Take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--theme", choices=["dark", "light"], default="dark")
    arguments = parser.parse_args()
    get_settings().appearance.theme = arguments.theme
    evaluate_picture(arguments.output / "evaluate.png")
    train_picture(arguments.output / "train.png")


if __name__ == "__main__":
    main()
