"""What is like finished objects: discs on the left, nothing on the right."""

import threading

import numpy as np
import pytest
import torch

from napari_unet.engine import click, click_learning, click_teaching
from napari_unet.engine.click import Clicker
from napari_unet.engine.click_hint import Hint
from napari_unet.engine.click_jobs import propose_job
from napari_unet.engine.click_learning import Adaptation, KnownObject
from napari_unet.engine.click_likeness import Likeness, PixelClassifier, likeness_job, seen_in_job
from napari_unet.engine.click_teaching import adapt_job, liken_job
from napari_unet.engine.events import ClicksAdapted, PieceDone
from napari_unet.engine.feature_tiles import FeatureTiles
from napari_unet.engine.image import SourceImage
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import Outline, Window

SHAPE = (160, 300)
RADIUS = 11
MIDDLES = [(row, column) for row in (30, 80, 130) for column in (30, 80, 130, 180)]
KNOWN = (0, 5, 10, 3)


def disc(row, column):
    rows, columns = np.indices(SHAPE)
    return (rows - row) ** 2 + (columns - column) ** 2 <= RADIUS**2


def discs():
    """Discs on the left, and nothing but noise on the right."""
    found = np.any([disc(*middle) for middle in MIDDLES], axis=0)
    noise = np.random.default_rng(0).normal(0, 0.1, SHAPE)
    return (found + noise).astype(np.float32)


@pytest.fixture(scope="module")
def image():
    return SourceImage(discs())


@pytest.fixture(scope="module")
def objects():
    return [Outline.of_mask(disc(*MIDDLES[number])) for number in KNOWN]


def ended(job):
    """Return what a job returns, and how many pieces it did."""
    pieces = 0
    while True:
        try:
            assert isinstance(next(job), PieceDone)
        except StopIteration as end:
            return end.value, pieces
        pieces += 1


def labels_of(objects):
    labels = np.zeros(SHAPE, np.int32)
    for number, each in enumerate(objects, start=1):
        labels[each.box][each.mask] = number
    return labels


def test_other_objects_of_the_kind_are_probable_and_what_is_around_them_is_not(image, objects):
    found, pieces = ended(likeness_job(image, objects))
    assert pieces > len(objects) - 1, "what is more urgent goes first, again and again"
    unknown = [middle for n, middle in enumerate(MIDDLES) if n not in KNOWN]
    assert min(found.probability[middle] for middle in unknown) > 0.8
    assert np.median(found.probability[:, 220:]) < 0.2
    assert found.probability.shape == SHAPE
    assert 0 <= found.probability.min() < found.probability.max() <= 1


def _logit(probability):
    return np.log(probability) - np.log1p(-probability)


def test_each_object_is_judged_by_what_was_learned_from_the_others(image, objects):
    found, _ = ended(likeness_job(image, objects))
    assert len(found.held_out) == 3, "four objects in three parts"
    classifier = PixelClassifier(image)
    for part, told in enumerate(found.held_out):
        others = [each for number, each in enumerate(objects) if number % 3 != part]
        [expected], _ = ended(classifier.everywhere_job([classifier.fitted(labels_of(others))]))
        np.testing.assert_allclose(_logit(told), _logit(expected) / 2, atol=1e-2)


def test_the_order_of_objects_says_nothing(image, objects):
    first, _ = ended(likeness_job(image, objects))
    second, _ = ended(likeness_job(image, objects[::-1]))
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-4)


def test_what_was_learned_says_the_same_of_the_image_when_it_is_looked_at_again(image, objects):
    found, _ = ended(likeness_job(image, objects))
    again, _ = ended(seen_in_job(image, found.head))
    np.testing.assert_allclose(again, found.probability, atol=1e-4)
    mirrored, _ = ended(seen_in_job(SourceImage(discs()[:, ::-1].copy()), found.head))
    assert min(mirrored[row, SHAPE[1] - 1 - column] for row, column in MIDDLES) > 0.8


def test_one_object_or_one_that_has_nothing_beside_it_tells_nothing(image, objects):
    assert ended(likeness_job(image, objects[:1])) == (None, 0)
    assert ended(likeness_job(image, [])) == (None, 0)
    left, right = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    left[:, :150] = right[:, 150:] = True
    everything = [Outline.of_mask(left | right), Outline.of_mask(left | right)]
    assert ended(likeness_job(image, everything))[0] is None


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_stopped_it_says_nothing(image, objects, pieces):
    stop = threading.Event()
    job = likeness_job(image, objects, stop)
    for _ in range(pieces):
        next(job)
    stop.set()
    assert ended(job)[0] is None
    head, _ = ended(likeness_job(image, objects))
    assert ended(seen_in_job(image, head.head, stop)) == (None, 0)


