"""Windows cut out of images."""

import numpy as np
import pytest
import torch

from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import Window


def picture(rows=40, columns=50):
    return np.random.default_rng(0).random((1, rows, columns)).astype(np.float32)


def cut(array, window, **options):
    return Pyramid(torch.from_numpy(array)).cut(window, **options).numpy()


def test_a_window_on_whole_pixels_is_the_crop():
    array = picture()
    found = cut(array, Window(20.5, 25.5, 1, 10))
    assert np.allclose(found, array[:, 16:26, 21:31], atol=1e-4)


@pytest.mark.parametrize("zoom", [0.03, 0.3, 1, 2.7])
def test_a_constant_image_is_constant_at_every_zoom(zoom):
    found = cut(np.full((3, 33, 47), 0.7, np.float32), Window(11, 40, zoom, 24))
    assert np.allclose(found, 0.7, atol=1e-4)


def test_beyond_the_border_the_image_is_mirrored():
    array = picture()
    found = cut(array, Window(0.5, 0.5, 1, 10))
    mirrored = np.pad(array, ((0, 0), (4, 0), (4, 0)), mode="symmetric")
    assert np.allclose(found, mirrored[:, :10, :10], atol=1e-4)


def test_or_it_is_zero():
    found = cut(np.ones((1, 20, 20), np.float32), Window(-30, -30, 1, 10), beyond="zeros")
    assert not found.any()


def test_a_coarse_window_averages():
    rng = np.random.default_rng(1)
    array = rng.normal(0.5, 0.2, (1, 256, 256)).astype(np.float32)
    found = cut(array, Window(127.5, 127.5, 1 / 8, 16))
    assert found.std() < 0.05, "noise of single pixels is gone"
    assert abs(found.mean() - 0.5) < 0.02


def test_turning_and_mirroring_move_no_value_elsewhere():
    array = picture(41, 41)
    window = Window(20, 20, 1, 21)
    straight = cut(array, window)[0]
    turned = cut(array, window, turn=np.pi / 2)[0]
    assert np.allclose(np.rot90(straight, 3), turned, atol=1e-4), "by a quarter, to the right"
    mirrored = cut(array, window, mirrored=True)[0]
    assert np.allclose(straight[:, ::-1], mirrored, atol=1e-5)
    both = cut(array, window, turn=np.pi / 2, mirrored=True)[0]
    assert np.allclose(np.rot90(straight[:, ::-1], 1), both, atol=1e-4)


def test_it_knows_where_the_image_is():
    pyramid = Pyramid(torch.zeros(1, 10, 10))
    inside = pyramid.covers(Window(0, 4.5, 1, 10)).numpy()
    assert 40 <= inside.sum() <= 60
    assert not inside[:4].any()
    assert inside[-4:].all()


@pytest.mark.parametrize(("zoom", "share"), [(2, 0), (0.7, 0), (0.5, 0.05), (0.1, 0.05)])
def test_a_mask_in_a_box_is_the_mask_on_the_whole_image(zoom, share):
    rows, columns = np.indices((120, 130))
    mask = (rows - 51) ** 2 + (columns - 70) ** 2 <= 30**2
    box = np.s_[21:82, 40:101]
    window = Window(50, 66, zoom, 60)
    whole = DrawnMask(mask, np.s_[0:120, 0:130]).cut(window).numpy()
    part = DrawnMask(mask[box], box).cut(window).numpy()
    # Coarse levels begin at the corner of the box, and so at other pixels.
    assert np.abs(whole - part).max() <= (0.5 if share else 1e-4)
    inside = whole > 0.5
    assert inside.any()
    assert (inside != (part > 0.5)).sum() <= share * inside.sum()
