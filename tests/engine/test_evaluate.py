import csv
import threading

import numpy as np
import pytest
import tifffile

from napari_unet.engine.evaluate import evaluate
from napari_unet.engine.evaluation_files import read_evaluation_set
from napari_unet.engine.evaluation_pairs import EvaluationPair, as_prediction, same_classes
from napari_unet.engine.events import EvaluationFinished, ImageEvaluated, Noticed, ThresholdTried
from napari_unet.engine.score_table import explain
from napari_unet.ops.errors import InputError


def two_objects():
    truth = np.zeros((20, 30), np.uint16)
    truth[2:12, 2:12], truth[4:16, 16:28] = 5, 9
    return truth


def cells():
    """Interiors of four cells with a border of one pixel between them."""
    interior = np.ones((21, 21), bool)
    interior[10], interior[:, 10] = False, False
    return interior


def finished(pairs, kind, **options):
    events = list(evaluate(pairs, kind, **options))
    assert isinstance(events[-1], EvaluationFinished)
    return events[-1].table


@pytest.mark.parametrize("kind", ["instances", "semantic", "boundary"])
def test_the_truth_itself_is_perfect(kind):
    truth = two_objects() if kind == "instances" else (two_objects() > 0).astype(np.uint8)
    table = finished([EvaluationPair("a", truth, truth)], kind)
    for name, value in table.total.items():
        if name in ("true objects", "predicted objects"):
            assert value == 2
        else:
            wrong = "error" in name or name.endswith("objects")
            assert value == (0 if wrong else 1), name


def test_every_measure_says_what_it_means_and_whether_high_is_good():
    for kind in ("instances", "semantic", "boundary"):
        truth = two_objects() if kind == "instances" else (two_objects() > 0).astype(np.uint8)
        for name in finished([EvaluationPair("a", truth, truth)], kind).total:
            assert "good" in explain(name) or name == "true objects", name
    assert explain("PQ, counts summed") != explain("PQ")
    assert explain("mean IoU") != explain("IoU 2")


def test_numbers_of_objects_do_not_matter():
    truth, prediction = two_objects(), np.roll(two_objects(), 2, 1)
    first = finished([EvaluationPair("a", prediction, truth)], "instances").total
    second = finished([EvaluationPair("a", prediction * 7, truth * 3)], "instances").total
    assert first == second


def test_all_is_the_mean_and_counts_are_summed():
    truth = two_objects()
    half = np.where(truth == 5, truth, 0)
    pairs = [EvaluationPair("whole", truth, truth), EvaluationPair("half", half, truth)]
    table = finished(pairs, "instances")
    images = dict(table.images)
    assert (images["whole"]["AP@0.5"], images["half"]["AP@0.5"]) == (1, 0.5)
    assert table.total["AP@0.5"] == 0.75
    # Three objects found of four, none of them spurious.
    assert table.total["AP@0.5, counts summed"] == 0.75
    assert (table.total["true objects"], table.total["predicted objects"]) == (4, 3)


def test_an_image_without_true_objects_has_no_seg():
    nothing = np.zeros((9, 9), np.uint8)
    table = finished([EvaluationPair("a", nothing, nothing)], "instances")
    assert table.total["SEG"] is None
    assert table.total["AP@0.5"] == 1


def test_classes_are_named_by_their_values():
    truth = np.repeat([[0, 40, 255]], 6, axis=0)
    prediction = truth.copy()
    prediction[:3, 1] = 0
    table = finished([EvaluationPair("a", prediction, truth)], "semantic")
    assert table.total["IoU 40"] == 0.5
    assert table.total["IoU 255"] == 1
    assert table.total["pixel error"] == pytest.approx(3 / 18)


def test_the_error_map_goes_with_the_scores():
    truth = two_objects()
    pairs = [EvaluationPair("a", np.where(truth == 5, 1, 0), truth)]
    event = next(e for e in evaluate(pairs, "instances") if isinstance(e, ImageEvaluated))
    np.testing.assert_array_equal(event.errors > 0, truth == 9)


