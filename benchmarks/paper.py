"""The paper, reproduced: its figures, its ablations and its peers, each row by one command.

Every row is trained on images that the test does not have and scored on the test images, with
thresholds chosen on validation images. What was done is kept in a folder and not done again; a
training that was cut off goes on where it was.

Usage:
    export NAPARI_UNET_DATA=folder
    python benchmarks/paper.py run em --minutes 60              # or nuclei, hela, simplus
    python benchmarks/paper.py run hela --minutes 20 --set w0=0 --name "no border weights"
    python benchmarks/paper.py ablation em --minutes 10 --seeds 3
    python benchmarks/paper.py peers nuclei --minutes 60
    python benchmarks/paper.py rescore
    python benchmarks/paper.py tables --output tables.md        # of all rows so far
Options: --runs FOLDER (default: runs), --seed N, --fold K, --recipe paper, --steps N
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paper_data import load
from paper_scores import score_boundaries, score_objects
from paper_tables import write_tables

from napari_unet.engine.dataset import LabelledSet, Split, split_by_image
from napari_unet.engine.events import Noticed, TrainingFinished, ValidationMeasured
from napari_unet.engine.training.recipe import RECIPES, Recipe, recipe_with
from napari_unet.engine.training.run import state_path, train_to_file
from napari_unet.engine.training.train import TrainRequest
from napari_unet.engine.training.validation import Validator
from napari_unet.model.checkpoint import load_model

SETS = ("em", "nuclei", "hela", "simplus")
PEERS = {
    "em": ("random-forest", "monai"),
    "nuclei": ("random-forest", "bioimageio", "monai"),
    "hela": ("random-forest", "monai"),
    "simplus": ("random-forest", "bioimageio", "monai"),
}
# One ingredient of the paper removed in turn, from a narrow network with all of them.
_BASIS = ("base_channels=16", "balance=1", "class_borders=true")
ABLATIONS = {
    "all ingredients": _BASIS,
    "no border weights": (*_BASIS, "w0=0"),
    "no class balance": (*_BASIS, "balance=0"),
    "no elastic deformation": (*_BASIS, "augment.elastic_sigma=0"),
    "no dropout": (*_BASIS, "dropout=0"),
    "no rotation averaging": (*_BASIS, "averaging=none"),
}


@dataclass(frozen=True)
class Row:
    """One line of a table: what is trained on what, and for how long."""

    set: str
    name: str
    recipe: Recipe
    minutes: float | None
    steps: int | None
    seed: int
    fold: int
    group: str = "figure"

    @property
    def key(self) -> str:
        """The name of its files."""
        words = "".join(c if c.isalnum() else "-" for c in self.name.lower())
        length = f"{self.minutes:g}min" if self.minutes else f"{self.steps}steps"
        return f"{self.group}_{self.set}_{words}_{length}_fold{self.fold}_seed{self.seed}"

    @property
    def trained_as(self) -> Row:
        """The row whose network it uses: averaging is a matter of prediction alone."""
        if self.name != "no rotation averaging":
            return self
        recipe = recipe_with("default", ABLATIONS["all ingredients"])
        return replace(self, name="all ingredients", recipe=recipe)


def run(row: Row, runs: Path, data: Path) -> None:
    """Train, predict and score a row, unless that was done."""
    result = runs / f"{row.key}.json"
    if result.exists():
        print(f"done before: {row.key}")
        return
    print(f"== {row.key}", flush=True)
    split = load(row.set, data, row.fold)
    model = runs / f"{row.trained_as.key}.safetensors"
    held_out = hold_out(row.set, split.train, row.seed)
    request = TrainRequest(
        held_out.train,
        held_out.validation,
        row.recipe,
        seconds=None if row.minutes is None else row.minutes * 60,
        steps=row.steps,
        seed=row.seed,
        patience=1000 if row.steps else 25,
        state_path=state_path(model),
    )
    finished = train(request, model) if not model.exists() else None
    maps = runs / f"{row.key}.npz"
    if not maps.exists():
        predict(row, model, maps, held_out.validation, split.test)
    scores = score(row.set, maps, row.recipe, held_out.validation, split.test)
    result.write_text(
        json.dumps(
            {
                **{k: getattr(row, k) for k in ("set", "name", "group", "seed", "fold")},
                "minutes": row.minutes,
                "steps": finished.step if finished else row.steps,
                "seconds": finished.seconds if finished else None,
                "recipe": row.recipe.to_dict(),
                "train": [image.name for image in held_out.train.images],
                "validation": [image.name for image in held_out.validation.images],
                "test": [image.name for image in split.test.images],
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
                "scores": scores,
            },
            indent=1,
        )
    )
    print(json.dumps(scores["mean"]), flush=True)


def hold_out(name: str, labelled: LabelledSet, seed: int) -> Split:
    """Hold out validation images; of the 15 EM sections two, so that 13 are learned from."""
    if name != "em":
        return split_by_image(labelled, 0.2, seed=seed)
    alone = tuple(replace(image, group="") for image in labelled.images)
    return split_by_image(replace(labelled, images=alone), 0.13, seed=seed)


def train(request: TrainRequest, model: Path) -> TrainingFinished:
    """Train and say now and then how it goes."""
    for event in train_to_file(request, model, command=" ".join(sys.argv)):
        match event:
            case ValidationMeasured():
                print(f"  step {event.step}: {event.measure} {event.value:.4f}", flush=True)
            case Noticed():
                print(f"  {event.message}", flush=True)
            case TrainingFinished():
                finished = event
    return finished


def predict(row: Row, model: Path, maps: Path, validation: LabelledSet, test: LabelledSet) -> None:
    """Predict validation and test images with the saved model, and keep the probabilities."""
    network, validator = load_model(model), Validator(validation, row.recipe)
    arrays = {}
    for part, labelled in (("validation", validation), ("test", test)):
        for image in labelled.images:
            probability = validator.predict(network, image, "fp32")
            arrays[f"{part}/{image.name}"] = probability[1:].astype(np.float16)
    np.savez_compressed(maps, **arrays)


def score(
    name: str, maps: Path, recipe: Recipe, validation: LabelledSet, test: LabelledSet
) -> dict[str, Any]:
    """Score probabilities, of ours or of a peer; all thresholds are chosen on validation images."""
    arrays = np.load(maps)
    parts = {
        part: [_all_classes(arrays[f"{part}/{image.name}"]) for image in labelled.images]
        for part, labelled in (("validation", validation), ("test", test))
    }
    if name == "em":
        foreground = {part: [1 - p[0] for p in found] for part, found in parts.items()}
        return score_boundaries(foreground, validation, test)
    choice = Validator(validation, recipe).choose_settings(parts["validation"])
    return score_objects(parts["test"], test, choice.settings)


def _all_classes(kept: NDArray[Any]) -> NDArray[np.float32]:
    """Put the background back: (Y, X) or (classes - 1, Y, X) as (classes, Y, X)."""
    others = np.atleast_3d(kept.astype(np.float32).T).T
    return np.concatenate([1 - others.sum(axis=0, keepdims=True), others])


def run_peer(
    peer: str, name: str, minutes: float, seed: int, fold: int, runs: Path, data: Path
) -> None:
    """Train and score a peer, unless that was done."""
    key = f"peer_{name}_{peer}_{minutes:g}min_fold{fold}_seed{seed}"
    result, maps = runs / f"{key}.json", runs / f"{key}.npz"
    if result.exists():
        print(f"done before: {key}")
        return
    print(f"== {key}", flush=True)
    split = load(name, data, fold)
    held_out = hold_out(name, split.train, seed).validation
    if not maps.exists():
        command = [sys.executable, str(Path(__file__).with_name("peers.py")), "--peer", peer]
        command += ["--set", name, "--minutes", str(minutes), "--seed", str(seed)]
        command += ["--fold", str(fold), "--output", str(maps)]
        command += ["--validation", *(image.name for image in held_out.images)]
        subprocess.run(command, check=True)
    scores = score(name, maps, Recipe(outline="none"), held_out, split.test)
    row: dict[str, Any] = {"set": name, "name": peer, "group": "peer", "seed": seed, "fold": fold}
    row["about"] = json.loads(str(np.load(maps)["about"]))
    result.write_text(json.dumps({**row, "minutes": minutes, "scores": scores}, indent=1))
    print(json.dumps(scores["mean"]), flush=True)


def rescore(runs: Path, data: Path) -> None:
    """Score everything that was kept again, after a measure was added or changed."""
    for path in sorted(runs.glob("*.json")):
        row = json.loads(path.read_text())
        split = load(row["set"], data, row["fold"])
        held_out = hold_out(row["set"], split.train, row["seed"]).validation
        recipe = Recipe.from_dict(row["recipe"]) if "recipe" in row else Recipe(outline="none")
        row["scores"] = score(row["set"], path.with_suffix(".npz"), recipe, held_out, split.test)
        path.write_text(json.dumps(row, indent=1))
        print(path.stem, json.dumps(row["scores"]["mean"]), flush=True)


def rows_of(arguments: argparse.Namespace) -> Iterable[Row]:
    """Return the rows that were asked for."""
    length = {"minutes": None if arguments.steps else arguments.minutes, "steps": arguments.steps}
    if arguments.command == "run":
        recipe = recipe_with(arguments.recipe, tuple(arguments.set))
        name = arguments.name or arguments.recipe
        yield Row(arguments.data, name, recipe, **length, seed=arguments.seed, fold=arguments.fold)
        return
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        for name, changes in ABLATIONS.items():
            recipe = recipe_with("default", (*changes, *arguments.set))
            yield Row(arguments.data, name, recipe, **length, seed=seed, fold=0, group="ablation")


def main() -> None:
    """Do what was asked for, or what is left of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "ablation", "peers", "rescore", "tables"))
    parser.add_argument("data", nargs="?", choices=SETS, default="em")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--recipe", default="default", choices=tuple(RECIPES))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--name", help="what to call the row")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folder = os.environ.get("NAPARI_UNET_DATA")
    if folder is None:
        sys.exit("set NAPARI_UNET_DATA to the folder that holds the data sets")
    arguments.runs.mkdir(exist_ok=True, parents=True)
    if arguments.command == "tables":
        write_tables(arguments.runs, arguments.output)
    elif arguments.command == "rescore":
        rescore(arguments.runs, Path(folder))
    elif arguments.command == "peers":
        for peer in PEERS[arguments.data]:
            run_peer(
                peer,
                arguments.data,
                arguments.minutes,
                arguments.seed,
                arguments.fold,
                arguments.runs,
                Path(folder),
            )
    else:
        for row in rows_of(arguments):
            run(row, arguments.runs, Path(folder))


if __name__ == "__main__":
    main()
