"""The samples are there without a download, and their strokes lie where they should."""

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.engine.samples import SAMPLES, find_sample
from napari_unet.ops.annotations import check_annotations, draw_strokes
from napari_unet.ops.errors import InputError
from napari_unet.ops.held_out import hold_out_strokes
from napari_unet.ops.synthetic import touching_cells

every_sample = pytest.mark.parametrize("name", SAMPLES)


def test_names():
    assert set(SAMPLES) == {"cells", "ihc", "cell", "coins"}
    assert all(find_sample(name).name == name for name in SAMPLES)
    with pytest.raises(InputError, match="coins"):
        find_sample("moon")


@every_sample
def test_image_and_annotations_fit(name):
    sample = find_sample(name)
    image = sample.load()
    assert image.dtype == np.uint8
    assert image.ndim == (3 if name == "ihc" else 2)
    annotations = sample.annotations(image)
    checked = check_annotations(annotations, image.shape[:2], len(sample.classes))
    assert set(np.unique(checked)) == {0, *range(1, len(sample.classes) + 1)}
    np.testing.assert_array_equal(sample.load(), image)


@every_sample
def test_strokes_lie_inside_and_do_not_cross(name):
    sample = find_sample(name)
    shape = sample.load().shape[:2]
    strokes = sample.strokes()
    points = np.array([point for stroke in strokes for point in stroke.points])
    assert (points >= 0).all()
    assert (points < shape).all()
    np.testing.assert_array_equal(draw_strokes(strokes, shape), draw_strokes(strokes[::-1], shape))


@every_sample
def test_every_class_has_strokes_to_hold_out(name):
    sample = find_sample(name)
    annotations = sample.annotations(sample.load())
    held_out = hold_out_strokes(annotations)
    assert set(np.unique(annotations[held_out.mask])) == set(range(1, len(sample.classes) + 1))
    assert held_out.mask.sum() < 0.5 * (annotations > 0).sum()


def test_strokes_of_the_drawn_cells_agree_with_the_truth():
    sample = find_sample("cells")
    image, truth = touching_cells(shape=(512, 512), cells=60, seed=0)
    np.testing.assert_array_equal(sample.load(), image)
    annotations = sample.annotations(image)
    assert (truth[annotations == 2] > 0).all()
    # Background strokes lie on background, or run along the line where two cells touch.
    lowest = ndimage.minimum_filter(truth, 7)
    highest = ndimage.maximum_filter(truth, 7)
    on_border = (lowest != highest)[annotations == 1]
    assert (on_border | (truth[annotations == 1] == 0)).all()
    # And some do run between cells: that is what makes touching cells come apart.
    assert on_border.sum() > 500


@pytest.mark.parametrize("name", ["cell", "coins"])
def test_objects_are_brighter_than_what_surrounds_them(name):
    sample = find_sample(name)
    image = sample.load()
    annotations = sample.annotations(image)
    darkest_object = np.percentile(image[annotations == 2], 25)
    assert darkest_object > np.percentile(image[annotations == 1], 75)


def test_stained_tissue_is_brown():
    sample = find_sample("ihc")
    image = sample.load().astype(float)
    annotations = sample.annotations(image)
    brownness = image[..., 0] - image[..., 2]  # red above blue
    smooth = ndimage.gaussian_filter(brownness, 4)  # nuclei are blue in both tissues
    assert np.percentile(smooth[annotations == 2], 5) > np.percentile(smooth[annotations == 1], 95)