def test_probabilities_of_borders_get_the_best_threshold():
    interior = cells()
    probability = np.where(interior, 0.9, 0.62).astype(np.float32)
    events = list(evaluate([EvaluationPair("a", probability, interior * 1)], "boundary"))
    assert "threshold" in next(e.message for e in events if isinstance(e, Noticed))
    total = events[-1].table.total
    assert total["Rand error"] == 0
    assert total["threshold"] == 0.65  # all up to 0.9 are as good; this is nearest to 0.5
    low = finished([EvaluationPair("a", probability, interior * 1)], "boundary", threshold=0.5)
    assert low.total["Rand error"] > 0.3
    assert low.total["pixel error"] == pytest.approx((~interior).mean())
    tried = [event for event in events if isinstance(event, ThresholdTried)]
    assert [event.done for event in tried] == list(range(1, 20))
    assert min(event.error for event in tried) == 0


def test_the_search_for_a_threshold_can_be_stopped():
    stop = threading.Event()
    events = []
    pair = EvaluationPair("a", np.where(cells(), 0.9, 0.62), cells() * 1)
    for event in evaluate([pair], "boundary", stop=stop):
        events.append(event)
        stop.set()
    assert [type(event) for event in events] == [ThresholdTried, EvaluationFinished]
    assert events[-1].stopped
    assert events[-1].table.images == ()


def test_pairs_of_pixels_of_all_images_are_counted_together():
    interior = cells()
    large = np.pad(interior, ((0, 40), (0, 0)), constant_values=True)
    merged = EvaluationPair("merged", np.ones_like(interior), interior * 1)
    right = EvaluationPair("right", large, large * 1)
    total = finished([merged, right], "boundary").total
    assert total["Rand error"] > total["Rand error, counts summed"] > 0
    alone = finished([merged], "boundary").total
    assert alone["Rand error"] == pytest.approx(alone["Rand error, counts summed"])
    assert alone["merged objects"] == 1


def test_where_no_border_is_known_nothing_counts():
    interior = cells()
    wrong = interior.copy()
    wrong[10, :5] = True
    valid = np.ones(interior.shape, bool)
    valid[10, :5] = False
    total = finished([EvaluationPair("a", wrong, interior * 1, valid)], "boundary").total
    assert total["Rand error"] == total["pixel error"] == 0


def test_what_is_not_known_does_not_count():
    truth = two_objects()
    valid = np.zeros(truth.shape, bool)
    valid[:, :14] = True
    wrong = np.where(truth == 9, 0, truth)
    table = finished([EvaluationPair("a", wrong, truth, valid)], "instances")
    assert table.total["AP@0.9"] == 1
    # An object that is known in its larger part counts, and counts whole.
    valid[:, :23] = True
    table = finished([EvaluationPair("a", wrong, truth, valid)], "instances")
    assert table.total["recall"] == 0.5


def test_classes_count_only_where_they_are_known():
    truth = np.repeat([[1, 2, 0]], 6, axis=0)
    prediction = np.repeat([[1, 2, 3]], 6, axis=0)
    table = finished([EvaluationPair("a", prediction, truth, truth > 0)], "semantic")
    assert table.total == {name: 0 if name == "pixel error" else 1 for name in table.total}
    assert "Dice 3" not in table.total


def test_stop_ends_it_before_the_next_image():
    stop = threading.Event()
    pairs = [EvaluationPair(str(n), two_objects(), two_objects()) for n in range(5)]
    events = []
    for event in evaluate(pairs, "instances", stop=stop):
        events.append(event)
        stop.set()
    assert events[-1].stopped
    assert len(events[-1].table.images) == 1


@pytest.mark.parametrize(
    ("pairs", "options", "words"),
    [
        ([], {"kind": "instances"}, "nothing to evaluate"),
        (1, {"kind": "objects"}, "boundary"),
        (1, {"kind": "boundary", "threshold": 2.0}, "0 to 1"),
        ("map", {"kind": "instances"}, "probabilities have no instances"),
        ("map", {"kind": "semantic"}, "choose the kind boundary"),
    ],
)
def test_what_is_not_possible_is_refused(pairs, options, words):
    if pairs == 1:
        pairs = [EvaluationPair("a", two_objects(), two_objects())]
    elif pairs == "map":
        pairs = [EvaluationPair("a", two_objects() / 9, two_objects())]
    with pytest.raises(InputError, match=words):
        list(evaluate(pairs, **options))


