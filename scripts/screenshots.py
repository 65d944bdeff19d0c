"""Take the pictures of the README and the docs: the real window, used by mouse and keys.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python scripts/screenshots.py [--output docs/images]
       [--image FILE --strokes FILE --prefix em] [--seconds 30]

Without --image the immunohistochemistry sample is used with its bundled strokes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from robot import Robot

from napari_unet.engine.files import read_image
from napari_unet.engine.samples import find_sample
from napari_unet.ops.annotations import Stroke, strokes_from_json
from napari_unet.viewer.app import open_window
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.results import save_as_tiff
from napari_unet.viewer.status import Phase


def paint(robot: Robot, strokes: list[Stroke]) -> None:
    """Paint strokes with the mouse, each with its class and brush."""
    controller = controller_for(robot.viewer)
    for stroke in strokes:
        robot.press(str(stroke.label))
        controller.layers.annotations.brush_size = max(1, round(2 * stroke.radius))
        robot.stroke(stroke.points)
    robot.wait(0.5)


def settle(robot: Robot) -> None:
    """Wait until nothing runs."""
    controller = controller_for(robot.viewer)
    robot.wait_until(
        lambda: controller.status.phase is Phase.IDLE and not controller.lane.is_busy(), 300
    )


def take(robot: Robot, strokes: list[Stroke], folder: Path, prefix: str, seconds: float) -> None:
    """Go through the whole line and take a picture at every stage."""
    controller = controller_for(robot.viewer)
    robot.screenshot(folder / f"{prefix}-1-open.png")
    paint(robot, strokes)
    settle(robot)  # the answer at once
    robot.screenshot(folder / f"{prefix}-2-strokes.png")
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 5, 120)
    robot.wait(seconds)
    robot.screenshot(folder / f"{prefix}-3-learning.png")
    robot.press("Stop")
    settle(robot)
    robot.open_dock("Predict")
    robot.press("Find objects")
    settle(robot)
    robot.screenshot(folder / f"{prefix}-4-objects.png")
    with TemporaryDirectory() as results:
        save_as_tiff(controller, results)
        controller.network.save(Path(results) / "model")
        settle(robot)
        print(*sorted(path.name for path in Path(results).iterdir()))
    image = controller.layers.image.name
    robot.viewer.layers[f"{image}: instances"].visible = False
    robot.open_dock("Weight map")
    robot.choose(f"{image}: instances")
    robot.press("Show weight map")
    robot.wait(2)
    robot.screenshot(folder / f"{prefix}-5-weights.png")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--strokes", type=Path)
    parser.add_argument("--prefix", default="ihc")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--theme", choices=["dark", "light"], default="dark")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.strokes is not None:
        _, strokes = strokes_from_json(arguments.strokes.read_text("utf-8"))
    else:
        strokes = find_sample("ihc").strokes()
    viewer = open_window(None if arguments.image is None else read_image(arguments.image))
    viewer.theme = arguments.theme
    robot = Robot(viewer)
    robot.window.resize(1400, 900)
    robot.wait(1.5)
    take(robot, strokes, arguments.output, arguments.prefix, arguments.seconds)
    viewer.close()


if __name__ == "__main__":
    main()
