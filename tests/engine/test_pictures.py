"""Pictures show what is in the arrays, and nothing that is not."""

import imageio.v3 as iio
import numpy as np
import pytest

from napari_unet.engine import pictures
from napari_unet.ops.errors import InputError

SKY, YELLOW = pictures.SKY_BLUE, pictures.YELLOW


@pytest.fixture
def two_squares():
    """Label 1 above label 2, touching, on background."""
    labels = np.zeros((12, 10), np.uint16)
    labels[1:6, 2:8] = 1
    labels[6:11, 2:8] = 2
    return labels


# ---------------------------------------------------------------------------- images


def test_stretched_ramp_goes_from_black_to_white():
    ramp = np.tile(np.linspace(300, 900, 64), (8, 1))
    shown = pictures.stretched(ramp)
    assert (shown.shape, shown.dtype) == ((8, 64, 3), np.uint8)
    assert shown.min() == 0
    assert shown.max() == 255
    assert (np.diff(shown[0, :, 0].astype(int)) >= 0).all()
    assert (shown == shown[..., :1]).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, ">i4", np.float32])
def test_stretching_does_not_depend_on_scale_or_dtype(dtype):
    checkers = np.indices((6, 6)).sum(axis=0) % 2
    np.testing.assert_array_equal(
        pictures.stretched(checkers.astype(dtype)), pictures.stretched(checkers * 1000.0 + 7)
    )


def test_colours_are_stretched_alike():
    rgb = np.zeros((4, 5, 3), np.uint16)
    rgb[:2] = (1000, 500, 0)
    shown = pictures.stretched(rgb)
    assert shown[0, 0].tolist() == [255, 128, 0]
    np.testing.assert_array_equal(pictures.stretched(np.dstack([rgb, rgb[..., 0]])), shown)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_black(bad):
    image = np.array([[bad, 1.0], [2.0, 3.0]])
    assert pictures.stretched(image)[0, 0].tolist() == [0, 0, 0]


def test_constant_image_is_black():
    assert not pictures.stretched(np.full((3, 3), 77)).any()


@pytest.mark.parametrize("shape", [(3,), (3, 3, 2), (0, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError):
        pictures.stretched(np.zeros(shape))


# ---------------------------------------------------------------------------- labels


def test_outline_lies_inside_and_parts_touching_labels(two_squares):
    overlay = pictures.outline_overlay(two_squares, (SKY, YELLOW), width=1)
    opaque = overlay[..., 3] == 255
    assert not opaque[two_squares == 0].any()
    assert not opaque[2:5, 3:7].any(), "the middle of label 1 stays free"
    assert overlay[5, 4].tolist() == [*SKY, 255]
    assert overlay[6, 4].tolist() == [*YELLOW, 255]
    assert 0 < overlay[0, 4, 3] < 255, "a rim lies outside"


def test_outline_is_as_wide_as_said(two_squares):
    large = pictures.enlarged(two_squares, 4)
    for width in (1, 2, 3):
        column = pictures.outline_overlay(large, width=width)[:24, 20, 3] == 255
        assert np.flatnonzero(column).tolist() == [*range(4, 4 + width), *range(24 - width, 24)]


def test_label_that_fills_the_image_has_no_outline():
    assert not pictures.outline_overlay(np.ones((5, 5), int)).any()


def test_outlined_changes_nothing_without_labels():
    picture = pictures.stretched(np.random.default_rng(0).random((6, 7)))
    np.testing.assert_array_equal(pictures.outlined(picture, np.zeros((6, 7), int)), picture)


def test_coloured_labels_keep_their_colour_in_every_picture(two_squares):
    colours = pictures.coloured_labels(two_squares)
    assert not colours[two_squares == 0].any()
    one, two = colours[3, 4], colours[8, 4]
    assert np.abs(one.astype(int) - two).sum() > 100
    alone = pictures.coloured_labels(np.where(two_squares == 2, 2, 0))
    np.testing.assert_array_equal(alone[8, 4], two)
    huge = pictures.coloured_labels(np.array([[0, 2**40]]))
    assert huge[0, 1].any()


def test_coloured_labels_let_the_picture_shine_through(two_squares):
    white = np.full((*two_squares.shape, 3), 255, np.uint8)
    shown = pictures.coloured_labels(two_squares, white, opacity=0.5)
    assert (shown[two_squares == 0] == 255).all()
    expected = (pictures.coloured_labels(two_squares)[3, 4].astype(int) + 255) / 2
    np.testing.assert_allclose(shown[3, 4], expected, atol=1.5)


# ---------------------------------------------------------------------------- errors and others


def test_each_error_has_its_colour_and_agreement_has_none():
    white = np.full((1, 6, 3), 255, np.uint8)
    shown = pictures.error_picture(white, np.arange(6)[np.newaxis])[0].astype(int)
    assert len(np.unique(shown, axis=0)) == 6
    assert len(set(shown[0])) == 1, "grey"
    for code, (_, colour) in pictures.ERRORS.items():
        distances = [np.abs(shown[code] - other).sum() for _, other in pictures.ERRORS.values()]
        assert pictures.ERRORS[int(np.argmin(distances)) + 1][1] == colour


def test_unknown_error_codes_are_refused():
    with pytest.raises(InputError, match="codes 0 to 5, not 6"):
        pictures.error_overlay(np.full((2, 2), 6))


def test_heat_gets_brighter_with_probability():
    shown = pictures.heat(np.array([[0.0, 0.25, 0.5, 0.75, 1.0]]))[0].sum(axis=1, dtype=int)
    assert (np.diff(shown) > 0).all()
    strange = pictures.heat(np.array([[-1.0, np.nan, 2.0]]))[0].sum(axis=1, dtype=int)
    assert strange.tolist() == [shown[0], shown[0], shown[-1]]


def test_composing_needs_one_size():
    with pytest.raises(InputError, match="same size"):
        pictures.composed(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 4), np.uint8))


def test_shrinking_averages_pictures_and_keeps_labels():
    labels = pictures.enlarged(np.array([[1, 2], [3, 4]]), 3)
    assert pictures.shrunk_labels(labels, 3).tolist() == [[1, 2], [3, 4]]
    picture = np.dstack([labels] * 3).astype(np.uint8)
    assert pictures.shrunk(picture, 3)[..., 0].tolist() == [[1, 2], [3, 4]]
    assert pictures.shrunk(picture, 6)[..., 0].tolist() == [[2]]
    for shape in ((7, 5), (8, 9), (2, 11)):
        picture, labels = np.zeros((*shape, 3), np.uint8), np.zeros(shape, int)
        small = pictures.shrunk(picture, 2)
        assert pictures.shrunk_labels(labels, 2).shape == small.shape[:2]


def test_busiest_window_holds_what_matters():
    importance = np.zeros((40, 30))
    importance[25:29, 20:23] = 1
    rows, columns = pictures.busiest_window(importance, 8)
    assert importance[rows, columns].shape == (8, 8)
    assert importance[rows, columns].sum() == importance.sum()
    assert pictures.busiest_window(importance, 50) == (slice(0, 40), slice(0, 30))


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_png_is_read_back_the_same(channels):
    shape = (5, 7) if channels is None else (5, 7, channels)
    picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(iio.imread(pictures.png(picture), extension=".png"), picture)


def test_grey_png_has_one_channel():
    picture = pictures.stretched(np.arange(12).reshape(3, 4))
    assert iio.imread(pictures.png(picture), extension=".png").shape == (3, 4)
