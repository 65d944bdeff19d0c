import csv
import threading

import numpy as np
import pytest
import tifffile

from napari_unet.engine.evaluate import EXPLANATIONS, EvaluationPair, evaluate
from napari_unet.engine.evaluation_files import read_evaluation_set
from napari_unet.engine.events import EvaluationFinished, ImageEvaluated, Noticed
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
        if name.endswith("objects"):
            assert value == 2
        else:
            assert value == (0 if "error" in name else 1), name


def test_every_measure_is_explained():
    for kind in ("instances", "semantic", "boundary"):
        truth = two_objects() if kind == "instances" else (two_objects() > 0).astype(np.uint8)
        for name in finished([EvaluationPair("a", truth, truth)], kind).total:
            known = [key for key in EXPLANATIONS if name.replace("mean ", "").startswith(key)]
            assert known, name


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
    assert 0.62 < total["threshold"] <= 0.9
    low = finished([EvaluationPair("a", probability, interior * 1)], "boundary", threshold=0.5)
    assert low.total["Rand error"] > 0.3
    assert low.total["pixel error"] == pytest.approx((~interior).mean())


def test_what_is_not_known_does_not_count():
    truth = two_objects()
    valid = np.zeros(truth.shape, bool)
    valid[:, :14] = True
    wrong = np.where(truth == 9, 0, truth)
    table = finished([EvaluationPair("a", wrong, truth, valid)], "instances")
    assert table.total["AP@0.9"] == 1


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
    ],
)
def test_what_is_not_possible_is_refused(pairs, options, words):
    if pairs == 1:
        pairs = [EvaluationPair("a", two_objects(), two_objects())]
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
