"""Which pixels under the strokes the instant learner looks at."""

import numpy as np

from napari_unet.engine import stroke_samples


def test_many_pixels_are_thinned_out_evenly_and_the_same_ones_stay(monkeypatch):
    monkeypatch.setattr(stroke_samples, "_PIXELS_OF_A_CLASS", 500)
    painted = np.zeros((60, 100), np.uint8)
    painted[:30], painted[40:42, :50] = 1, 2
    rows, columns, labels = stroke_samples.chosen_pixels(painted, 0)
    assert np.bincount(labels).tolist() == [0, 500, 100]  # those of 2 are few: all of them
    assert (painted[rows, columns] == labels).all()
    halves = columns[labels == 1] < 50
    assert 0.4 < halves.mean() < 0.6
    painted[30] = 1  # a thirtieth more
    more = stroke_samples.chosen_pixels(painted, 0)
    before = set(zip(rows[labels == 1], columns[labels == 1], strict=True))
    after = set(zip(more[0][more[2] == 1], more[1][more[2] == 1], strict=True))
    assert len(before & after) > 460
    another = stroke_samples.chosen_pixels(painted, 1)
    assert not np.array_equal(more[0], another[0])
