"""The short form of `benchmarks/strokes.py`: everything that it does, on small drawn images."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from imageio.v3 import imread, imwrite
from tifffile import imwrite as write_tiff

from napari_unet.engine.plan import ExecutionPlan
from napari_unet.ops.annotations import draw_strokes
from napari_unet.ops.errors import InputError
from napari_unet.ops.synthetic import touching_cells

FOLDER = Path(__file__).parents[1] / "benchmarks"
SET = "dsb2018_fluorescence"


@pytest.fixture(scope="module")
def benchmark():
    """Return the modules of the benchmark."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    parts = ("data", "robot", "scores", "learners", "tables", "plot", "pictures")
    modules = {part: importlib.import_module(f"strokes_{part}") for part in parts}
    yield SimpleNamespace(main=importlib.import_module("strokes"), **modules)
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if name == "report" or name.startswith("strokes"):
            del sys.modules[name]


class Nearest:
    """Calls a pixel what the painted grey value nearest to it is: quick, and good on drawings."""

    anytime, model = False, None

    def __init__(self, name="forest"):
        self.name = name
        self.budgets = []

    def start(self, classes, seed):
        self.classes = classes

    def learn(self, image, annotations, seconds):
        self.budgets.append(seconds)
        grey = image.reshape(*annotations.shape, -1).mean(axis=2)
        labels = range(1, self.classes + 1)
        self.means = np.array([grey[annotations == label].mean() for label in labels])

    def predict(self, image):
        grey = image.mean(axis=2) if image.ndim == 3 else image
        closeness = 1 / (1 + np.abs(grey - self.means[:, None, None]))
        return (closeness / closeness.sum(axis=0)).astype(np.float32)


