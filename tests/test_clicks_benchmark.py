"""The parts of `benchmarks/clicks.py`, on small drawn images."""

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
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click
from napari_unet.ops.errors import InputError

FOLDER = Path(__file__).parents[1] / "benchmarks"
SET = "ctc_fluo_n2dh_simplus"


@pytest.fixture(scope="module")
def benchmark():
    """Return the modules of the benchmark."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(FOLDER))
    parts = ("data", "learners", "peers", "robot", "rows", "tables")
    modules = {part: importlib.import_module(f"clicks_{part}") for part in parts}
    yield SimpleNamespace(main=importlib.import_module("clicks"), **modules)
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name in ("report", "click_data", "pool") or name.startswith("clicks"):
            del sys.modules[name]


def disc(shape, row, column, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def grid_of_discs(radius=6):
    """18 discs of different brightness on a dark image."""
    labels = np.zeros((96, 192), np.uint16)
    for number in range(18):
        middle = 16 + 32 * (number // 6), 16 + 32 * (number % 6)
        labels[disc(labels.shape, *middle, radius)] = number + 1
    return np.where(labels > 0, 100 + 5 * labels, 10).astype(np.uint16), labels


class Oracle:
    """Says the truth, of objects in the order in which they are asked for."""

    remembers = True

    def __init__(self, labels):
        self.labels = labels
        self.opened, self.known = 0, []

    def open(self, image, known):
        self.opened += 1
        self.known.append(len(known))

    def start(self, around):
        self.around = around

    def answer(self, clicks):
        return self.labels == self.labels[clicks[0].row, clicks[0].column]


@pytest.fixture
def data(tmp_path):
    """Two images of 18 discs."""
    folder = tmp_path / "data"
    for part in ("images", "masks"):
        (folder / SET / part).mkdir(parents=True)
    image, labels = grid_of_discs()
    for number in range(2):
        write_tiff(folder / SET / "images" / f"t{number}.tif", image)
        write_tiff(folder / SET / "masks" / f"t{number}.tif", labels)
    return folder


@pytest.fixture
def run(benchmark, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NAPARI_UNET_DATA", str(data))
    monkeypatch.setattr(benchmark.tables, "machine", lambda: "a machine")

    def invoke(*words):
        benchmark.main.main([*map(str, words), "--folder", str(tmp_path / "rows")])
        return capsys.readouterr().out

    return invoke


# ---------------------------------------------------------------------------- measures


def test_clicks_are_counted_up_to_the_goal_and_twenty_if_it_is_never_reached(benchmark):
    rows = benchmark.rows
    curves = [[0.9], [0.5, 0.85, 0.91], [0.2, 0.86, 0.3], [0.1, 0.84]]
    assert [rows.clicks_needed(each, 0.85) for each in curves] == [1, 2, 2, None]
    assert [rows.clicks_needed(each, 0.9) for each in curves] == [1, 3, None, None]
    assert rows.mean_clicks(curves, 0.85) == (1 + 2 + 2 + 20) / 4
    assert rows.mean_clicks(curves, 0.9) == (1 + 3 + 20 + 20) / 4
    assert rows.failures(curves) == 1 / 4


def test_an_overlap_reached_at_the_last_click_is_no_failure(benchmark):
    curve = [0.1] * 19 + [0.9]
    assert benchmark.rows.mean_clicks([curve], 0.85) == 20
    assert benchmark.rows.failures([curve]) == 0


def test_overlaps_after_the_last_click_are_the_last(benchmark):
    curves = [[0.92], [0.2, 0.4, 0.6]]
    found = [benchmark.rows.overlap_after(curves, clicks) for clicks in (1, 2, 3, 5)]
    assert found == pytest.approx([0.56, 0.66, 0.76, 0.76])


# ---------------------------------------------------------------------------- the robot


def test_an_oracle_needs_one_click_in_the_middle(benchmark):
    truth = disc((64, 80), 30, 41, 12)
    asked = []

    def oracle(clicks):
        asked.append(list(clicks))
        return truth

    overlaps, seconds = benchmark.robot.play(truth, oracle, 20)
    assert overlaps == [1.0]
    assert len(seconds) == 1
    assert asked == [[Click(30, 41)]]


def test_the_robot_corrects_the_largest_error_and_ends_at_enough(benchmark):
    truth = disc((64, 80), 30, 20, 12)
    spurious = disc(truth.shape, 30, 60, 8)
    asked = []

    def learner(clicks):
        asked[:] = clicks
        return truth | spurious if len(clicks) == 1 else truth

    overlaps, _ = benchmark.robot.play(truth, learner, 20)
    assert asked == [Click(30, 20), Click(30, 60, positive=False)]
    assert overlaps[0] == pytest.approx(truth.sum() / (truth | spurious).sum())
    assert overlaps[1:] == [1.0]


@pytest.mark.parametrize(("remembers", "clicks"), [(True, 5), (False, 1)])
def test_the_robot_ends_where_nothing_can_change(benchmark, remembers, clicks):
    truth = disc((40, 40), 20, 20, 8)
    nothing = np.zeros_like(truth)
    overlaps, _ = benchmark.robot.play(truth, lambda _: nothing, 5, remembers)
    assert overlaps == [0.0] * clicks


# ---------------------------------------------------------------------------- peers


def answer(benchmark, name, image, truth, clicks):
    peer = benchmark.peers.Cropped(benchmark.peers.PEERS[name])
    peer.open(image, [])
    rows, columns = np.nonzero(truth)
    peer.start((slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)))
    return peer.answer(clicks)


@pytest.mark.parametrize("colours", [False, True])
def test_flood_fill_finds_a_disc_of_one_brightness_with_one_click(benchmark, colours):
    truth = disc((200, 260), 130, 180, 15)
    image = np.where(truth, 200, 50).astype(np.uint8)
    image = np.stack([image] * 3, axis=-1) if colours else image
    assert (answer(benchmark, "flood fill 0.1", image, truth, [Click(130, 180)]) == truth).all()


def test_what_is_filled_from_a_negative_click_is_taken_away(benchmark):
    truth = disc((64, 64), 30, 20, 8)
    other = disc(truth.shape, 30, 44, 8)
    pixels = np.where(truth, 0.5, np.where(other, 0.6, 0)).astype(np.float32)
    pixels[30, 20:44] = 0.55  # a bridge
    fill = benchmark.peers.flood_fill
    border = np.zeros_like(truth)
    both = fill(pixels, [Click(30, 20)], border, 0.11)
    assert both[other].all()
    # The same region, so that nothing is left if it were taken away.
    clicks = [Click(30, 20), Click(30, 44, positive=False)]
    assert (fill(pixels, clicks, border, 0.11) == both).all()
    pixels[30, 20:44] = np.where(truth, 0.5, np.where(other, 0.6, 0.55))[30, 20:44]
    narrow = fill(pixels, [Click(30, 20), Click(26, 44)], border, 0.04)
    assert (narrow == truth | other).all()
    clicks = [Click(30, 20), Click(26, 44), Click(34, 44, positive=False)]
    assert fill(pixels, clicks, border, 0.04)[other].all()
    clicks = [Click(30, 20), Click(34, 44, positive=False)]
    assert (fill(pixels, clicks, border, 0.04) == truth).all()


def test_watershed_uses_the_negative_click(benchmark):
    image, labels = grid_of_discs(radius=12)
    truth = labels == 8
    # The neighbour and what is between them count as the object's until a click says otherwise.
    image[labels == 9] = image[labels == 8].max()
    image[48, 48:80] = image[labels == 8].max()
    first = [Click(48, 48)]
    before = answer(benchmark, "watershed", image, truth, first)
    assert before[48, 80]
    after = answer(benchmark, "watershed", image, truth, [*first, Click(48, 80, positive=False)])
    assert after[48, 48]
    assert not after[48, 80]
    assert (after & (labels == 9)).sum() < (before & (labels == 9)).sum()


@pytest.mark.parametrize("name", ["watershed", "random walker", "GrabCut"])
@pytest.mark.parametrize(("radius", "colours"), [(20, False), (70, False), (20, True)])
def test_peers_find_a_bright_disc_among_noise(benchmark, name, radius, colours):
    if name == "GrabCut":
        pytest.importorskip("cv2")
    truth = disc((420, 440), 200, 230, radius)
    noise = np.random.default_rng(0).normal(0, 4, truth.shape)
    image = np.where(truth, 180, 60) + noise
    image = np.stack([image] * 3, axis=-1) if colours else image
    found = answer(benchmark, name, image.astype(np.uint8), truth, [Click(200, 230)])
    assert found.shape == truth.shape
    assert benchmark.robot.overlap(truth, found) > 0.85


def test_the_square_is_three_times_as_wide_and_its_border_is_not_the_images(benchmark):
    square = benchmark.peers.square_around
    assert square((slice(490, 510), slice(300, 310)), (1000, 1000)) == (
        slice(436, 564),
        slice(241, 369),
    )
    around = slice(450, 550), slice(0, 40)
    box = square(around, (1000, 1000))
    assert box == (slice(350, 650), slice(0, 170))
    border = benchmark.peers.border_of(box, (1000, 1000))
    assert border[0].all()
    assert border[-1].all()
    assert border[:, -1].all()
    assert not border[1:-1, 0].any()
    whole = benchmark.peers.border_of((slice(0, 50), slice(0, 60)), (50, 60))
    assert whole.sum() == 2 * 50 + 2 * 60 - 4


def test_wide_squares_are_shrunk_and_answered_at_their_resolution(benchmark):
    seen = []

    def peer(pixels, clicks, border):
        seen.append((pixels.shape, clicks, border))
        return pixels > 0.5

    truth = disc((600, 301), 300, 150, 80)
    border = benchmark.peers.border_of((slice(0, 600), slice(0, 301)), truth.shape)
    pixels = truth.astype(np.float32)
    found = benchmark.peers.shrunk(peer)(pixels, [Click(301, 150)], border)
    [(shape, clicks, small)] = seen
    assert shape == small.shape == (150, 76)
    assert clicks == [Click(75, 37)]
    assert small.sum() == 2 * 150 + 2 * 76 - 4
    assert found.shape == truth.shape
    assert benchmark.robot.overlap(truth, found) > 0.95


def test_a_peer_that_needs_a_missing_package_is_left_out_with_words(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark.peers.importlib.util, "find_spec", lambda _: None)
    names = benchmark.learners.names_of(["unet", "GrabCut", "flood fill"])
    assert "GrabCut" not in names
    assert len(names) == 1 + len(benchmark.peers.TOLERANCES)
    assert "pip install --no-deps opencv-python-headless" in capsys.readouterr().out


# ---------------------------------------------------------------------------- objects


def test_a_seed_draws_objects_and_more_of_them_if_more_are_asked_for(benchmark, data):
    chosen = benchmark.data.load(SET, data)
    assert not chosen.trained
    drawn = [benchmark.data.targets(chosen, count, 0) for count in (5, 20, 100)]
    assert drawn[2][:20] == drawn[1]
    assert drawn[1][:5] == drawn[0]
    assert len(set(drawn[2])) == len(drawn[2]) == 36
    assert benchmark.data.targets(chosen, 5, 1) != drawn[0]


def test_known_objects_are_not_clicked_on(benchmark, data):
    chosen = benchmark.data.load(SET, data)
    known, others = benchmark.data.targets_beside_known(chosen, 100, 0)
    assert {number: len(labels) for number, labels in known.items()} == {0: 10, 1: 10}
    assert len(set(others)) == 2 * 8
    assert not any(each.label in known[each.image] for each in others)


def test_small_objects_and_regions_are_left_out(benchmark):
    labels = np.zeros((40, 40), np.uint8)
    labels[:5, :6], labels[10:15, :5] = 1, 3
    image = benchmark.data.ClickImage("a", labels, labels)
    assert image.objects() == [1]
    inside = np.zeros((40, 40), bool)
    inside[:10, :10] = inside[10, 10] = inside[20:, 20:] = True
    assert np.unique(benchmark.data.regions(inside, 50)).tolist() == [0, 1, 3]


def test_sections_and_nuclei_are_read(benchmark, tmp_path):
    for part in ("isbi2012_em/images", "isbi2012_em/labels", "dsb2018/images", "dsb2018/masks"):
        (tmp_path / part).mkdir(parents=True)
    inside = np.zeros((40, 60), np.uint8)
    inside[2:22, 2:32] = inside[25:30, 2:12] = 255
    imwrite(tmp_path / "isbi2012_em" / "images" / "00.png", inside)
    imwrite(tmp_path / "isbi2012_em" / "labels" / "00.png", inside)
    rows = ["name,colour,background"]
    for number in range(8):
        name = f"{number:03}"
        imwrite(tmp_path / "dsb2018" / "images" / f"{name}.png", inside)
        write_tiff(tmp_path / "dsb2018" / "masks" / f"{name}.tif", (inside > 0).astype(np.uint16))
        rows.append(f"{name},{'grey,dark' if number < 6 else 'color,bright'}")
    (tmp_path / "dsb2018" / "index.csv").write_text("\n".join(rows))
    [section] = benchmark.data.load("isbi2012_em", tmp_path).images
    assert section.mask(1).sum() == 600
    assert len(section.objects()) == 1
    # Every fourth image is kept back.
    nuclei = benchmark.data.load("dsb2018_fluorescence", tmp_path)
    assert nuclei.trained
    assert [each.name for each in nuclei.images] == ["003"]
    assert [each.name for each in benchmark.data.load("dsb2018_stained", tmp_path).images] == [
        "007"
    ]


def test_what_is_not_there_is_named(benchmark, data, monkeypatch):
    with pytest.raises(InputError, match="no set"):
        benchmark.data.load("nebulae", data)
    with pytest.raises(InputError, match="is not there"):
        benchmark.data.load("isbi2012_em", data)
    monkeypatch.delenv("NAPARI_UNET_DATA", raising=False)
    with pytest.raises(InputError, match="NAPARI_UNET_DATA"):
        benchmark.data.data_folder()


# ---------------------------------------------------------------------------- rows


def row_of(benchmark, learner="unet", objects=10, clicks=20):
    return benchmark.main.Row(SET, learner, objects, 0, clicks)


def test_rows_go_on_where_they_ended(benchmark, data, tmp_path, capsys):
    chosen = benchmark.data.load(SET, data)
    oracle = Oracle(chosen.images[0].labels)
    made = []

    def make():
        made.append(oracle)
        return oracle

    def run(objects, clicks=20, model="a"):
        row = row_of(benchmark, objects=objects, clicks=clicks)
        benchmark.main.run(row, tmp_path, chosen, make, model)
        [path] = tmp_path.glob("*.json")
        return json.loads(path.read_text())["objects"]

    first = run(10)
    assert len(first) == 10
    assert [each["overlaps"] for each in first] == [[1.0]] * 10
    assert oracle.opened == 2
    assert run(10) == first
    assert run(5, clicks=10) == first
    assert len(made) == 1
    assert capsys.readouterr().out.count("done before") == 2
    more = run(15)
    assert more[:10] == first
    assert len({(each["image"], each["label"]) for each in more}) == 15
    with pytest.raises(InputError, match="another network"):
        run(15, model="b")
    assert len(made) == 2


def test_rows_of_fewer_clicks_are_done_again(benchmark, data, tmp_path):
    chosen = benchmark.data.load(SET, data)
    oracle = Oracle(np.zeros((96, 192), np.uint8) - 1)
    for clicks in (3, 5):
        row = row_of(benchmark, objects=1, clicks=clicks)
        benchmark.main.run(row, tmp_path, chosen, lambda: oracle, "")
        [path] = tmp_path.glob("*.json")
        [found] = json.loads(path.read_text())["objects"]
        assert len(found["overlaps"]) == len(found["seconds"]) == clicks


def test_adapted_and_unadapted_get_the_same_objects(benchmark, data, tmp_path):
    chosen = benchmark.data.load(SET, data)
    found = {}
    for learner in ("adapted", "unadapted"):
        oracle = Oracle(chosen.images[0].labels)
        benchmark.main.run(
            row_of(benchmark, learner, 12), tmp_path, chosen, lambda made=oracle: made, ""
        )
        [path] = tmp_path.glob(f"{learner}_*.json")
        objects = json.loads(path.read_text())["objects"]
        found[learner] = [(each["image"], each["label"]) for each in objects]
        assert oracle.known == [10, 10]
    assert found["adapted"] == found["unadapted"]
    assert len(found["adapted"]) == 12


def test_the_network_is_told_the_clicks_and_its_answer_before(benchmark, monkeypatch):
    # What is fastest on this machine takes seconds to measure, and does not matter here.
    plan = ExecutionPlan(torch.device("cpu"))
    monkeypatch.setattr("napari_unet.engine.click.choose_plan", lambda *_: plan)
    torch.manual_seed(0)
    network, other = (UNet(7, 2, 2, 1, padded=True).eval() for _ in range(2))
    image, labels = grid_of_discs()
    learner = benchmark.learners.Unet(network)
    learner.open(image, [])
    outline, asked = learner.clicker.outline, []

    def watched(clicks, previous):
        found = outline(clicks, previous)
        asked.append((len(clicks), previous, found))
        return found

    learner.clicker.outline = watched
    for _ in range(2):
        learner.start((slice(0, 1), slice(0, 1)))
        benchmark.robot.play(labels == 1, learner.answer, 2)
    assert [count for count, _, _ in asked] == [1, 2, 1, 2]
    assert [previous for _, previous, _ in asked] == [None, asked[0][2], None, asked[2][2]]
    prints = [benchmark.learners.fingerprint(each) for each in (network, network, other)]
    assert prints[0] == prints[1] != prints[2]


# ---------------------------------------------------------------------------- tables


def kept(name, learner, curves, first=0, opening=0.5):
    objects = [
        {"image": "a", "label": first + n, "overlaps": curve, "seconds": [0.1 * len(curve)]}
        for n, curve in enumerate(curves)
    ]
    return {
        **{"set": name, "kind": "cells", "trained": name == "b", "learner": learner, "seed": 0},
        **{"opening": [opening], "objects": objects},
    }


@pytest.fixture
def rows(benchmark):
    return benchmark.rows.Rows(
        [
            kept("b", "unet", [[0.95], [0.5, 0.88, 0.92]]),
            kept("a", "unet", [[0.95], [0.4, 0.6]]),
            kept("b", "watershed", [[0.1, 0.9], [0.2, 0.91]]),
            kept("a", "watershed", [[0.9]]),
            kept("b", "flood fill 0.1", [[0.1], [0.2]]),
            kept("b", "flood fill 0.2", [[0.1], [0.9]]),
            kept("b", "adapted", [[0.9], [0.95], [0.1]], opening=9.0),
            kept("b", "unadapted", [[0.6, 0.9], [0.4, 0.5]], first=1),
        ]
    )


def test_a_table_has_a_line_for_each_set_and_the_mean(benchmark, rows):
    lines = benchmark.tables.learner_table(rows, "unet").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| b", "| a", "| **mean**"]
    assert lines[2].startswith("| b | cells | yes | 2 | 1.50 | 2.00 | 0% | 0.725 | 0.915 | 0.935 |")
    assert lines[3].startswith("| a | cells | no | 2 | 10.50 | 10.50 | 50% | 0.675 | 0.775 |")
    assert "| 6.00 | 6.25 | 25% |" in lines[4]


def test_the_best_tolerance_of_a_set_is_taken_for_flood_fill(benchmark, rows):
    assert rows.learners == ["unet", "flood fill", "watershed"]
    table = benchmark.tables.learner_table(rows, "flood fill").splitlines()
    assert "| 2 | 10.50 |" in table[2]
    assert table[2].endswith("| 0.2 |")


def test_all_learners_are_compared_and_the_best_is_bold(benchmark, rows):
    table = benchmark.tables.compared_table(rows)
    assert "| b | cells | yes | 2 | **1.50** | 10.50 | 2.00 |" in table
    assert "| a | cells | no | 2 | **10.50** |  | 1.00 (1 of 2) |" in table
    assert "| **mean** of 1 of 2 sets |" in table


def test_adapting_is_compared_on_the_same_objects(benchmark, rows):
    table = benchmark.tables.adapted_table(rows)
    # Objects 1 and 2 are in both; the one before had 2 clicks and never, after 1 and never.
    assert "| b | cells |" in table
    assert "| 2 | 11.00 | 10.50 | 11.00 | 10.50 | 0.500 | 0.525 | 50% | 50% | 9.0 |" in table
    assert benchmark.tables.adapted_table(benchmark.rows.Rows([])) is None


def test_everything_is_run_written_and_drawn(run, tmp_path):
    asked = ("run", "--sets", SET, "--learners", "flood fill", "watershed", "--objects", 4)
    said = run(*asked, "--peer-clicks", 3)
    assert said.count("4 objects") == 8
    assert run(*asked, "--peer-clicks", 3).count("done before") == 8
    run("tables", "--output", tmp_path / "clicks.md")
    text = (tmp_path / "clicks.md").read_text()
    for words in (
        "### flood fill",
        f"| {SET} | nuclei, simulated | no | 4 |",
        "NoC@85",
        "| 1.00 |",
    ):
        assert words in text
    path = run("plot", tmp_path / "plots" / "clicks.png").strip()
    assert imread(path).std() > 1


def test_the_words_for_what_is_missing_end_the_script(run, monkeypatch):
    monkeypatch.delenv("NAPARI_UNET_DATA")
    with pytest.raises(SystemExit, match="NAPARI_UNET_DATA"):
        run("run", "--sets", SET, "--learners", "watershed")
