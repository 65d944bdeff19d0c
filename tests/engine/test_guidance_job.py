"""The job that finds where to paint next."""

import numpy as np
import pytest

from napari_unet.engine import guidance
from napari_unet.engine.guidance import suggest_job


def certain_but(box, shape=(90, 130)):
    second = np.full(shape, 0.99, np.float32)
    second[box] = 0.5
    return np.stack([1 - second, second])


def test_the_uncertain_region_and_the_error_of_the_whole():
    (found,) = suggest_job(certain_but(np.s_[30:60, 60:90]), np.zeros((90, 130), int), side=30)
    assert found.regions[0].box == np.s_[30:60, 60:90]
    expected = (900 * 0.5 + (90 * 130 - 900) * 0.01) / (90 * 130)
    assert found.expected_error == pytest.approx(expected, rel=1e-3)


def test_a_large_image_is_looked_at_on_a_coarser_grid(monkeypatch):
    monkeypatch.setattr(guidance, "_PIXELS", 90 * 130 / 9)
    strokes = np.zeros((90, 130), int)
    strokes[:, 1] = 1  # between the pixels of the coarser grid
    (found,) = suggest_job(certain_but(np.s_[30:60, 60:90]), strokes, side=30, count=50)
    rows, columns = found.regions[0].box
    assert (rows.start, columns.start) == (30, 60)
    assert (rows.stop, columns.stop) == (60, 90)
    assert max(region.box[1].stop for region in found.regions) <= 130
    novelty = {region.box[1].start: region.novelty for region in found.regions}
    assert novelty[0] == pytest.approx(0, abs=1e-6)  # what looks like the strokes is not new