def test_different_sizes_are_refused():
    with pytest.raises(InputError, match="one size"):
        EvaluationPair("a", np.zeros((3, 3)), np.zeros((3, 4)))


def test_the_table_as_csv():
    truth = two_objects()
    table = finished([EvaluationPair("a, b", truth, truth)], "instances")
    rows = list(csv.DictReader(table.to_csv().splitlines()))
    assert [row["image"] for row in rows] == ["a, b", "all"]
    assert float(rows[0]["PQ"]) == 1
    assert rows[0]["PQ, counts summed"] == ""


def row(*values, dtype=np.uint8):
    return np.array([values], dtype)


class TestClasses:
    @pytest.mark.parametrize(
        ("prediction", "truth", "counts_from_one", "moved"),
        [
            ((1, 2), (0, 255), None, (0, 255)),  # cannot be meant as they are
            ((0, 1), (0, 1), None, (0, 1)),
            ((1, 2), (1, 2), True, (1, 2)),  # the truth counts from 1 as well
            ((1, 2, 2), (0, 1, 2), None, (1, 2, 2)),  # could be; nobody knows better
            ((1, 2, 2), (0, 1, 2), True, (0, 1, 1)),
            ((1, 1, 1), (0, 1, 1), True, (0, 0, 0)),  # nothing was found
            ((1, 2, 3), (0, 2, 2), True, (0, 1, 2)),  # a class is not in this truth
            ((1, 2, 2), (0, 1, 2), False, (1, 2, 2)),
        ],
    )
    def test_predictions_get_the_values_of_the_truth(
        self, prediction, truth, counts_from_one, moved
    ):
        pair = EvaluationPair("a", row(*prediction), row(*truth))
        (found,), note = same_classes([pair], counts_from_one)
        assert tuple(found.prediction[0]) == moved
        assert bool(note) == (moved != prediction)

    @pytest.mark.parametrize(
        ("prediction", "truth", "words"),
        [((1, 2, 3), (0, 255, 255), "only the values 0, 255"), ((0, 1), (0, 1), "label 0")],
    )
    def test_classes_that_cannot_be_moved_are_refused(self, prediction, truth, words):
        pair = EvaluationPair("a", row(*prediction), row(*truth))
        with pytest.raises(InputError, match=words):
            same_classes([pair], counts_from_one=True)


class TestPredictions:
    def test_8_bit_grey_values_are_probabilities_of_the_interior(self):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        seen = as_prediction(noise, "p.png", "boundary")
        np.testing.assert_allclose(seen.data, noise / 255, atol=1e-6)
        assert "0 to 255" in seen.note
        with pytest.raises(InputError, match="grey values"):
            as_prediction(noise, "p.png", "instances")

    def test_labels_are_no_grey_values(self):
        labels = np.kron(np.arange(100, dtype=np.uint8).reshape(10, 10), np.ones((6, 6), np.uint8))
        seen = as_prediction(labels, "p.png", "boundary")
        np.testing.assert_array_equal(seen.data, labels)

    def test_probabilities_of_classes_become_classes_or_the_interior(self):
        maps = np.stack([[[0.7, 0.1]], [[0.2, 0.3]], [[0.1, 0.6]]], axis=-1)
        assert as_prediction(maps, "p", "semantic").data.tolist() == [[1, 3]]
        np.testing.assert_allclose(as_prediction(maps, "p", "boundary").data, [[0.3, 0.9]])

    @pytest.mark.parametrize(
        ("values", "kind", "words"),
        [
            ([0.5, 200.0], "boundary", "0.5 to 200"),
            ([0.5, np.nan], "boundary", "no numbers"),
            ([0.5, 0.2], "instances", "not objects"),
            ([0.5, 0.2], "semantic", "one probability a pixel"),
        ],
    )
    def test_what_is_neither_is_refused(self, values, kind, words):
        with pytest.raises(InputError, match=words):
            as_prediction(np.array([values]), "p", kind)


