"""Labelled sets in every layout, what is wrong with them, and how a part is held out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_unet.engine.dataset import (
    LabelledImage,
    LabelledSet,
    read_labelled_set,
    split_by_image,
)
from napari_unet.engine.dataset.ctc import annotated_pixels
from napari_unet.engine.dataset.kind import judge_kind
from napari_unet.ops.errors import InputError

SIZE = (12, 16)


def grey(seed=0, shape=SIZE):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8)


def mask(value=1, shape=SIZE):
    """Background with one square of `value`."""
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 3:9] = value
    return labels


def cells(*values):
    """A row of separate squares, one for each value."""
    labels = np.zeros((12, 8 * max(1, len(values))), np.uint16)
    for column, value in enumerate(values):
        labels[3:8, 8 * column + 1 : 8 * column + 6] = value
    return labels


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.shape[-1] == 3 else "minisblack")
    else:
        iio.imwrite(path, array)


def save_pair(folder, name, image, labels):
    save(folder / "images" / f"{name}.tif", image)
    save(folder / "labels" / f"{name}.tif", labels)


def read(folder, **options):
    return read_labelled_set(folder / "images", folder / "labels", **options)


def names(labelled_set):
    return [each.name for each in labelled_set.images]


@pytest.fixture
def good(tmp_path):
    """Three good pairs, a, b and c."""
    for seed, name in enumerate("abc"):
        save_pair(tmp_path, name, grey(seed), mask())
    return tmp_path


class TestFolders:
    def test_images_and_labels_are_read_unchanged(self, good):
        labelled = read(good)
        assert names(labelled) == ["a", "b", "c"]
        assert labelled.problems == labelled.notes == ()
        assert labelled.channels == 1
        for seed, each in enumerate(labelled.images):
            assert each.image.dtype == each.labels.dtype == np.uint8
            np.testing.assert_array_equal(each.image, grey(seed))
            np.testing.assert_array_equal(each.labels, mask())
            assert (each.group, each.valid) == ("", None)

    @pytest.mark.parametrize(
        ("image", "labels"),
        [
            ("x.png", "x.tif"),
            ("x.tif", "x_mask.png"),
            ("x.tif", "x-labels.tif"),
            ("x_img.tif", "x_img_cp_masks.png"),
            ("x.jpg", "x_GT.tif"),
            ("x.ome.tif", "x.tif"),
        ],
    )
    def test_names_match_up_to_endings_and_additions(self, tmp_path, image, labels):
        for number in "12":  # a second pair that must not be mixed up with the first
            save(tmp_path / "images" / f"{number}{image}", grey())
            save(tmp_path / "labels" / f"{number}{labels}", mask())
        labelled = read(tmp_path)
        assert len(labelled.images) == 2
        assert labelled.problems == ()

    def test_additions_at_the_start_of_names_match(self, tmp_path):
        for number in (7, 8):
            save(tmp_path / "images" / f"img{number}.png", grey(number))
            save(tmp_path / "labels" / f"mask_{number}.png", mask(number))
        labelled = read(tmp_path)
        assert [int(each.labels.max()) for each in labelled.images] == [7, 8]

    def test_the_same_name_wins_over_a_name_with_an_addition(self, tmp_path):
        for name, value in (("x", 1), ("x_mask", 2)):
            save_pair(tmp_path, name, grey(), mask(value))
        labelled = read(tmp_path)
        assert names(labelled) == ["x", "x_mask"]
        assert [int(each.labels.max()) for each in labelled.images] == [1, 2]

    def test_order_is_the_natural_one(self, tmp_path):
        for name in ("t10", "t2", "t1"):
            save_pair(tmp_path, name, grey(), mask())
        assert names(read(tmp_path)) == ["t1", "t2", "t10"]

    def test_labels_may_lie_beside_the_images(self, tmp_path):
        for name in "ab":
            save(tmp_path / f"{name}.png", grey())
            save(tmp_path / f"{name}_cp_masks.png", mask())
        assert names(read_labelled_set(tmp_path, tmp_path)) == ["a", "b"]

    def test_a_data_sets_folder_may_be_given_twice(self, good):
        assert names(read_labelled_set(good, good)) == ["a", "b", "c"]

    def test_progress_counts_the_pairs(self, good):
        seen = []
        read(good, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 3), (2, 3), (3, 3)]


class TestFiles:
    def test_pages_of_two_stacks_belong_together(self, tmp_path):
        images = np.stack([grey(seed) for seed in range(3)])
        labels = np.stack([255 * mask(), 255 - 255 * mask(), 255 * mask()])
        save(tmp_path / "train-volume.tif", images)
        save(tmp_path / "train-labels.tif", labels)
        labelled = read_labelled_set(tmp_path / "train-volume.tif", tmp_path / "train-labels.tif")
        assert names(labelled) == [f"train-volume [0{page}]" for page in range(3)]
        assert {each.group for each in labelled.images} == {"train-volume"}
        assert (labelled.kind, labelled.class_values) == ("semantic", (0, 255))
        for page, each in enumerate(labelled.images):
            np.testing.assert_array_equal(each.image, images[page])
            np.testing.assert_array_equal(each.labels, labels[page])

    @pytest.mark.parametrize("suffix", [".tif", ".png"])
    def test_a_pair_of_images_is_a_set_of_one(self, tmp_path, suffix):
        save(tmp_path / f"cell{suffix}", grey())
        save(tmp_path / f"truth{suffix}", mask())
        labelled = read_labelled_set(tmp_path / f"cell{suffix}", tmp_path / f"truth{suffix}")
        assert names(labelled) == ["cell"]
        assert labelled.images[0].group == ""

    def test_a_stack_alone_in_its_folder_is_read_as_a_stack(self, tmp_path):
        save(tmp_path / "images" / "train-volume.tif", np.stack([grey(), grey(1)]))
        save(tmp_path / "labels" / "train-labels.tif", np.stack([mask(), mask()]))
        assert len(read(tmp_path).images) == 2

    def test_colour_stacks_keep_their_channels(self, tmp_path):
        save(tmp_path / "i.tif", grey(shape=(2, 12, 16, 3)))
        save(tmp_path / "l.tif", np.stack([mask(), mask()]))
        labelled = read_labelled_set(tmp_path / "i.tif", tmp_path / "l.tif")
        assert labelled.channels == 3
        np.testing.assert_array_equal(labelled.images[1].image, grey(shape=(2, 12, 16, 3))[1])

    def test_compressed_stacks_are_read(self, tmp_path):
        pages = [Image.fromarray(grey(seed)) for seed in range(3)]
        pages[0].save(
            tmp_path / "i.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
        )
        save(tmp_path / "l.tif", np.stack([mask()] * 3))
        labelled = read_labelled_set(tmp_path / "i.tif", tmp_path / "l.tif")
        for seed, each in enumerate(labelled.images):
            np.testing.assert_array_equal(each.image, grey(seed))

    def test_many_channels_are_sections(self, tmp_path):
        sections = np.stack([grey(seed) for seed in range(6)])
        tifffile.imwrite(tmp_path / "i.tif", sections, imagej=True, metadata={"axes": "CYX"})
        save(tmp_path / "l.tif", np.stack([mask()] * 6))
        labelled = read_labelled_set(tmp_path / "i.tif", tmp_path / "l.tif")
        np.testing.assert_array_equal([each.image for each in labelled.images], sections)

    def test_stacks_of_different_length_are_refused(self, tmp_path):
        save(tmp_path / "i.tif", np.stack([grey(), grey()]))
        save(tmp_path / "l.tif", np.stack([mask(), mask(), mask()]))
        with pytest.raises(InputError, match=r"2 pages, .* has 3; give a page of labels"):
            read_labelled_set(tmp_path / "i.tif", tmp_path / "l.tif")

    def test_a_stack_that_is_cut_off_is_refused(self, tmp_path):
        save(tmp_path / "i.tif", np.stack([grey()] * 3))
        save(tmp_path / "l.tif", np.stack([mask()] * 3))
        whole = (tmp_path / "i.tif").read_bytes()
        (tmp_path / "i.tif").write_bytes(whole[: len(whole) - 100])
        with pytest.raises(InputError, match=r"i\.tif"):
            read_labelled_set(tmp_path / "i.tif", tmp_path / "l.tif")

    def test_a_file_and_a_folder_are_refused(self, good):
        with pytest.raises(InputError, match="give two folders, or two files"):
            read_labelled_set(good / "images", good / "labels" / "a.tif")

    def test_a_path_that_is_not_there_is_named(self, good):
        with pytest.raises(InputError, match="nowhere is not there"):
            read_labelled_set(good / "images", good / "nowhere")


@pytest.fixture
def ctc(tmp_path):
    """Sequence 01 with five frames, gold truth of frame 1, silver of 1 and 3, markers of all."""
    for frame in range(5):
        save(tmp_path / "01" / f"t{frame:03}.tif", grey(frame, (12, 24)))
        save(tmp_path / "01_GT" / "TRA" / f"man_track{frame:03}.tif", markers(1, 2, 3))
    save(tmp_path / "01_GT" / "SEG" / "man_seg001.tif", cells(5, 6, 7))
    for frame in (1, 3):
        save(tmp_path / "01_ST" / "SEG" / f"man_seg{frame:03}.tif", cells(1, 0, 2))
    return tmp_path


def markers(*values):
    """One pixel in the middle of each square of `cells`."""
    found = np.zeros((12, 8 * len(values)), np.uint16)
    found[5, 3::8] = values
    return found


class TestCellTrackingChallenge:
    @pytest.mark.parametrize("labels", ["01_GT", "01_GT/SEG", "01_GT/TRA"])
    @pytest.mark.parametrize("images", ["01", "."])
    def test_gold_truth_is_read_where_it_is(self, ctc, images, labels):
        labelled = read_labelled_set(ctc / images, ctc / labels)
        assert names(labelled) == ["01/t001"]
        assert labelled.images[0].group == "01"
        assert (labelled.kind, labelled.class_values) == ("instances", (0, 1))
        assert labelled.problems == ()  # few frames with outlines are the rule
        assert "4 of 5 frames have no outlines" in labelled.notes[0]
        np.testing.assert_array_equal(labelled.images[0].image, grey(1, (12, 24)))
        np.testing.assert_array_equal(labelled.images[0].labels, cells(5, 6, 7))
        assert labelled.images[0].valid is None

    def test_silver_truth_fills_in_where_the_folder_is_given(self, ctc):
        labelled = read_labelled_set(ctc, ctc)
        assert names(labelled) == ["01/t001", "01/t003"]
        assert int(labelled.images[0].labels.max()) == 7  # gold
        np.testing.assert_array_equal(labelled.images[1].labels, cells(1, 0, 2))
        assert labelled.images[1].valid is None  # silver truth is not held against the markers

    def test_silver_truth_alone_is_read(self, ctc):
        labelled = read_labelled_set(ctc / "01", ctc / "01_ST" / "SEG")
        assert names(labelled) == ["01/t001", "01/t003"]

    def test_all_sequences_of_a_folder_are_read(self, ctc):
        save(ctc / "02" / "t000.tif", grey(0, (12, 8)))
        save(ctc / "02_GT" / "SEG" / "man_seg000.tif", cells(1))
        save(ctc / "03" / "t000.tif", grey())
        labelled = read_labelled_set(ctc, ctc)
        assert [each.group for each in labelled.images] == ["01", "01", "02"]
        assert any("sequence 03 is left out" in note for note in labelled.notes)

    def test_marked_cells_without_an_outline_are_not_background(self, ctc):
        save(ctc / "01_GT" / "SEG" / "man_seg001.tif", cells(5, 0, 7))
        image = read_labelled_set(ctc / "01", ctc / "01_GT").images[0]
        assert not image.valid[cells(0, 1, 0) > 0].any()
        assert image.valid[cells(1, 0, 1) > 0].all()
        assert image.valid[:, [0, -1]].all()

    def test_an_outlined_cell_is_valid_however_near_the_next_one_is(self):
        outlines, marker = np.zeros((2, 20, 20), np.uint8)
        outlines[:, 11:] = 3
        marker[10, 9] = 1
        valid = annotated_pixels(outlines, marker)
        assert valid[outlines > 0].all()
        assert not valid[10, 5:11].any()

    def test_no_outline_beside_markers_is_an_error(self):
        with pytest.raises(InputError, match="none of its marked cells"):
            annotated_pixels(cells(0, 0), markers(1, 2))
        assert annotated_pixels(cells(0, 0), markers(0, 0)) is None

    def test_planes_of_3d_images_are_refused(self, ctc):
        save(ctc / "01_GT" / "SEG" / "man_seg_001_002.tif", cells(1))
        with pytest.raises(InputError, match="3D"):
            read_labelled_set(ctc / "01", ctc / "01_GT")

    def test_markers_alone_are_refused(self, ctc):
        (ctc / "01_GT" / "SEG").rename(ctc / "elsewhere")
        with pytest.raises(InputError, match="do not show where a cell ends"):
            read_labelled_set(ctc / "01", ctc / "01_GT")

    def test_truth_of_another_sequence_is_refused(self, ctc):
        (ctc / "01").rename(ctc / "02")
        with pytest.raises(InputError, match=r"truth of 01, .* images of 02"):
            read_labelled_set(ctc / "02", ctc / "01_GT")

    def test_outlines_without_a_frame_are_a_problem(self, ctc):
        save(ctc / "01_GT" / "SEG" / "man_seg009.tif", cells(1))
        labelled = read_labelled_set(ctc / "01", ctc / "01_GT")
        assert labelled.problems == ("01/man_seg009.tif has no image t009.tif",)


class TestBadInput:
    """What is wrong with one pair is named, left out, and an error if strict."""

    @pytest.fixture(
        params={
            "no labels": (grey(), None, "d.tif has no labels"),
            "no image": (None, mask(), "labels d.tif have no image"),
            "sizes differ": (grey(), mask(shape=(12, 15)), "d: the image is 12 x 16 pixels, its"),
            "corrupt image": (b"II*\0nonsense", mask(), "d.tif cannot be read"),
            "corrupt labels": (grey(), b"nonsense", "d.tif cannot be read"),
            "fractions": (grey(), mask().astype(np.float32) / 2, "fractions"),
            "negative": (grey(), mask().astype(np.int16) - 1, "negative"),
            "coloured labels": (grey(), grey(shape=(*SIZE, 3)), "are in colour; save the label"),
            "not a number": (np.full(SIZE, np.nan, np.float32), mask(), "NaN"),
            "the odd one": (
                grey(shape=(*SIZE, 3)),
                mask(),
                "d is RGB, but most images .3 of 4. are",
            ),
            "3D": (np.stack([grey()] * 5), mask(), "only 2D images"),
        }.items(),
        ids=lambda param: param[0],
    )
    def bad(self, request, good):
        _, (image, labels, words) = request.param
        for folder, content in (("images", image), ("labels", labels)):
            if isinstance(content, bytes):
                (good / folder / "d.tif").write_bytes(content)
            elif content is not None:
                save(good / folder / "d.tif", content)
        return good, words

    def test_it_is_named_and_left_out(self, bad):
        folder, words = bad
        labelled = read(folder)
        assert names(labelled) == ["a", "b", "c"]
        (problem,) = labelled.problems
        assert re.search(words, problem)

    def test_strict_makes_it_an_error(self, bad):
        folder, words = bad
        with pytest.raises(InputError, match=words):
            read(folder, strict=True)

    def test_strict_names_all_problems(self, good):
        save(good / "images" / "d.tif", grey())
        save(good / "labels" / "e.tif", mask())
        with pytest.raises(InputError, match=r"2 problems.*d\.tif.*e\.tif"):
            read(good, strict=True)

    def test_ambiguous_names_are_a_problem(self, good):
        save(good / "images" / "d.tif", grey())
        save(good / "labels" / "d_mask.tif", mask())
        save(good / "labels" / "d_gt.tif", mask())
        (problem,) = read(good).problems
        assert "not clear which of d.tif, d_gt.tif, d_mask.tif" in problem

    def test_jpeg_labels_are_refused(self, good):
        save(good / "images" / "d.png", grey())
        save(good / "labels" / "d.jpg", mask())
        (problem,) = read(good).problems
        assert "JPEG, which changes label values; save the labels as PNG or TIFF" in problem

    def test_nothing_that_pairs_is_an_error_with_names_of_both(self, tmp_path):
        save(tmp_path / "images" / "cell1.tif", grey())
        save(tmp_path / "labels" / "other.tif", mask())
        with pytest.raises(InputError, match=r"cell1\.tif.*other\.tif.*the same name"):
            read(tmp_path)
        (tmp_path / "labels" / "other.tif").unlink()
        with pytest.raises(InputError, match=r"no \.tif"):
            read(tmp_path)

    def test_nothing_that_can_be_used_is_an_error(self, tmp_path):
        save_pair(tmp_path, "a", grey(), mask(shape=(5, 5)))
        with pytest.raises(InputError, match=r"no image .* can be used: a: the image is 12 x 16"):
            read(tmp_path)

    def test_an_image_without_objects_is_kept(self, good):
        save_pair(good, "d", grey(), 0 * mask())
        labelled = read(good)
        assert names(labelled) == ["a", "b", "c", "d"]
        assert labelled.problems == ()

    def test_background_alone_is_an_error(self, tmp_path):
        save_pair(tmp_path, "a", grey(), 0 * mask())
        with pytest.raises(InputError, match="all labels are 0"):
            read(tmp_path)

    def test_one_class_alone_is_an_error(self, tmp_path):
        save_pair(tmp_path, "a", grey(), 0 * mask() + 4)
        with pytest.raises(InputError, match="all labels are 4"):
            read(tmp_path)

    def test_too_many_classes_are_an_error(self, tmp_path):
        save_pair(
            tmp_path, "a", grey(shape=(20, 20)), np.arange(400, dtype=np.uint16).reshape(20, 20)
        )
        with pytest.raises(InputError, match="400 values, too many for classes"):
            read(tmp_path, kind="semantic")

    def test_whole_real_numbers_and_grey_rgb_are_labels(self, good):
        save_pair(good, "d", grey(), mask().astype(np.float32))
        save_pair(good, "e", grey(), np.stack([mask()] * 3, -1))
        save_pair(good, "f", grey(), mask() > 0)
        labelled = read(good)
        assert labelled.problems == ()
        for each in labelled.images:
            np.testing.assert_array_equal(each.labels, mask())
            assert each.labels.dtype.kind in "iu"

    def test_the_kind_must_be_known(self, good):
        with pytest.raises(InputError, match="not known"):
            read(good, kind="panoptic")


class TestChannels:
    def test_alpha_is_dropped(self, tmp_path):
        colour = grey(shape=(*SIZE, 3))
        save_pair(tmp_path, "a", colour, mask())
        save(tmp_path / "images" / "b.png", np.dstack([colour, np.full(SIZE, 255, np.uint8)]))
        save(tmp_path / "labels" / "b.png", mask())
        labelled = read(tmp_path)
        assert labelled.channels == 3
        np.testing.assert_array_equal(labelled.images[1].image, colour)

    def test_grey_stored_as_rgb_stays_so_unless_the_set_mixes(self, tmp_path):
        stored = np.stack([grey()] * 3, -1)
        save_pair(tmp_path, "a", stored, mask())
        assert read(tmp_path).channels == 3
        save_pair(tmp_path, "b", grey(1), mask())
        labelled = read(tmp_path)
        assert (labelled.channels, labelled.problems) == (1, ())
        np.testing.assert_array_equal(labelled.images[0].image, grey())

    def test_the_minority_may_be_the_grey_images(self, good):
        for name in "defg":
            save_pair(good, name, grey(shape=(*SIZE, 3)), mask())
        labelled = read(good)
        assert names(labelled) == ["d", "e", "f", "g"]
        assert len(labelled.problems) == 3


def judged(*labels):
    return judge_kind(labels, [frozenset(np.unique(each).tolist()) for each in labels])[0]


class TestKind:
    def test_two_values_are_classes(self):
        assert judged(255 * mask()) == "semantic"
        assert judged(mask() + 1, mask() + 1) == "semantic"

    def test_many_values_in_one_piece_each_are_objects(self):
        assert judged(cells(*range(1, 30))) == "instances"

    def test_few_objects_whose_numbers_differ_are_objects(self):
        assert judged(cells(1, 2, 3), cells(1, 2), cells(1)) == "instances"
        assert judged(cells(4, 9)) == "instances"

    def test_few_values_in_several_pieces_are_classes(self):
        assert judged(cells(1, 2, 1, 2), cells(2, 1, 2, 3, 3)) == "semantic"

    def test_few_values_that_all_images_share_are_classes(self):
        assert judged(cells(1, 2), cells(2, 1), cells(0)) == "semantic"

    def test_many_values_in_pieces_are_classes(self):
        assert judged(cells(*range(1, 21), *range(1, 21))) == "semantic"

    def test_grey_values_are_neither(self):
        with pytest.raises(InputError, match="look like grey"):
            judged(grey(shape=(64, 64)))

    def test_a_speck_does_not_make_an_object_a_class(self):
        labels = np.kron(cells(*range(1, 30)), np.ones((5, 5), np.uint16))
        labels[0, ::40] = labels[20, 10::40]
        assert judged(labels) == "instances"

    def test_the_user_has_the_last_word(self, good):
        labelled = read(good, kind="instances")
        assert (labelled.kind, labelled.class_values) == ("instances", (0, 1))
        assert labelled.kind_reason == "instances, as asked for"

    def test_objects_of_one_value_are_numbered(self, tmp_path):
        save_pair(tmp_path, "a", grey(shape=(12, 24)), cells(255, 0, 255))
        labelled = read(tmp_path, kind="instances")
        assert labelled.images[0].values() == {0, 1, 2}
        assert "numbered" in labelled.notes[0]

    def test_the_lowest_value_is_the_first_class(self, tmp_path):
        save_pair(tmp_path, "a", grey(shape=(12, 40)), cells(9, 4, 9, 4, 4))
        labelled = read(tmp_path)
        assert labelled.class_values == (0, 4, 9)
        assert labelled.kind_reason.startswith("semantic, because there are 2 values")


def a_set(*labels, groups=None, kind="semantic"):
    """A set of images named 00, 01, ... with these labels."""
    groups = groups or [""] * len(labels)
    images = tuple(
        LabelledImage(f"{number:02}", grey(number, each.shape), each, group)
        for number, (each, group) in enumerate(zip(labels, groups, strict=True))
    )
    values = sorted(set().union(*(each.values() for each in images)))
    return LabelledSet(images, kind, tuple(values) if kind == "semantic" else (0, 1))


class TestSplit:
    def test_every_image_is_in_one_part(self):
        whole = a_set(*[mask()] * 10)
        split = split_by_image(whole, 0.2)
        assert sorted(names(split.train) + names(split.validation)) == names(whole)
        assert len(split.validation.images) == 2
        assert split.validation.class_values == whole.class_values
        assert "2 of 10 images" in split.note

    def test_the_draw_depends_on_the_seed_and_not_on_the_order(self):
        whole = a_set(*[mask()] * 12)
        turned = LabelledSet(whole.images[::-1], whole.kind, whole.class_values)
        draws = [names(split_by_image(whole, seed=seed).validation) for seed in range(5)]
        again = [names(split_by_image(turned, seed=seed).validation) for seed in range(5)]
        assert [sorted(draw) for draw in again] == draws
        assert len({tuple(draw) for draw in draws}) > 1

    def test_two_images_are_one_each(self):
        split = split_by_image(a_set(mask(), mask()))
        assert len(split.train.images) == len(split.validation.images) == 1

    def test_a_class_of_one_image_is_learned(self):
        for seed in range(8):
            split = split_by_image(a_set(mask(1), mask(1), mask(2)), 0.4, seed)
            assert "02" in names(split.train)
            assert "Class 2 cannot be validated: only one image shows it" in split.note

    def test_every_class_is_learned(self):
        labels = [mask(1), mask(1), mask(1), mask(2), mask(2)]
        for seed in range(8):
            split = split_by_image(a_set(*labels), 0.6, seed)
            assert set().union(*(each.values() for each in split.train.images)) == {0, 1, 2}

    def test_objects_of_one_image_are_learned(self):
        for seed in range(4):
            whole = a_set(cells(1, 2), cells(0), cells(0), kind="instances")
            split = split_by_image(whole, seed=seed)
            assert "00" in names(split.train)
            assert "Objects cannot be validated" in split.note

    def test_the_end_of_each_sequence_is_held_out(self):
        whole = a_set(*[mask()] * 15, groups=["01"] * 10 + ["02"] * 5)
        for seed in range(3):
            split = split_by_image(whole, 0.2, seed)
            assert names(split.validation) == ["08", "09", "14"]
            assert "the last ones of each sequence" in split.note

    def test_images_that_are_alone_in_their_groups_are_drawn(self):
        whole = a_set(*[mask()] * 10, groups=[f"{number}" for number in range(10)])
        draws = {tuple(names(split_by_image(whole, seed=seed).validation)) for seed in range(5)}
        assert len(draws) > 1
        assert {len(draw) for draw in draws} == {2}

    def test_nothing_is_held_out_if_that_is_wanted(self):
        labelled = a_set(mask(), mask())
        split = split_by_image(labelled, 0)
        assert split.train is labelled
        assert split.validation.images == ()
        assert "no score" in split.note

    @pytest.mark.parametrize("fraction", [1, -0.5, 20])
    def test_a_share_that_is_none_is_refused(self, fraction):
        with pytest.raises(InputError, match="below 1"):
            split_by_image(a_set(mask(), mask()), fraction)


class TestStrips:
    """A single image is cut in two, with a gap between."""

    def whole(self):
        labels = np.zeros((200, 320), np.uint8)
        labels[::7, ::5] = 1
        return a_set(labels)

    @pytest.mark.parametrize("seed", range(6))
    def test_a_strip_is_held_out_and_a_gap_is_in_neither(self, seed):
        split = split_by_image(self.whole(), 0.2, seed)
        train, held_out = split.train.images[0].valid, split.validation.images[0].valid
        assert not (train & held_out).any()
        assert held_out.mean() == pytest.approx(0.2, abs=0.01)
        assert train.mean() > 0.7
        rows, columns = np.nonzero(held_out)
        box = held_out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.all()  # one rectangle
        wide = np.pad(held_out, 10, mode="edge")
        near = [
            wide[10 + y : wide.shape[0] - 10 + y, 10 + x : wide.shape[1] - 10 + x]
            for y, x in ((10, 0), (-10, 0), (0, 10), (0, -10))
        ]
        assert not (train & np.any(near, axis=0)).any()
        assert "strip of 20%" in split.note
        assert "there is one image" in split.note

    def test_the_strip_is_where_all_classes_are(self):
        labels = np.zeros((100, 100), np.uint8)
        labels[:, 40:50] = 1  # neither the left nor the right edge shows it
        labels[:, 60:70] = 2
        for seed in range(6):
            split = split_by_image(a_set(labels), seed=seed)
            for part in (split.train, split.validation):
                assert part.images[0].values() == {0, 1, 2}

    def test_pixels_that_are_not_annotated_stay_so(self):
        image = self.whole().images[0]
        valid = np.random.default_rng(0).random(image.labels.shape) < 0.5
        masked = LabelledImage(image.name, image.image, image.labels, "", valid)
        split = split_by_image(LabelledSet((masked,), "semantic", (0, 1)))
        for part in (split.train, split.validation):
            assert not (part.images[0].valid & ~valid).any()

    def test_images_with_a_class_each_are_all_cut(self):
        split = split_by_image(a_set(mask(1), mask(2)))
        assert names(split.train) == names(split.validation) == ["00", "01"]
        assert "each image has a class of its own" in split.note

    def test_an_image_too_small_to_cut_is_refused(self):
        with pytest.raises(InputError, match="too small"):
            split_by_image(a_set(np.array([[0, 1]])))


class TestDigest:
    def test_it_changes_with_any_pixel_shape_or_dtype(self):
        labels = mask()
        first = a_set(labels).digest()["00"]
        assert len(first) == 64
        assert a_set(labels.copy()).digest()["00"] == first
        other = labels.copy()
        other[0, 0] = 1
        for changed in (
            other,
            labels.astype(np.uint16),
            labels.view(np.int8),
            labels.reshape(8, 24),
        ):
            assert a_set(changed).digest()["00"] != first
        image = LabelledImage("00", grey(5), labels)
        assert LabelledSet((image,), "semantic", (0, 1)).digest()["00"] != first

    def test_it_does_not_depend_on_the_byte_order_of_the_file(self, tmp_path):
        pixels = grey().astype(np.uint16) * 300
        for order in "<>":
            tifffile.imwrite(tmp_path / f"{ord(order)}.tif", pixels, byteorder=order)
            tifffile.imwrite(tmp_path / f"{ord(order)}_mask.tif", mask())
        labelled = read_labelled_set(tmp_path, tmp_path)
        assert len(set(labelled.digest().values())) == 1
        assert all(each.image.dtype.isnative for each in labelled.images)


REAL = {
    "isbi2012_em": ("labels", 20, "semantic", (0, 255), 0),
    "dsb2018": ("masks", 295, "instances", (0, 1), 25),  # 25 are stained, in colour
    "deepcell_hela_phase": ("masks", 5, "instances", (0, 1), 0),
    "ctc_fluo_n2dh_simplus": ("masks", 10, "instances", (0, 1), 0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_read_as_what_they_are(name):
    data = Path(os.environ.get("NAPARI_UNET_DATA", "nowhere"))
    if not (data / name).is_dir():
        pytest.skip("set NAPARI_UNET_DATA to the folder of real images")
    labels, count, kind, classes, problems = REAL[name]
    labelled = read_labelled_set(data / name / "images", data / name / labels)
    assert (len(labelled.images), labelled.kind) == (count, kind)
    assert labelled.class_values == classes
    assert len(labelled.problems) == problems
    assert labelled.channels == 1