def test_a_click_never_waits_for_more_than_one_tile(image, objects, monkeypatch):
    computed = []
    original = FeatureTiles.of

    def of(tiles, tile):
        if not tiles.has(tile):
            computed.append(tile.index)
        return original(tiles, tile)

    monkeypatch.setattr(FeatureTiles, "of", of)
    before = 0
    for _ in likeness_job(image, objects):
        assert len(computed) - before <= 1
        before = len(computed)
    assert before > 1
    assert len(set(computed)) == before, "each once"
    labels, clicker = labels_of(objects), Clicker(image, precision="fp32")
    computed.clear()
    before = 0
    for _ in propose_job(clicker, labels):
        assert len(computed) - before <= 1
        before = len(computed)
    assert before > 1


# ---------------------------------------------------------------------- clicks are told


@pytest.mark.parametrize("misleads", [False, True])
def test_what_makes_first_answers_worse_is_not_told(image, objects, monkeypatch, misleads):
    found, _ = ended(likeness_job(image, objects))
    if misleads:  # bands through all discs of a row
        band = np.full(SHAPE, 0.05, np.float32)
        for row in (30, 80, 130):
            band[row - RADIUS : row + RADIUS + 1, 10:290] = 0.95
        found = Likeness(found.head, band, (band, band, band))

    def job(*_):
        yield PieceDone()
        return found

    monkeypatch.setattr(click_teaching, "likeness_job", job)
    clicker = Clicker(image, precision="fp32")
    for each in objects:
        clicker.commit(each)
    told, pieces = ended(liken_job(clicker))
    assert pieces == 1 + 2 * len(objects), "each object is answered with and without it"
    assert (clicker.likeness is None) == misleads
    assert [each is None for each in told] == [misleads] * len(objects)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(click_learning, "_STEPS", 1)


def told(clicker, monkeypatch):
    """What the network is told at the first look of a click in the middle of the image."""
    seen = []

    def told_of(pyramid, hint, window, clicks, earlier):
        if earlier is None:
            seen.append(hint)
        return original(pyramid, hint, window, clicks, earlier)

    original = click.told_of
    monkeypatch.setattr(click, "told_of", told_of)
    clicker.outline([((80, 80), True)])
    monkeypatch.setattr(click, "told_of", original)
    return seen[0]


@pytest.mark.usefixtures("quick")
def test_after_adapting_clicks_are_told_unless_a_network_says_more(image, objects, monkeypatch):
    clicker = Clicker(image, precision="fp32")
    assert told(clicker, monkeypatch) is None
    for each in objects:
        clicker.commit(each)
    *_, last = adapt_job(clicker)
    assert isinstance(last, ClicksAdapted)
    assert clicker.likeness is not None
    window = Window(130, 30, 1.0, 9)
    assert float(told(clicker, monkeypatch).cut(window, ()).min()) > 0.8, "a disc nobody finished"
    clicker.set_hint(np.full(SHAPE, 0.7, np.float32))
    torch.testing.assert_close(told(clicker, monkeypatch).cut(window, ()), torch.full((9, 9), 0.7))
    clicker.set_hint(None)
    assert float(told(clicker, monkeypatch).cut(window, ()).min()) > 0.8
    clicker.set_likeness(None, None)
    assert told(clicker, monkeypatch) is None
    assert clicker.likeness is None


@pytest.mark.usefixtures("quick")
def test_what_is_like_an_object_is_not_asked_of_the_object_itself(image, objects, monkeypatch):
    given = []

    class Watched(Adaptation):
        def __init__(self, network, known, plan):
            given.extend(known)
            super().__init__(network, known, plan)

    monkeypatch.setattr(click_teaching, "Adaptation", Watched)
    clicker = Clicker(image, precision="fp32")
    for each in objects:
        clicker.commit(each)
    list(adapt_job(clicker))
    found, _ = ended(likeness_job(image, objects))
    window = Window(80, 80, 1.0, 41)
    for number, known in enumerate(given):
        expected = Hint(found.held_out[number % 3]).cut(window, ())
        torch.testing.assert_close(known.alike.cut(window)[0], expected, atol=1e-3, rtol=0)


def test_first_looks_are_told_and_later_ones_are_not(image, monkeypatch):
    """While it adapts, as when it answers."""
    alike = Pyramid(torch.full((1, *SHAPE), 0.9))
    mask = disc(80, 80)
    outline = Outline.of_mask(mask)
    pyramid = Pyramid(torch.from_numpy(image.normalized))
    known = KnownObject(
        pyramid, DrawnMask(outline.mask, outline.box), Window(80, 80, 1.0, 64), alike
    )
    adaptation = Adaptation(Clicker(image, precision="fp32").network, [known])
    hints = []

    def logit(samples):
        hints.append([float(each.hint.mean()) for each in samples])
        return torch.stack([torch.zeros(each.truth.shape, requires_grad=True) for each in samples])

    monkeypatch.setattr(adaptation, "_logit", logit)
    for rounds in (0, 1, 2):
        monkeypatch.setattr(click_learning, "rounds_of_clicks", lambda _, n=rounds: n)
        hints.clear()
        for _ in range(6):
            adaptation._step()
        looks = [each for step in hints for each in step]
        first = [each for step in hints[:: rounds + 1] for each in step]
        assert {round(each, 3) for each in first} == {0.5, 0.9}, "most are told, some are not"
        assert sum(each > 0.6 for each in looks) == sum(each > 0.6 for each in first)
