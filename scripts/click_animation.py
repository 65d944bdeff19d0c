"""Take the animated picture of the Click dock: the real window, used by mouse and keys.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python scripts/click_animation.py
       [--image FILE --at ROW,COLUMN ...] [--output docs/images/clicks.gif]

Without --image the sample of touching cells is clicked on, in its four largest cells. The picture
in the docs shows image 213 of the Data Science Bowl 2018 (BBBC038, CC0): --at 123,174 --at 183,278
--at 311,290 --at 377,217.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from robot import Robot

from napari_unet.engine.files import ImageFile, read_image
from napari_unet.ops.clicks import innermost, known_outlines
from napari_unet.ops.synthetic import touching_cells
from napari_unet.viewer.app import open_window
from napari_unet.viewer.clicking.session import ClickSession
from napari_unet.viewer.controller import controller_for

_FRAME_MS = 900
_LAST_FRAME_MS = 2500
_WIDTH = 900
_CLICKED = 4


class Film:
    """Frames of a window."""

    def __init__(self, robot: Robot, folder: Path) -> None:
        self._robot = robot
        self._folder = folder
        self._frames: list[Image.Image] = []

    def take(self, times: int = 1) -> None:
        """Take a picture, shown for so many times as long as others."""
        path = self._folder / "frame.png"
        self._robot.viewer.screenshot(str(path), canvas_only=False, flash=False)
        with Image.open(path) as picture:
            height = round(picture.height * _WIDTH / picture.width)
            small = picture.convert("RGB").resize((_WIDTH, height), Image.Resampling.LANCZOS)
        self._frames += [small] * times

    def save(self, path: Path) -> None:
        """Write all frames as one animated picture."""
        width, height = self._frames[0].size
        strip = Image.new("RGB", (width, height * len(self._frames)))
        for number, frame in enumerate(self._frames):
            strip.paste(frame, (0, height * number))
        palette = strip.quantize(200, dither=Image.Dither.NONE)
        frames = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in self._frames]
        durations = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
        )


def drawn_cells() -> tuple[ImageFile, list[tuple[float, float]]]:
    """Return the sample of touching cells, and the middles of some of its cells."""
    image, instances = touching_cells(shape=(512, 512), cells=60, seed=0)
    largest = sorted(known_outlines(instances), key=lambda each: -each.mask.sum())[:_CLICKED]
    places = []
    for outline in largest:
        row, column = innermost(outline.mask)
        places.append((float(row + outline.box[0].start), float(column + outline.box[1].start)))
    return ImageFile(image, "YX", None, None, Path("touching cells.tif")), places


def click(robot: Robot, session: ClickSession, place: tuple[float, float]) -> None:
    """Click on an object and wait for its outline."""
    point = robot.canvas_point(place)
    robot.move(point)
    QTest.mouseClick(
        robot.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(point)
    )
    hand = session.hand
    robot.wait_until(
        lambda: hand.current is not None and hand.current.outline_on(()) is not None, 60
    )
    robot.wait(0.2)


def play(robot: Robot, film: Film, places: list[tuple[float, float]]) -> None:
    """Click on some objects, and have the others proposed and accepted."""
    session = controller_for(robot.viewer).findChild(ClickSession)
    robot.open_dock("Click")
    robot.press("Click objects")
    film.take()
    for number, place in enumerate(places):
        click(robot, session, place)
        film.take(2 if number == 0 else 1)
        robot.key(Qt.Key.Key_Return)
        robot.wait_until(lambda: session.hand.current is None, 20)
        film.take()
    robot.wait(0.3)
    robot.press("Segment all like these")
    robot.wait_until(lambda: not session.is_busy, 300)
    robot.wait(0.3)
    film.take(2)
    robot.press("Accept all")
    robot.wait(0.3)
    film.take()


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images/clicks.gif"))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--at", action="append", default=[])
    arguments = parser.parse_args()
    if arguments.image is None:
        image, places = drawn_cells()
    else:
        image = read_image(arguments.image)
        places = [tuple(float(x) for x in text.split(",")) for text in arguments.at]
    viewer = open_window(image)
    robot = Robot(viewer)
    robot.window.resize(1400, 900)
    robot.wait(1.5)
    with TemporaryDirectory() as folder:
        film = Film(robot, Path(folder))
        play(robot, film, places)
        film.save(arguments.output)
    viewer.close()


if __name__ == "__main__":
    main()
