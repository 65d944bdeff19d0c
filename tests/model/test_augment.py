"""Patches: the crop they start from, the one field that moves all, the grey values."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from napari_unet.model.augment import AugmentConfig, Patch, sample_patch, scaled_down
from napari_unet.model.elastic import elastic_displacement
from napari_unet.ops.errors import InputError

NONE = AugmentConfig.none()
DEFORM = AugmentConfig().without_grey_values()


def only(**changes):
    return replace(NONE, **changes)


def random_image(shape, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(0.5, 1, (channels, *shape)).astype(np.float32)
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    weights = rng.uniform(0, 10, shape).astype(np.float32)
    return image, labels, weights


def sample(arrays, config=NONE, *, centre=None, size=(21, 9), seed=0):
    image, labels, weights = map(torch.as_tensor, arrays)
    if centre is None:
        centre = tuple((length - 1) / 2 for length in labels.shape)
    return sample_patch(
        image,
        labels,
        weights,
        centre=centre,
        input_size=size[0],
        output_size=size[1],
        config=config,
        generator=torch.Generator().manual_seed(seed),
    )


def ramps(shape):
    """Return an image that shows its own coordinates, so that a patch shows its field."""
    rows, columns = np.indices(shape)
    labels = (rows * 7 + columns * 3) % 5
    weights = rows * 1000.0 + columns
    return np.stack([rows, columns]).astype(np.float32), labels, weights.astype(np.float32)


# ------------------------------------------------------------------------------- nothing varied


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    where=st.tuples(st.integers(-15, 25), st.integers(-15, 25)),
    margin=st.integers(0, 6),
    output=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
)
def test_without_variation_a_patch_is_the_mirrored_crop(shape, where, margin, output, channels):
    image, labels, weights = random_image(shape, channels)
    side, pad = output + 2 * margin, 60
    start = [pad + begin for begin in where]
    outer = tuple(slice(s, s + side) for s in start)
    inner = tuple(slice(s + margin, s + margin + output) for s in start)
    centre = tuple(begin + (side - 1) / 2 for begin in where)
    patch = sample((image, labels, weights), centre=centre, size=(side, output))
    around = ((pad, pad), (pad, pad))
    mirrored = np.pad(image, ((0, 0), *around), mode="reflect")
    assert np.array_equal(patch.image[0].numpy(), mirrored[(slice(None), *outer)])
    assert np.array_equal(patch.annotations[0].numpy(), np.pad(labels, around)[inner])
    assert np.array_equal(patch.weights[0].numpy(), np.pad(weights, around)[inner])


def test_types_and_shapes():
    patch = sample(random_image((30, 40), channels=3), AugmentConfig(), size=(20, 8))
    assert (patch.image.dtype, patch.image.shape) == (torch.float32, (1, 3, 20, 20))
    assert (patch.annotations.dtype, patch.annotations.shape) == (torch.int64, (1, 8, 8))
    assert (patch.weights.dtype, patch.weights.shape) == (torch.float32, (1, 8, 8))


@pytest.mark.parametrize(("centre", "first"), [(10.0, 8), (10.49, 8), (10.5, 9), (11.4, 9)])
def test_a_centre_between_pixels_is_laid_on_whole_pixels(centre, first):
    patch = sample(ramps((30, 30)), centre=(centre, centre), size=(5, 3))
    assert patch.image[0, 0, :, 0].tolist() == list(range(first, first + 5))


# ------------------------------------------------------------------------------- one field


@pytest.mark.parametrize("seed", range(6))
def test_image_annotations_and_weights_move_together(seed):
    arrays = ramps((200, 220))
    patch = sample(arrays, DEFORM, size=(61, 41), seed=seed)
    field = patch.image[0, :, 10:51, 10:51].double()  # what the image shows is where it was read
    offset = field - torch.tensor([99.5, 109.5])[:, None, None]
    assert offset.abs().max() > 15  # it has moved
    rows, columns = np.floor(field.numpy() + 0.5).astype(int)
    # Rounding may tip where a position is half-way between two pixels.
    clear = (abs(field.numpy() % 1 - 0.5) > 1e-3).all(axis=0)
    assert clear.mean() > 0.95
    assert np.array_equal(patch.annotations[0].numpy()[clear], arrays[1][rows, columns][clear])
    assert np.array_equal(patch.weights[0].numpy()[clear], arrays[2][rows, columns][clear])


@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_on_what_they_were_painted_on(seed):
    # Blocks of 20 pixels, each of one grey value and one label; away from the edges of a block
    # interpolation leaves the grey value as it is.
    rows, columns = np.indices((240, 240)) // 20
    labels = 1 + (rows + 2 * columns) % 4
    image = labels[None].astype(np.float32) / 4
    patch = sample(
        (image, labels, np.ones((240, 240), np.float32)), DEFORM, size=(121, 121), seed=seed
    )
    shown, painted = 4 * patch.image[0, 0], patch.annotations[0]
    plain = (shown - shown.round()).abs() < 1e-4
    inside = (patch.weights[0] > 0) & plain
    assert inside.float().mean() > 0.7
    wrong = (shown.round()[inside] != painted[inside]).float().mean()
    # Between blocks whose values differ by 2, the blend half-way is a value of a third one.
    assert wrong < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_outside_the_image_nothing_is_annotated(seed):
    # The same field over an image that goes on shows where it leaves the small one.
    whole = ramps((300, 300))
    small = (np.ones((1, 60, 60), np.float32), np.full((60, 60), 2), np.ones((60, 60), np.float32))
    options = {"size": (61, 61), "seed": seed}
    field = sample(whole, DEFORM, centre=(120.0, 150.0), **options).image[0] - 120
    patch = sample(small, DEFORM, centre=(0.0, 30.0), **options)
    inside = ((field > -0.5) & (field < 59.5)).all(dim=0)
    clear = ((field + 0.5).abs() > 1e-3).all(dim=0) & ((field - 59.5).abs() > 1e-3).all(dim=0)
    assert 0.1 < inside.float().mean() < 0.9
    assert torch.equal((patch.annotations[0] == 2)[clear], inside[clear])
    assert torch.equal((patch.weights[0] == 1)[clear], inside[clear])
    assert torch.equal(patch.annotations[0] == 0, patch.weights[0] == 0)
    assert (patch.image == 1).all()  # while the image is mirrored there


def test_far_outside_nothing_is_annotated_at_all():
    patch = sample(random_image((5, 7)), DEFORM, centre=(1e6, -1e6))
    assert not patch.annotations.any()
    assert not patch.weights.any()
    assert torch.isfinite(patch.image).all()


# ------------------------------------------------------------------------------- deformations


def test_flips_are_the_eight_symmetries_of_the_square():
    arrays = random_image((30, 30))
    crop = arrays[0][0, 10:19, 10:19]
    symmetries = [np.rot90(c, k) for c in (crop, crop.T) for k in range(4)]
    seen = set()
    for seed in range(80):
        patch = sample(arrays, only(flip=True), centre=(14, 14), size=(9, 5), seed=seed)
        (which,) = [
            i for i, c in enumerate(symmetries) if np.array_equal(c, patch.image[0, 0].numpy())
        ]
        seen.add(which)
    assert seen == set(range(8))


def test_rotation_keeps_distances_and_takes_every_angle():
    angles = []
    for seed in range(60):
        patch = sample(
            ramps((101, 101)), only(rotation=True), centre=(50, 50), size=(31, 31), seed=seed
        )
        field = patch.image[0].double() - 50
        grid = torch.stack(torch.meshgrid(*2 * [torch.arange(31.0) - 15], indexing="ij")).double()
        torch.testing.assert_close(field.norm(dim=0), grid.norm(dim=0), rtol=0, atol=1e-4)
        (a, b), (c, d) = field[:, 30, 15] / 15, field[:, 15, 30] / 15
        assert (a * d - b * c).item() == pytest.approx(1, abs=1e-4)  # turned, not mirrored
        angles.append(np.arctan2(b.item(), a.item()))
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() >= 5


def test_shift_is_whole_and_within_its_range():
    shifts = set()
    for seed in range(100):
        patch = sample(ramps((60, 60)), only(shift=3.0), centre=(30, 30), size=(5, 3), seed=seed)
        rows, columns = patch.image[0, :, 2, 2].tolist()
        shifts.add((rows - 30, columns - 30))
    assert {s for pair in shifts for s in pair} == {-3, -2, -1, 0, 1, 2, 3}
    assert len({pair for pair in shifts if pair[0] != pair[1]}) > 10


def test_elastic_displacement_has_the_deviation_asked_for():
    generator = torch.Generator().manual_seed(0)
    many = torch.stack([elastic_displacement(101, 10.0, 3, generator) for _ in range(400)])
    at_grid_points = many[:, :, ::50, ::50]
    assert at_grid_points.shape == (400, 2, 3, 3)
    assert at_grid_points.std().item() == pytest.approx(10, rel=0.03)
    assert abs(at_grid_points.mean().item()) < 0.5
    # Vectors are drawn independently: of each other, and along rows and columns.
    correlation = torch.corrcoef(at_grid_points.reshape(400, 18).T)
    assert (correlation - torch.eye(18)).abs().max() < 0.25
    everywhere = many.std(dim=0)
    assert everywhere.min() > 5
    assert everywhere.max() < 12


def test_elastic_displacement_is_smooth():
    field = elastic_displacement(201, 10.0, 3, torch.Generator().manual_seed(0))
    for axis in (1, 2):
        slope = field.diff(dim=axis)
        assert slope.abs().max() < 10 * 4 / 100  # 4 sigma over the 100 pixels between points
        bend = slope.diff(dim=axis)
        assert bend.abs().max() < 0.02


def test_a_cubic_runs_through_the_grid_points_not_straight_between_them():
    field = elastic_displacement(101, 10.0, 3, torch.Generator().manual_seed(1))
    ends, middle = (field[:, 0] + field[:, 50]) / 2, field[:, 25]
    assert (middle - ends).abs().max() > 0.5


def test_sigma_0_displaces_nothing():
    assert not elastic_displacement(31, 0.0, 3, torch.Generator()).any()
    elastic = sample(ramps((50, 50)), only(elastic_sigma=3.0))
    still = sample(ramps((50, 50)), only(elastic_sigma=0.0))
    assert not torch.equal(elastic.image, still.image)
    assert torch.equal(still.image, sample(ramps((50, 50)), NONE).image)


# ------------------------------------------------------------------------------- random numbers


def test_same_generator_same_patch():
    arrays = random_image((50, 50))
    first, again, other = (sample(arrays, AugmentConfig(), seed=seed) for seed in (3, 3, 4))
    for name in ("image", "annotations", "weights"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.image, other.image)


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    sample(random_image((50, 50)), AugmentConfig())
    assert torch.equal(torch.get_rng_state(), state)


def test_grey_values_do_not_change_the_deformation():
    arrays = ramps((80, 80))
    full, plain = (sample(arrays, config, seed=5) for config in (AugmentConfig(), DEFORM))
    assert torch.equal(full.annotations, plain.annotations)
    assert torch.equal(full.weights, plain.weights)
    assert not torch.equal(full.image, plain.image)


def test_inputs_are_not_changed():
    arrays = [torch.as_tensor(a) for a in random_image((30, 30))]
    before = [a.clone() for a in arrays]
    sample(arrays, AugmentConfig())
    assert all(torch.equal(a, b) for a, b in zip(arrays, before, strict=True))


# ------------------------------------------------------------------------------- grey values


def grey(config, values, seed):
    """Return what becomes of the given grey values, one row of the image each."""
    image = np.repeat(np.asarray(values, np.float32)[None, :, None], len(values), axis=2)
    blank = np.zeros(image.shape[1:], np.float32)
    side = len(values)
    return sample((image, blank.astype(int), blank), config, size=(side, side), seed=seed).image[
        0, 0
    ]


def test_brightness_is_an_offset_within_its_range():
    values = [0.0, 1.0, 5.0]
    shown = torch.stack([grey(only(brightness=0.1), values, seed)[:, 0] for seed in range(40)])
    found = shown - torch.tensor(values)
    torch.testing.assert_close(found, found[:, :1].expand(-1, 3), rtol=0, atol=1e-6)
    assert -0.1 <= found.min() < -0.08
    assert 0.08 < found.max() <= 0.1


def test_contrast_is_a_factor_around_the_middle_within_its_range():
    factors = []
    for seed in range(40):
        low, middle, high = grey(only(contrast=0.25), [0.0, 0.5, 1.0], seed)[:, 0].tolist()
        assert middle == pytest.approx(0.5)
        assert high - 0.5 == pytest.approx(0.5 - low, abs=1e-6)
        factors.append(high - low)
    assert 0.8 <= min(factors) < 0.85
    assert 1.2 < max(factors) <= 1.25


def test_gamma_bends_between_0_and_1_and_leaves_the_rest():
    values = [-40.0, -0.3, 0.0, 0.25, 0.5, 0.75, 1.0, 1.4, 60.0]
    bent = torch.stack([grey(only(gamma=0.5), values, seed)[:, 0] for seed in range(40)])
    assert torch.isfinite(bent).all()
    assert (bent.diff(dim=1) > 0).all()  # never swaps dark and bright
    outside = [0, 1, 2, 6, 7, 8]
    torch.testing.assert_close(bent[:, outside], torch.tensor(values)[outside].expand(40, -1))
    exponents = bent[:, 4].log() / np.log(0.5)
    assert 1 / 1.5 <= exponents.min() < 0.72
    assert 1.38 < exponents.max() <= 1.5 + 1e-6


def test_noise_is_gaussian_of_at_most_the_deviation_asked_for():
    flat = np.zeros(40)
    deviations = [grey(only(noise=0.2), flat, seed).std().item() for seed in range(40)]
    assert max(deviations) < 0.21
    assert max(deviations) > 0.17
    assert min(deviations) < 0.05
    noise = grey(only(noise=0.2), flat, seed=1).double()
    kurtosis = ((noise - noise.mean()) ** 4).mean() / noise.var() ** 2
    assert kurtosis.item() == pytest.approx(3, abs=0.6)


def test_sharpness_weakens_and_amplifies_what_a_small_blur_takes_away():
    image = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    blank = np.zeros((40, 40), np.float32)
    blurred = ndimage.gaussian_filter(image, 1, mode="nearest", truncate=2)
    # Without two pixels at the edge, where the patch ends and the image does not.
    inside = (slice(12, -12), slice(12, -12))
    detail = (image - blurred)[inside]
    factors = []
    for seed in range(40):
        target = (image[None], blank.astype(int), blank)
        shown = sample(target, only(sharpness=1.5), seed=seed, size=(20, 10)).image[0, 0].numpy()
        changed = shown[2:-2, 2:-2] - blurred[inside]
        factors.append(float((changed * detail).sum() / (detail * detail).sum()))
        np.testing.assert_allclose(changed, factors[-1] * detail, atol=1e-4)
    assert 1 / 2.5 - 0.02 <= min(factors) < 0.5
    assert 2 < max(factors) <= 2.5 + 0.05


def test_sharpness_leaves_flat_images_alone():
    flat = grey(only(sharpness=3.0), np.full(40, 0.3), seed=1)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))


def test_all_channels_change_together():
    image = np.full((3, 20, 20), 0.3, np.float32)
    blank = np.zeros((20, 20), np.float32)
    config = replace(AugmentConfig(), noise=0.0)
    shown = sample((image, blank.astype(int), blank), config).image[0]
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])
    assert not torch.allclose(shown, torch.tensor(0.3))


# ------------------------------------------------------------------------------- corners


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    centre=st.tuples(st.floats(-50, 80), st.floats(-50, 80)),
    output=st.integers(1, 20),
    margin=st.integers(0, 10),
    seed=st.integers(0, 1000),
)
def test_any_image_gives_finite_patches_of_its_own_values(shape, centre, output, margin, seed):
    arrays = random_image(shape)
    size = (output + 2 * margin, output)
    patch = sample(arrays, DEFORM, centre=centre, size=size, seed=seed)
    assert patch.image.min() >= arrays[0].min() - 1e-5
    assert patch.image.max() <= arrays[0].max() + 1e-5
    assert set(patch.annotations.unique().tolist()) <= {0, *np.unique(arrays[1]).tolist()}
    assert torch.isin(patch.weights, torch.tensor([0.0, *arrays[2].ravel()])).all()
    varied = sample(arrays, AugmentConfig(), centre=centre, size=size, seed=seed)
    assert torch.isfinite(varied.image).all()


def test_only_what_the_patch_shows_is_read():
    # An image of 40 billion pixels, all of them the same four bytes: a copy would not fit anywhere.
    side = 200_000
    image = torch.ones(1, 1, 1).expand(1, side, side)
    labels = torch.full((1, 1), 2).expand(side, side)
    weights = torch.ones(1, 1).expand(side, side)
    patch = sample((image, labels, weights), DEFORM, centre=(150_000, 70_000), size=(61, 41))
    assert (patch.image == 1).all()
    assert (patch.annotations == 2).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(["shift", "contrast", "noise", "sharpness"], [-1.0, np.nan, np.inf]),
        ("grid_points", 1),
        ("grid_points", -3),
    ],
)
def test_impossible_configurations_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        AugmentConfig(**{name: value})


@pytest.mark.parametrize("size", [(9, 10), (9, 4), (9, 0)])
def test_an_output_that_is_not_the_middle_of_the_input_is_refused(size):
    with pytest.raises(InputError, match="middle"):
        sample(random_image((20, 20)), size=size)


def test_shapes_that_do_not_go_together_are_refused():
    image, labels, weights = random_image((20, 22))
    with pytest.raises(InputError, match="annotations of shape"):
        sample((image, labels.T, weights))
    with pytest.raises(InputError, match="weights of shape"):
        sample((image, labels, weights[1:]))
    with pytest.raises(InputError, match="image of shape"):
        sample((image[0], labels, weights))


def test_scale_enlarges_and_shrinks_what_lies_around_the_middle():
    rows = np.arange(80, dtype=np.float32)[:, None].repeat(80, axis=1)
    blank = np.zeros((80, 80), np.float32)
    factors = []
    for seed in range(40):
        shown = sample((rows[None], blank.astype(int), blank), only(scale=1.0), seed=seed)
        steps = np.diff(shown.image[0, 0].numpy(), axis=0)
        factors.append(float(steps.mean()))
        np.testing.assert_allclose(steps, factors[-1], atol=1e-3)
    assert 0.5 - 1e-3 <= min(factors) < 0.7
    assert 1.6 < max(factors) <= 2 + 1e-3


# ------------------------------------------------------------------------- seen from afar


def ramp():
    """Grey values that rise linearly, so that averages are values at the middle."""
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    return (0.003 * rows + 0.002 * columns)[None]


def seen_twice(config, input_size=32, smaller_size=8):
    image = ramp()
    blank = torch.zeros(160, 160)
    return sample_patch(
        image,
        blank.long(),
        blank,
        centre=(80.0, 78.0),
        input_size=input_size,
        output_size=16,
        config=config,
        generator=torch.Generator().manual_seed(3),
        smaller=scaled_down(image),
        smaller_size=smaller_size,
    )


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig.none(),
        AugmentConfig(elastic_sigma=0.0, noise=0.0, gamma=0.0),
        AugmentConfig(elastic_sigma=0.0, noise=0.0, gamma=0.0, scale=0.3, sharpness=0.2),
    ],
)
def test_the_smaller_patch_shows_the_same_as_the_patch(config):
    patch = seen_twice(config)
    scaled = functional.avg_pool2d(patch.image, 4)
    # Sharpening changes the border of the patch, whose surroundings it does not know.
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(patch.smaller[inner], scaled[inner], atol=1e-4, rtol=1e-4)


def test_the_smaller_patch_is_displaced_as_the_patch_is():
    patch = seen_twice(AugmentConfig(elastic_sigma=5.0, noise=0.0, gamma=0.0))
    scaled = functional.avg_pool2d(patch.image, 4)
    # To half a pixel of it: its displacements are those of the nearest pixels.
    assert (patch.smaller - scaled).abs().max() < 0.003 * 2
    still = seen_twice(AugmentConfig(elastic_sigma=0.0, noise=0.0, gamma=0.0)).smaller
    assert (still - scaled).abs().max() > 0.003 * 2


def test_the_smaller_patch_reaches_further_than_the_patch():
    near = seen_twice(AugmentConfig(noise=0.0))
    far = seen_twice(AugmentConfig(noise=0.0), smaller_size=16)
    torch.testing.assert_close(far.smaller[..., 4:-4, 4:-4], near.smaller)


def test_a_batch_has_smaller_patches_or_none():
    twice = seen_twice(AugmentConfig())
    assert Patch.joined([twice, twice]).smaller.shape == (2, 1, 8, 8)
    once = replace(twice, smaller=None)
    assert Patch.joined([once, once]).smaller is None