@pytest.fixture
def run(benchmark, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NAPARI_UNET_DATA", str(data))
    monkeypatch.setitem(benchmark.learners.LEARNERS, "forest", lambda _: Nearest())

    def invoke(*words):
        benchmark.main.main([*map(str, words), "--runs", str(tmp_path)])
        return capsys.readouterr().out

    return invoke


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Fluorescent nuclei, sections and scribbles, with drawn cells in place of what they show."""
    folder = tmp_path_factory.mktemp("data")
    parts = ("dsb2018/images", "dsb2018/masks", "isbi2012_em/images", "isbi2012_em/labels")
    for part in (*parts, "sparse_scribbles/images", "sparse_scribbles/scribbles"):
        (folder / part).mkdir(parents=True)
    rows = ["name,kaggle_id,colour,background,height,width,n_nuclei,foreground_fraction"]
    for number in range(9):
        image, labels = touching_cells((96, 96), 6 + number, seed=number)
        imwrite(folder / "dsb2018" / "images" / f"{number:03}.png", image)
        write_tiff(folder / "dsb2018" / "masks" / f"{number:03}.tif", labels.astype(np.uint16))
        colour = "grey,dark" if number < 7 else "color,bright"
        rows.append(f"{number:03},x,{colour},96,96,{labels.max()},0.5")
        imwrite(folder / "isbi2012_em" / "images" / f"{number:02}.png", image)
        inside = np.where(labels > 0, 255, 0).astype(np.uint8)
        imwrite(folder / "isbi2012_em" / "labels" / f"{number:02}.png", inside)
    (folder / "dsb2018" / "index.csv").write_text("\n".join(rows))
    drawn = np.where(labels <= 3, labels, 0).astype(np.uint8)
    imwrite(folder / "sparse_scribbles" / "images" / "cells.png", image)
    imwrite(folder / "sparse_scribbles" / "scribbles" / "cells.png", drawn)
    return folder


def test_a_seed_chooses_one_image_to_paint_on_and_two_others_of_the_kind(benchmark, data):
    chosen = [benchmark.data.load(SET, data, seed) for seed in (0, 0, 1, 2, 3)]
    names = [[each.painted.name, *(other.name for other in each.others)] for each in chosen]
    assert names[0] == names[1]
    assert len({tuple(each) for each in names}) > 1
    for each in names:
        assert len(set(each)) == 3
        assert not {"007", "008"} & set(each)


def test_truth_is_one_for_background_and_parts_objects_that_touch(benchmark, data):
    nuclei = benchmark.data.load(SET, data).painted
    assert set(np.unique(nuclei.truth)) == {1, 2}
    _, labels = touching_cells((96, 96), 6 + int(nuclei.name), seed=int(nuclei.name))
    inside = (nuclei.truth[:, 1:] == 2) & (nuclei.truth[:, :-1] == 2)
    assert (labels[:, 1:] == labels[:, :-1])[inside].all()
    assert not (nuclei.truth[labels == 0] == 2).any()
    section = benchmark.data.load("isbi2012_em", data).painted
    _, labels = touching_cells((96, 96), 6 + int(section.name), seed=int(section.name))
    assert ((section.truth == 2) == (labels == 0)).all()


def test_large_images_are_cut_where_all_classes_are(benchmark, data, tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "deepcell_hela_phase" / part).mkdir(parents=True)
    for number in range(3):
        image, labels = np.zeros((2, 700, 900), np.uint16)
        labels[620:680, 20:400] = 1
        image[labels > 0] = number + 1
        write_tiff(tmp_path / "deepcell_hela_phase" / "images" / f"{number}.tif", image)
        write_tiff(tmp_path / "deepcell_hela_phase" / "masks" / f"{number}.tif", labels)
    chosen = benchmark.data.load("deepcell_hela_phase", tmp_path)
    for each in (chosen.painted, *chosen.others):
        assert each.image.shape == each.truth.shape == (512, 512)
        assert ((each.image > 0) == (each.truth == 2)).all()
        assert (each.truth == 2).mean() >= 0.01


def test_what_is_not_there_is_named(benchmark, data, tmp_path):
    with pytest.raises(InputError, match="no set"):
        benchmark.data.load("nebulae", data)
    with pytest.raises(InputError, match="is not there"):
        benchmark.data.load("vnc_membranes", data)
    with pytest.raises(InputError, match="no learner"):
        benchmark.learners.make("oracle")
    missing = benchmark.learners.Options(tmp_path / "missing.safetensors")
    learner = benchmark.learners.make("unet", missing)
    learner.start(2, 0)
    nothing = np.zeros((64, 64), np.uint8)
    with pytest.raises(InputError, match="cannot be read"):
        learner.learn(nothing, nothing, 1)


def test_users_objects_become_class_two_and_their_rims_background(benchmark, data):
    [drawn] = benchmark.data.scribbled(data)
    objects = imread(data / "sparse_scribbles" / "scribbles" / "cells.png")
    assert not (objects[drawn.truth == 2] == 0).any()
    assert (drawn.truth == 1).any()
    assert (drawn.truth == 0).mean() > 0.3


def test_strokes_stay_in_their_class_and_later_rounds_keep_earlier_strokes(benchmark):
    _, labels = touching_cells((128, 128), 8, seed=2)
    truth = 1 + (labels > 0).astype(np.uint8)
    asked = []

    def nobody_is_right(annotations):
        asked.append(annotations)
        return 3 - truth

    strokes = benchmark.robot.rounds(truth, (2, 5, 10), nobody_is_right, seed=0)
    canvas = benchmark.robot.annotate(strokes, 10, truth.shape)
    assert (canvas == truth)[canvas > 0].all()
    assert len(asked) == 2
    assert (asked[0] == benchmark.robot.annotate(strokes, 2, truth.shape)).all()
    assert (asked[1] == benchmark.robot.annotate(strokes, 5, truth.shape)).all()
    for label in (1, 2):
        assert (canvas == label).sum() <= 0.6 * (truth == label).sum()
    # Painting goes on where it ended, and gives the same as in one go.
    first = benchmark.robot.rounds(truth, (2, 5), nobody_is_right, seed=0)
    assert benchmark.robot.rounds(truth, (2, 5, 10), nobody_is_right, 0, first) == strokes


def test_corrections_go_to_the_largest_and_deepest_error(benchmark):
    truth = np.ones((120, 200), np.uint8)
    truth[20:100, 100:] = 2
    predicted = truth.copy()
    predicted[40:80, 140:190] = 1  # missed, large
    predicted[22:25, 105:195] = 1  # missed, as long but thin
    predicted[50:60, 20:30] = 2  # spurious
    nothing = np.zeros_like(truth)
    background, other = benchmark.robot.corrections(truth, nothing, predicted, 1, seed=0)
    assert (background.label, other.label) == (1, 2)
    assert predicted[tuple(map(int, background.points[0]))] == 2
    row, column = other.points[0]
    assert 55 <= row <= 64
    assert 155 <= column <= 175
    # With that one painted, the next goes elsewhere, and does not touch it.
    painted = draw_strokes([other], truth.shape)
    second = benchmark.robot.corrections(truth, painted, predicted, 1, seed=1)[1]
    assert not (draw_strokes([second], truth.shape)[painted > 0]).any()


def test_strokes_end_where_half_of_a_class_is_painted(benchmark):
    truth = np.ones((60, 60), np.uint8)
    truth[20:32, 20:40] = 2
    wrong = np.ones_like(truth)
    strokes = benchmark.robot.corrections(truth, np.zeros_like(truth), wrong, 50, seed=0)
    canvas = draw_strokes(strokes, truth.shape)
    assert 0 < (canvas == 2).sum() < 0.75 * (truth == 2).sum()
    assert (canvas[canvas > 0] == truth[canvas > 0]).all()


def test_scores_are_those_worked_out_by_hand(benchmark):
    truth = np.array([[1, 1, 2, 2, 0, 2]], np.uint8)
    second = np.array([[0.1, 0.4, 0.4, 0.9, 0.9, 0.2]], np.float32)
    painted = np.array([[0, 0, 0, 0, 0, 2]], np.uint8)
    found = benchmark.scores.score(np.stack([1 - second, second]), truth, painted)
    # Of four pixels: 0.9 is a hit, 0.4 (class) is missed; at 0.4, two hits and one false.
    assert found == pytest.approx({"IoU": 1 / 2, "best IoU": 2 / 3, "AUC": 3.5 / 4})


def test_scores_of_three_classes_are_means_over_all_but_the_background(benchmark):
    truth = np.array([[1, 2, 3, 3]], np.uint8)
    answer = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]].T[:, None]
    found = benchmark.scores.score(answer, truth)
    assert found["IoU"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["AUC"] == pytest.approx((1 + 3 / 4) / 2)


def test_rows_are_run_once_and_everyone_gets_the_same_strokes(
    run, benchmark, monkeypatch, tmp_path
):
    slow = Nearest("slow")
    slow.anytime = True
    monkeypatch.setitem(benchmark.learners.LEARNERS, "slow", lambda _: slow)
    asked = ("run", "--sets", SET, "--strokes", 2, 5, "--seconds", 1, 2, "--seeds", 1)
    said = run(*asked, "--learners", "forest", "slow")
    assert said.count("IoU") == 4
    rows = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*seed0.json")}
    assert len(rows) == 4
    ours, theirs = (rows[f"{name}_{SET}_5strokes_seed0"] for name in ("slow", "forest"))
    assert ours["drawn"] == theirs["drawn"] == [5, 5]
    assert ours["annotated"] == theirs["annotated"] > 0
    # The same learner by two names: the same scores, once for each length and once in all.
    assert [entry["seconds"] for entry in ours["measured"]] == [1, 2]
    assert len(theirs["measured"]) == 1
    for entry in ours["measured"]:
        assert entry["same"] == theirs["measured"][0]["same"]
        assert entry["other"] == theirs["measured"][0]["other"]
    assert ours["measured"][0]["same"]["IoU"] > 0.5
    # It was told to go on for what is left of the time.
    assert slow.budgets[-2] == 1
    assert 1 < slow.budgets[-1] < 2
    strokes = (tmp_path / f"strokes_{SET}_seed0.stroke.json").read_text()
    assert run(*asked, "--learners", "forest", "slow").count("done before") == 4
    assert "IoU" in run(*asked[:-5], "--seconds", 3, "--seeds", 1, "--learners", "slow")
    assert (tmp_path / f"strokes_{SET}_seed0.stroke.json").read_text() == strokes


def test_tables_compare_with_the_forest_set_by_set(benchmark):
    def row(name, where, iou, learner, strokes=5, seconds=2.0, seed=0):
        scores = {"IoU": iou, "best IoU": iou, "AUC": iou}
        entry = {"seconds": seconds, "learning": 1.5, "predicting": 0.5}
        entry |= {"same": scores, "other": scores}
        anytime = learner != "forest"
        return {"set": name, "kind": where, "name": learner, "strokes": strokes, "seed": seed} | {
            "anytime": anytime,
            "measured": [entry],
        }

    rows = benchmark.tables.Rows(
        [
            row("a", "cells", 0.4, "forest"),
            row("a", "cells", 0.6, "forest", seed=1),
            row("b", "cells", 0.8, "forest"),
            row("c", "cells", 0.9, "forest"),
            row("a", "cells", 0.7, "net"),
            row("b", "cells", 0.7, "net"),
            row("a", "cells", 0.6, "forest", strokes=20),
            row("b", "cells", 0.8, "forest", strokes=20),
            row("a", "cells", 0.9, "net", strokes=20),
            row("b", "cells", 0.9, "net", strokes=20),
        ]
    )
    table = benchmark.tables.set_table(rows, 5, "same")
    assert "| a | 0.500 | 0.700 |" in table
    assert "| c | 0.900 |  |" in table
    assert "| minus the forest |  | +0.050 |" in table
    assert "| sets at or above the forest |  | 1 of 2 |" in table
    assert "| +0.050 | 1 of 2 | +0.050 | 1 of 2 |" in benchmark.tables.figure_table(rows)
    needed = benchmark.tables.need_table(rows).splitlines()
    assert "| net, 2 s | same image | 5 or fewer | 5 or fewer |" in needed


def test_strokes_needed_are_read_off_the_curve(benchmark):
    curve = [(2, 0.4), (8, 0.6)]
    assert benchmark.tables.strokes_needed(curve, 0.3) == 2
    assert benchmark.tables.strokes_needed(curve, 0.5) == pytest.approx(4)
    assert benchmark.tables.strokes_needed(curve, 0.7) is None


def test_tables_plots_and_pictures_are_written(run, benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark.tables, "machine", lambda: "a machine")
    run("run", "--sets", SET, "isbi2012_em", "--short", "--learners", "forest")
    run("tables", "--output", tmp_path / "tables.md")
    text = (tmp_path / "tables.md").read_text()
    for words in ("Against the forest", "best IoU, other images", f"| {SET} |", "Seconds"):
        assert words in text
    for line in run("plot", "--output", tmp_path / "plots").split():
        assert imread(line).std() > 1
    [picture] = run("pictures", "--learners", "forest", "--output", tmp_path).split()
    assert imread(picture).shape == (96, 4 * 96 - 96 + 16, 3)


def test_the_forest_tells_cells_from_background(benchmark):
    pytest.importorskip("sklearn")
    image, labels = touching_cells((96, 96), 6, seed=1)
    truth = 1 + (labels > 0).astype(np.uint8)
    strokes = benchmark.robot.random_strokes(truth, 3, seed=0)
    annotations = draw_strokes(strokes, truth.shape)
    forest = benchmark.learners.make("forest")
    forest.start(2, seed=0)
    forest.learn(image, annotations, 1)
    probability = forest.predict(image)
    assert probability.shape == (2, 96, 96)
    assert probability.sum(axis=0) == pytest.approx(1)
    assert benchmark.scores.score(probability, truth, annotations)["IoU"] > 0.7


def test_a_network_goes_on_where_it_ended_and_predicts_other_images(benchmark, monkeypatch):
    # What is fastest on this machine takes seconds to measure, and does not matter here.
    for part in ("trainer", "predict"):
        plan = ExecutionPlan(torch.device("cpu"))
        monkeypatch.setattr(f"napari_unet.engine.{part}.choose_plan", lambda *_, plan=plan: plan)
    image, labels = touching_cells((64, 64), 4, seed=1)
    image = np.stack([image] * 3, axis=-1)
    truth = 1 + (labels > 0).astype(np.uint8)
    annotations = draw_strokes(benchmark.robot.random_strokes(truth, 3, seed=0), truth.shape)
    network = benchmark.learners.make("unet-random")
    network.start(2, seed=0)
    network.learn(image, annotations, 0.05)
    first = network.predict(image)
    other = network.predict(np.ascontiguousarray(image[:48, :40]))
    network.learn(image, annotations, 0.05)
    second = network.predict(image)
    assert first.shape == second.shape == (2, 64, 64)
    assert other.shape == (2, 48, 40)
    assert np.abs(first - second).max() > 1e-4
