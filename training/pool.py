"""A pool of drawn scenes on disk, so that a training does not wait for drawing.

Usage: python training/pool.py FOLDER --count 4000 [--seed 0] [--side 288] [--jobs 2]
Files that are there already are not drawn again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PER_FILE = 50


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A drawing as it is kept, see `procedural.Drawing`: the camera's part in 8 bits."""

    image: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None  # None: a photograph, of which nobody knows
    regions: NDArray[np.uint8]
    instances: NDArray[np.int32]
    kind: str = ""  # one of `procedural.KINDS`; of a photograph nothing


class Pool:
    """The scenes of a folder, all in memory.

    Parameters
    ----------
    folder
        What `fill` has drawn into.
    without
        Groups of drawings (`procedural.GROUPS`) that are left out.
    """

    def __init__(self, folder: Path, without: Collection[str] = ()) -> None:
        with ThreadPoolExecutor() as threads:
            files = threads.map(_read, sorted(folder.glob("scenes_*.npz")))
            scenes = [scene for scenes in files for scene in scenes]
        unwanted = _kinds(without)
        self._scenes = [scene for scene in scenes if scene.kind not in unwanted]
        if not self._scenes:
            raise SystemExit(f"no scenes in {folder}; draw some with training/pool.py")
        if unwanted and not all(scene.kind for scene in scenes):
            raise SystemExit(f"the scenes in {folder} do not tell their kinds; draw them anew")

    def draw(self, rng: np.random.Generator) -> Scene:
        """Take any scene."""
        return self._scenes[int(rng.integers(len(self._scenes)))]


def _read(path: Path) -> list[Scene]:
    names = ("image", "clean", "regions", "instances")
    with np.load(path) as arrays:
        count = int(arrays["count"])
        kinds = arrays["kinds"].tolist() if "kinds" in arrays else [""] * count
        return [
            Scene(*(arrays[f"{name}_{number}"] for name in names), kind)
            for number, kind in enumerate(kinds)
        ]


def _kinds(groups: Collection[str]) -> set[str]:
    from procedural import GROUPS

    if unknown := set(groups) - set(GROUPS):
        raise SystemExit(
            f"no drawings are called {', '.join(unknown)}; there are {', '.join(GROUPS)}"
        )
    return {kind for group in groups for kind in GROUPS[group]}


def fill(folder: Path, count: int, seed: int, side: int, jobs: int = 1) -> None:
    """Draw scenes until there are enough, in as many processes as are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        start for start in range(seed, seed + count, _PER_FILE) if not _file(folder, start).exists()
    ]
    draw = partial(_draw_file, folder, side)
    for path in _done_by(draw, missing, jobs):
        print(path.name, flush=True)


def _done_by(draw: Callable[[int], Path], missing: Sequence[int], jobs: int) -> Iterator[Path]:
    if jobs == 1:
        yield from map(draw, missing)
        return
    with ProcessPoolExecutor(jobs) as processes:
        yield from processes.map(draw, missing)


def _file(folder: Path, start: int) -> Path:
    return folder / f"scenes_{start:07d}.npz"


def _draw_file(folder: Path, side: int, start: int) -> Path:
    from procedural import draw

    arrays: dict[str, NDArray[np.generic]] = {"count": np.asarray(_PER_FILE)}
    kinds = []
    for number in range(_PER_FILE):
        drawing = draw(start + number, side)
        kinds.append(drawing.kind)
        clean = drawing.clean if drawing.clean.ndim == 2 else drawing.clean.mean(axis=2)
        arrays[f"image_{number}"] = _bytes(drawing.image)
        arrays[f"clean_{number}"] = _bytes(clean)
        arrays[f"regions_{number}"] = drawing.regions
        arrays[f"instances_{number}"] = drawing.instances
    arrays["kinds"] = np.asarray(kinds)
    path = _file(folder, start)
    part = path.with_name(f"part_{path.name}")
    np.savez_compressed(part, **arrays)
    part.rename(path)
    return path


def _bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return scaled


def main() -> None:
    """Fill a pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=288)
    parser.add_argument("--jobs", type=int, default=1, help="processes that draw")
    arguments = parser.parse_args()
    fill(arguments.folder, arguments.count, arguments.seed, arguments.side, arguments.jobs)


if __name__ == "__main__":
    main()
