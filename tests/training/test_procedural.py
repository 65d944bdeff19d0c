"""Drawn scenes: their truth is complete, and the same seed always gives the same drawing."""

import numpy as np
import pytest
from procedural import KINDS, NO_OBJECT, draw

SIDE = 96


@pytest.fixture(scope="module", params=KINDS)
def drawings(request):
    """Two of a kind, one in grey and one in colour."""
    return [draw(number, SIDE, request.param, colour=bool(number)) for number in range(2)]


def test_arrays_are_as_promised(drawings):
    for drawing, shape in zip(drawings, [(SIDE, SIDE), (SIDE, SIDE, 3)], strict=True):
        for picture in (drawing.image, drawing.clean):
            assert picture.shape == shape
            assert picture.dtype == np.float32
            assert 0 <= picture.min()
            assert picture.max() <= 1
        assert drawing.regions.shape == drawing.instances.shape == (SIDE, SIDE)
        assert drawing.regions.dtype == np.uint8
        assert drawing.instances.dtype == np.int32


def test_every_region_has_a_name_and_is_somewhere(drawings):
    for drawing in drawings:
        present = np.unique(drawing.regions)
        np.testing.assert_array_equal(present, np.arange(1, len(drawing.names) + 1))
        assert len(set(drawing.names)) == len(drawing.names)


def test_objects_lie_only_where_objects_can_be(drawings):
    for drawing in drawings:
        under = {drawing.names[number - 1] for number in drawing.regions[drawing.instances > 0]}
        assert not under & NO_OBJECT


def test_something_can_be_seen(drawings):
    for drawing in drawings:
        assert drawing.image.std() > 0.005
        assert drawing.clean.std() > 0.005


def test_the_same_seed_draws_the_same():
    for number in range(8):
        first, second = draw(number, SIDE), draw(number, SIDE)
        assert first.kind == second.kind
        assert first.names == second.names
        for name in ("image", "clean", "regions", "instances"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(draw(0, SIDE, "nuclei").image, draw(1, SIDE, "nuclei").image)


def test_any_kind_comes_up():
    found = {draw(number, 64).kind for number in range(60)}
    assert len(found) > 0.6 * len(KINDS)


def test_objects_that_touch_have_their_own_numbers():
    touching = 0
    for number in range(12):
        labels = draw(number, 160, "nuclei").instances
        beside, below = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
        touching += (beside & (labels[:, 1:] > 0) & (labels[:, :-1] > 0)).sum()
        touching += (below & (labels[1:] > 0) & (labels[:-1] > 0)).sum()
    assert touching > 50


def test_the_clean_picture_is_the_same_scene():
    """Where noise is drawn over a scene, its clean picture still goes up and down with it."""
    alike = []
    for number in range(20):
        drawing = draw(number, SIDE, "nuclei", colour=False)
        alike.append(np.corrcoef(drawing.image.ravel(), drawing.clean.ravel())[0, 1])
    assert np.median(alike) > 0.7


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unicorns"):
        draw(0, SIDE, "unicorns")
    with pytest.raises(ValueError, match="10 pixels"):
        draw(0, 10)