class TestFiles:
    def folders(self, path):
        for part in ("p", "t"):
            (path / part).mkdir()
        for name in ("n1", "n2"):
            truth = two_objects()
            # Objects have other numbers in every image, classes have not.
            numbered = truth * (3 if name == "n2" else 1)
            tifffile.imwrite(path / "t" / f"{name}_mask.tif", numbered)
            tifffile.imwrite(path / "p" / f"{name}_instances.tif", truth)
            tifffile.imwrite(path / "p" / f"{name}_classes.tif", (truth > 0).astype(np.uint8) + 1)
            maps = np.stack([truth == 0, truth > 0]).astype(np.float32) * 0.8 + 0.1
            tifffile.imwrite(
                path / "p" / f"{name}_probabilities.tif", maps, metadata={"axes": "CYX"}
            )
        return path / "p", path / "t"

    def test_the_files_of_predict_are_found_by_kind(self, tmp_path):
        prediction, truth = self.folders(tmp_path)
        found = read_evaluation_set(prediction, truth)
        assert found.kind == "instances"
        assert [pair.name for pair in found.pairs] == ["n1", "n2"]
        assert found.problems == ()
        np.testing.assert_array_equal(found.pairs[0].prediction, two_objects())
        found = read_evaluation_set(prediction, truth, "boundary")
        np.testing.assert_allclose(
            found.pairs[0].prediction, np.where(two_objects() > 0, 0.9, 0.1), atol=1e-6
        )

    def test_classes_that_count_from_1_get_the_values_of_the_truth(self, tmp_path):
        prediction, truth = self.folders(tmp_path)
        for path in truth.iterdir():
            tifffile.imwrite(path, np.where(two_objects() > 0, 255, 0).astype(np.uint8))
        found = read_evaluation_set(prediction, truth)
        assert found.kind == "semantic"
        assert set(np.unique(found.pairs[0].prediction)) == {0, 255}
        assert finished(found.pairs, found.kind).total["mean IoU"] == 1

    def test_what_has_no_partner_is_named(self, tmp_path):
        prediction, truth = self.folders(tmp_path)
        (truth / "n2_mask.tif").unlink()
        (prediction / "n1_instances.tif").write_bytes(b"II*\0broken")
        tifffile.imwrite(prediction / "n3_instances.tif", two_objects())
        tifffile.imwrite(truth / "n3.tif", two_objects() * 7)
        found = read_evaluation_set(prediction, truth)
        assert [pair.name for pair in found.pairs] == ["n3"]
        for name in ("n1", "n2"):
            assert any(name in problem for problem in found.problems)

    def test_stacks_go_page_by_page(self, tmp_path):
        pages = np.stack([two_objects()] * 3)
        tifffile.imwrite(tmp_path / "p.tif", pages, photometric="minisblack")
        tifffile.imwrite(tmp_path / "t.tif", pages, photometric="minisblack")
        found = read_evaluation_set(tmp_path / "p.tif", tmp_path / "t.tif")
        assert [pair.name for pair in found.pairs] == ["t [00]", "t [01]", "t [02]"]

    def test_pages_that_differ_in_number_are_refused(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "p.tif", np.stack([two_objects()] * 5), photometric="minisblack"
        )
        tifffile.imwrite(tmp_path / "t.tif", two_objects())
        with pytest.raises(InputError, match="pages"):
            read_evaluation_set(tmp_path / "p.tif", tmp_path / "t.tif")

    def test_a_folder_and_a_file_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "p.tif", two_objects())
        with pytest.raises(InputError, match="two folders"):
            read_evaluation_set(tmp_path / "p.tif", tmp_path)

    def test_nothing_found_in_what_predict_wrote_is_background(self, tmp_path):
        truth = (two_objects() > 0).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a_classes.tif", np.ones_like(truth))
        tifffile.imwrite(tmp_path / "a_mask.tif", truth)
        paths = (tmp_path / "a_classes.tif", tmp_path / "a_mask.tif")
        found = read_evaluation_set(*paths)
        assert not found.pairs[0].prediction.any()
        assert any("background is 1" in note for note in found.notes)
        assert read_evaluation_set(*paths, counts_from_one=False).pairs[0].prediction.all()

    def test_probabilities_beside_two_values_are_borders(self, tmp_path):
        tifffile.imwrite(tmp_path / "p.tif", np.where(cells(), 0.9, 0.2).astype(np.float32))
        tifffile.imwrite(tmp_path / "t.tif", cells().astype(np.uint8) * 255)
        paths = (tmp_path / "p.tif", tmp_path / "t.tif")
        assert read_evaluation_set(*paths).kind == "boundary"
        with pytest.raises(InputError, match="one probability a pixel"):
            read_evaluation_set(*paths, "semantic")

    def test_a_map_whose_axes_have_no_names(self, tmp_path):
        foreground = np.where(cells(), 0.9, 0.2).astype(np.float32)
        tifffile.imwrite(tmp_path / "p.tif", np.stack([1 - foreground, foreground]))
        tifffile.imwrite(tmp_path / "t.tif", cells().astype(np.uint8))
        found = read_evaluation_set(tmp_path / "p.tif", tmp_path / "t.tif", "boundary")
        np.testing.assert_allclose(found.pairs[0].prediction, foreground, atol=1e-6)

    def test_a_wrong_file_among_good_ones_is_named(self, tmp_path):
        prediction, truth = self.folders(tmp_path)
        tifffile.imwrite(
            prediction / "n1_instances.tif", np.full(two_objects().shape, 0.5, np.float32)
        )
        found = read_evaluation_set(prediction, truth)
        assert [pair.name for pair in found.pairs] == ["n2"]
        assert "probabilities, not objects" in found.problems[0]

    def test_two_files_of_one_name_are_not_guessed_at(self, tmp_path):
        prediction, truth = self.folders(tmp_path)
        tifffile.imwrite(truth / "n1_labels.tif", two_objects())
        found = read_evaluation_set(prediction, truth)
        assert [pair.name for pair in found.pairs] == ["n2"]
        assert "n1_labels.tif" in found.problems[0]
        assert "n1_mask.tif" in found.problems[0]

    def test_names_keep_their_capitals(self, tmp_path):
        for part, name in (("p", "Cell_A_instances"), ("t", "Cell_A_mask")):
            (tmp_path / part).mkdir()
            tifffile.imwrite(tmp_path / part / f"{name}.tif", two_objects())
        found = read_evaluation_set(tmp_path / "p", tmp_path / "t", "instances")
        assert [pair.name for pair in found.pairs] == ["Cell_A"]

    def test_a_sequence_of_the_cell_tracking_challenge(self, tmp_path):
        for folder in ("01_RES", "01_GT/SEG", "01_GT/TRA"):
            (tmp_path / folder).mkdir(parents=True)
        truth, markers = two_objects(), np.zeros_like(two_objects())
        markers[6:8, 6:8], markers[9:11, 20:22] = 1, 2
        only_one = np.where(truth == 5, 1, 0).astype(np.uint16)
        tifffile.imwrite(tmp_path / "01_RES" / "mask007.tif", truth)
        tifffile.imwrite(tmp_path / "01_RES" / "mask008.tif", truth)
        tifffile.imwrite(tmp_path / "01_GT" / "SEG" / "man_seg007.tif", only_one)
        tifffile.imwrite(tmp_path / "01_GT" / "TRA" / "man_track007.tif", markers)
        found = read_evaluation_set(tmp_path / "01_RES", tmp_path / "01_GT")
        assert [pair.name for pair in found.pairs] == ["mask007"]
        assert found.problems == ()
        assert any("1 frames have no truth" in note for note in found.notes)
        total = finished(found.pairs, found.kind).total
        assert total["spurious objects"] == 0  # the cell is there, but nobody outlined it
        assert total["SEG"] == 1
