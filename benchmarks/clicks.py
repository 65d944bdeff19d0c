"""Ways to outline an object by clicks compared: a robot clicks, and everyone gets the same robot.

The robot's first click is at the innermost pixel of the object, each further one at the innermost
pixel of the largest region that is still wrong, positive or negative, until the overlap
(intersection over union) is 0.90, or after 20 clicks. What is counted is how many clicks an overlap
of 0.85 and of 0.90 take (NoC@85, NoC@90), 20 for an object that never gets there, what the overlap
is after 1, 2, 3 and 5 clicks, and how long an answer takes. The robot sees the truth on the whole
image.

Learners:

unet        The network, on whole images. The time to open an image is kept apart.
adapted     The network, which in each image first learns from the true outlines of 10 objects. It
            is measured on other objects of the same image.
unadapted   The same network on the very objects that "adapted" is measured on, to compare with.
others      Flood fill, watershed, random walker, GrabCut; they see a crop, see `clicks_peers.py`.

Objects are drawn at random, the same for everyone. Each row is a file in a folder, written after
every image; what is in it is not done again.

Usage:
    export NAPARI_UNET_DATA=folder
    python benchmarks/clicks.py run                          # everything; hours
    python benchmarks/clicks.py run --learners unet --sets isbi2012_em --objects 10
    python benchmarks/clicks.py run --learners unet adapted unadapted --network FILE --folder FOLDER
    python benchmarks/clicks.py tables --output clicks.md    # of all rows so far
    python benchmarks/clicks.py plot clicks.png
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from clicks_data import (
    SETS,
    ClickImage,
    ClickSet,
    Target,
    data_folder,
    load,
    targets,
    targets_beside_known,
)
from clicks_learners import LEARNERS, NETWORKS, Learner, maker, names_of
from clicks_robot import play
from clicks_rows import BESIDE_KNOWN, MOST_CLICKS, load_rows
from clicks_tables import write_tables

from napari_unet.engine.files import write_atomically
from napari_unet.ops.annotations import annotated_box
from napari_unet.ops.errors import InputError

FOLDER: Final = Path("benchmarks/results/clicks")


# ------------------------------------------------------------------------------------ rows


@dataclass(frozen=True, slots=True)
class Row:
    """One learner on one set.

    Attributes
    ----------
    set
        One of `clicks_data.SETS`.
    learner
        One of `clicks_learners.NETWORKS` or of `clicks_peers.PEERS`.
    objects
        How many objects are to be clicked on.
    seed
        Which.
    clicks
        The most that the robot makes.
    """

    set: str
    learner: str
    objects: int
    seed: int
    clicks: int

    @property
    def key(self) -> str:
        """The name of its file."""
        words = "".join(c if c.isalnum() or c == "." else "-" for c in self.learner.lower())
        return f"{words}_{self.set}_seed{self.seed}"


def run(row: Row, folder: Path, chosen: ClickSet, make: Callable[[], Learner], model: str) -> None:
    """Let the robot click on all objects of a row that it has not clicked on.

    Parameters
    ----------
    row
        What is to be done.
    folder
        Where rows are kept.
    chosen
        The set of the row.
    make
        Makes the learner of the row; called only if something is to be done.
    model
        Which network it has: rows of another one are not gone on with.

    Raises
    ------
    InputError
        If there is a row of another network.
    """
    path = folder / f"{row.key}.json"
    kept = _kept_row(path, row, model)
    known, wanted = _wanted(row, chosen)
    done = {(each["image"], each["label"]) for each in kept["objects"]}
    missing = [each for each in wanted if _key(chosen, each) not in done]
    if not missing:
        print(f"done before: {row.key}")
        return
    learner = make()
    for number, labels in _by_image(missing):
        image = chosen.images[number]
        began = time.perf_counter()
        learner.open(image.image, [image.mask(label) for label in known.get(number, [])])
        kept["opening"].append(time.perf_counter() - began)
        kept["objects"] += [_measured(learner, image, label, row.clicks) for label in labels]
        kept |= {"kind": chosen.kind, "trained": chosen.trained}
        _write(path, kept)
    first = np.mean([each["overlaps"][0] for each in kept["objects"]])
    print(
        f"{row.key}: {len(kept['objects'])} objects, overlap {first:.3f} after one click",
        flush=True,
    )


def _kept_row(path: Path, row: Row, model: str) -> dict[str, Any]:
    """Read what was done of a row, or begin it."""
    fresh = {
        **{key: getattr(row, key) for key in ("set", "learner", "seed", "clicks")},
        "network": model,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "opening": [],
        "objects": [],
    }
    if not path.exists():
        return fresh
    kept: dict[str, Any] = json.loads(path.read_text())
    if kept["network"] != model:
        raise InputError(
            f"{path} is of another network; remove it, or keep the rows of this one in another "
            "--folder"
        )
    # With fewer clicks nobody knows how it would have gone on.
    return kept if kept["clicks"] >= row.clicks else fresh


def _write(path: Path, kept: dict[str, Any]) -> None:
    text = json.dumps(kept).encode()
    write_atomically(path, lambda file: file.write(text))


def _wanted(row: Row, chosen: ClickSet) -> tuple[dict[int, list[int]], list[Target]]:
    if row.learner in BESIDE_KNOWN:
        return targets_beside_known(chosen, row.objects, row.seed)
    return {}, targets(chosen, row.objects, row.seed)


def _key(chosen: ClickSet, target: Target) -> tuple[str, int]:
    return chosen.images[target.image].name, target.label


def _by_image(wanted: Iterable[Target]) -> Iterator[tuple[int, list[int]]]:
    """Return the objects of each image, so that it is opened once."""
    found: dict[int, list[int]] = {}
    for each in wanted:
        found.setdefault(each.image, []).append(each.label)
    yield from sorted(found.items())


def _measured(learner: Learner, image: ClickImage, label: int, most: int) -> dict[str, Any]:
    truth = image.mask(label)
    around = annotated_box(truth)
    if around is None:
        raise InputError(f"there is no object {label} in {image.name}")
    learner.start(around)
    overlaps, seconds = play(truth, learner.answer, most, learner.remembers)
    return {
        "image": image.name,
        "label": label,
        "area": int(truth.sum()),
        "overlaps": [round(each, 4) for each in overlaps],
        "seconds": [round(each, 4) for each in seconds],
    }


# ------------------------------------------------------------------------------------ the script


def run_all(arguments: argparse.Namespace) -> None:
    """Run what was asked for, set by set: all learners of a set can soon be compared."""
    names = names_of(arguments.learners)
    for set_name in arguments.sets:
        chosen = load(set_name, data_folder())
        for name in names:
            most = MOST_CLICKS if name in NETWORKS else arguments.peer_clicks
            row = Row(set_name, name, arguments.objects, arguments.seed, most)
            if not _wanted(row, chosen)[1]:
                print(f"left out: {row.key}, no image has enough objects")
                continue
            run(row, arguments.folder, chosen, *maker(name, arguments.network))


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="let the robot click")
    running.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET")
    running.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    running.add_argument("--objects", type=int, default=100, help="of each set, at most")
    running.add_argument("--seed", type=int, default=0, help="which objects")
    running.add_argument("--network", type=Path, help="other than the bundled one")
    running.add_argument(
        "--peer-clicks",
        type=int,
        default=MOST_CLICKS,
        help="stop peers after so many clicks, which saves time; what is not there by then fails",
    )
    tables = commands.add_parser("tables", help="print the tables of all rows")
    tables.add_argument("--output", type=Path)
    plot = commands.add_parser("plot", help="draw the overlap against the clicks")
    plot.add_argument("output", type=Path, metavar="OUT.png")
    for each in (running, tables, plot):
        each.add_argument("--folder", type=Path, default=FOLDER, help="where rows are kept")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Do what was asked for, or what is left of it."""
    arguments = _parse(words)
    try:
        if arguments.command == "run":
            arguments.folder.mkdir(exist_ok=True, parents=True)
            run_all(arguments)
        elif arguments.command == "tables":
            write_tables(arguments.folder, arguments.output)
        else:
            from clicks_plot import draw

            draw(load_rows(arguments.folder), arguments.output)
            print(arguments.output)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
