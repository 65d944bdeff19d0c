"""What a new network begins from, and how wide it is."""

import numpy as np
import pytest
from networks import make_unet

from napari_unet import Segmenter
from napari_unet.engine import plan_cache, width_plan
from napari_unet.engine.beginning import Beginning
from napari_unet.engine.image import SourceImage
from napari_unet.engine.width_plan import LONGEST_STEP, choose_width
from napari_unet.model.starter import Starter
from napari_unet.model.unet import UNetConfig
from napari_unet.ops.errors import InputError

IMAGE = np.random.default_rng(0).random((32, 32))
SHAPE = UNetConfig(1, 3, 16, 3, True)


@pytest.fixture
def starter():
    return Starter("test", make_unet(in_channels=3, depth=3), 1.0, 10.0)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose steps take so many seconds a channel, and what was measured on it."""
    measured = []

    def with_speed(seconds_a_channel):
        def step_seconds(config, _device):
            measured.append(config.base_channels)
            return seconds_a_channel * config.base_channels

        monkeypatch.setattr(width_plan, "_step_seconds", step_seconds)
        return measured

    monkeypatch.setenv("NAPARI_UNET_CACHE", str(tmp_path))
    return with_speed


def width(**options):
    return Segmenter(**options).set_image(IMAGE).model.config.base_channels


def test_a_starter_has_its_own_width(starter):
    assert width(starter=starter) == width(starter=starter, channels="auto") == 4
    with pytest.raises(InputError, match="4 channels"):
        Segmenter(starter=starter, channels=16)


def test_random_weights_have_the_width_that_was_named():
    assert width(starter=None) == 16
    assert width(starter=None, channels=8) == 8


@pytest.mark.parametrize("channels", [0, 10_000, 2.5, True, "wide"])
def test_a_width_that_is_not_possible_is_refused_at_once(channels):
    with pytest.raises(InputError, match="channels"):
        Segmenter(starter=None, channels=channels)


@pytest.mark.parametrize(
    ("seconds_a_channel", "expected"),
    [
        (LONGEST_STEP / 16, 16),
        (LONGEST_STEP / 63, 32),
        (LONGEST_STEP / 1000, 64),
        (LONGEST_STEP, 8),
    ],
)
def test_the_widest_that_makes_quick_steps_is_taken(machine, seconds_a_channel, expected):
    machine(seconds_a_channel)
    assert width(starter=None, channels="auto") == expected


def test_what_takes_longer_than_a_slow_one_is_not_measured(machine):
    measured = machine(LONGEST_STEP / 16)
    choose_width(SHAPE)
    assert measured == [8, 16, 32]


def test_it_is_measured_once(machine):
    measured = machine(LONGEST_STEP / 16)
    first = choose_width(SHAPE)
    del measured[:]
    assert choose_width(SHAPE) == first
    assert not measured
    assert any(entry.key["purpose"] == width_plan.PURPOSE for entry in plan_cache.entries())


def test_all_but_the_width_stays(machine):
    machine(LONGEST_STEP / 40)
    assert choose_width(SHAPE) == UNetConfig(1, 3, 32, 3, True)


def test_a_stack_begins_with_random_weights(machine, starter):
    machine(LONGEST_STEP / 10)
    stack = SourceImage(np.zeros((8, 24, 24)), 3)
    config = Beginning(2, starter, "auto").network_for(stack).config
    assert (config.ndim, config.base_channels, config.hypercolumns) == (3, 8, False)
