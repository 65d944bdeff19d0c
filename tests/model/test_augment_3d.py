"""Patches of stacks: planes are turned alike, and lengths respect the distance of planes."""

import numpy as np
import pytest
import torch

from napari_unet.model.augment import AugmentConfig, sample_patch
from napari_unet.model.elastic import elastic_displacement_of_stack
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import read_tile

NOTHING = AugmentConfig.none()


def only(**changes):
    return AugmentConfig(**{**{f: getattr(NOTHING, f) for f in NOTHING.__slots__}, **changes})


def ramp(axis, shape=(9, 21, 21)):
    """A stack whose values are the positions along an axis."""
    return torch.from_numpy(np.indices(shape)[axis].astype(np.float32))[None]


def draw(image, config, seed=0, centre=(4, 10, 10), sizes=((5, 9, 9), (3, 5, 5)), spacing=None):
    shape = image.shape[1:]
    return sample_patch(
        image,
        torch.ones(shape, dtype=torch.uint8),
        torch.ones(shape),
        centre=centre,
        input_size=sizes[0],
        output_size=sizes[1],
        config=config,
        generator=torch.Generator().manual_seed(seed),
        spacing=spacing,
    )


@pytest.mark.parametrize("centre", [(4, 10, 10), (0, 0, 20), (-3, 30, 10)])
def test_a_patch_that_is_not_varied_is_the_mirrored_crop(centre):
    volume = torch.rand(2, 6, 20, 20, generator=torch.Generator().manual_seed(0))
    labels = (volume[0] * 3).to(torch.uint8) + 1
    weights = torch.rand(6, 20, 20)
    patch = sample_patch(
        volume,
        labels,
        weights,
        centre=centre,
        input_size=(5, 9, 9),
        output_size=(3, 5, 5),
        config=NOTHING,
        generator=torch.Generator(),
    )
    outer = tuple(slice(c - n // 2, c + n // 2 + 1) for c, n in zip(centre, (5, 9, 9), strict=True))
    np.testing.assert_array_equal(patch.image[0].numpy(), read_tile(volume.numpy(), outer))
    padded = np.pad(labels.numpy(), 40)
    inner = tuple(
        slice(c - n // 2 + 40, c + n // 2 + 41) for c, n in zip(centre, (3, 5, 5), strict=True)
    )
    np.testing.assert_array_equal(patch.annotations[0].numpy(), padded[inner])
    assert patch.image.shape == (1, 2, 5, 9, 9)
    assert patch.weights.shape == (1, 3, 5, 5)
    assert (patch.weights[patch.annotations == 0] == 0).all()


def test_planes_are_turned_alike_and_stay_planes():
    config = only(rotation=True)
    across = draw(ramp(0), config).image[0, 0]
    assert (across == across[:, :1, :1]).all()
    within = draw(ramp(1), config).image[0, 0]
    torch.testing.assert_close(within, within[:1].expand_as(within))
    assert within[0].std() > 0


def test_a_stack_is_turned_upside_down_and_mirrored_within_planes():
    seen = set()
    for seed in range(60):
        planes = draw(ramp(0), only(flip=True), seed).image[0, 0]
        rows = draw(ramp(1), only(flip=True), seed).image[0, 0]
        assert set(planes.flatten().tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0}
        down = bool(planes[0, 0, 0] < planes[-1, 0, 0])
        seen.add(
            (down, float(rows[0, 0, 0] - rows[0, -1, 0]), float(rows[0, 0, 0] - rows[0, 0, -1]))
        )
    assert len(seen) == 8  # upside down or not, and where rows have come to


def test_shifts_and_displacements_are_shorter_across_far_planes():
    config = only(shift=8.0)
    for spacing, most in (((1, 1, 1), 8), ((4, 1, 1), 2)):
        moved = [
            float(
                draw(ramp(0, (99, 9, 9)), config, seed, (49, 4, 4), spacing=spacing).image[
                    0, 0, 2, 4, 4
                ]
            )
            for seed in range(40)
        ]
        assert max(abs(place - 49) for place in moved) == most
    generator = torch.Generator().manual_seed(0)
    field = torch.stack(
        [
            elastic_displacement_of_stack((8, 16, 16), 6.0, 3, generator, (3, 1, 1))
            for _ in range(50)
        ]
    )
    corners = field[:, :, [0, -1]][..., [0, -1], :][..., [0, -1]]
    planes, rows, columns = corners.std(dim=(0, 2, 3, 4)).tolist()
    assert planes == pytest.approx(2, rel=0.15)
    assert rows == pytest.approx(6, rel=0.15)
    assert columns == pytest.approx(6, rel=0.15)


def test_the_field_of_a_stack_is_smooth_across_planes():
    field = elastic_displacement_of_stack(
        (9, 20, 20), 5.0, 3, torch.Generator().manual_seed(0), (1, 1, 1)
    )
    assert field.shape == (3, 9, 20, 20)
    for axis in (1, 2, 3):
        assert field.diff(dim=axis).abs().max() < 4


def test_one_plane_is_deformed_as_an_image_is_in_expectation():
    """A plane alone must not break: 1 plane, patches of several."""
    volume = torch.rand(1, 1, 30, 30)
    patch = draw(volume, AugmentConfig(), centre=(0, 15, 15))
    assert torch.isfinite(patch.image).all()
    assert (patch.annotations > 0).any()


def test_the_same_seed_draws_the_same_patch():
    volume = torch.rand(1, 9, 30, 30)
    first, again = (draw(volume, AugmentConfig(sharpness=0.5), 7) for _ in range(2))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, draw(volume, AugmentConfig(sharpness=0.5), 8).image)


def test_sizes_that_are_not_of_a_network_are_refused():
    with pytest.raises(InputError, match="middle"):
        draw(ramp(0), NOTHING, sizes=((5, 9, 9), (2, 5, 5)))
    with pytest.raises(InputError, match="do not fit"):
        sample_patch(
            ramp(0),
            torch.ones(9, 21),
            torch.ones(9, 21, 21),
            centre=(4, 4, 4),
            input_size=5,
            output_size=3,
            config=NOTHING,
            generator=torch.Generator(),
        )
