import numpy as np
import pytest
import tifffile

from napari_unet.engine.results import (
    InstanceSettings,
    WeightSettings,
    find_instances,
    instances_job,
    save_results,
    weights_job,
)
from napari_unet.ops.errors import InputError
from napari_unet.ops.weight_map import annotation_weights, weight_map


@pytest.fixture
def two_blobs():
    """Probabilities of background and of two squares, 4 x 4 and 2 x 2."""
    foreground = np.full((12, 12), 0.1, np.float32)
    foreground[1:5, 1:5] = 0.9
    foreground[8:10, 8:10] = 0.7
    return np.stack([1 - foreground, foreground])


def test_what_is_connected_is_one_object(two_blobs):
    instances = find_instances(two_blobs, InstanceSettings(min_size=0))
    assert instances.max() == 2
    assert (instances > 0).sum() == 20


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_small_objects_are_dropped(two_blobs, method):
    settings = InstanceSettings(method=method, min_size=5)
    np.testing.assert_array_equal(find_instances(two_blobs, settings) > 0, two_blobs[1] > 0.8)


def test_the_threshold_is_a_probability(two_blobs):
    instances = find_instances(two_blobs, InstanceSettings(threshold=0.8, min_size=0))
    assert instances.max() == 1


def test_one_class_can_be_asked_for():
    classes = np.zeros((3, 4, 8), np.float32)
    classes[1, :, :3] = classes[2, :, 5:] = 1
    classes[0, :, 3:5] = 1
    every = find_instances(classes, InstanceSettings(min_size=0))
    third = find_instances(classes, InstanceSettings(min_size=0, label=3))
    assert (every.max(), third.max()) == (2, 1)
    assert third[0, 6] == 1
    with pytest.raises(InputError, match="1 to 3"):
        find_instances(classes, InstanceSettings(label=4))


@pytest.mark.parametrize(
    "options", [{"method": "magic"}, {"threshold": 0.0}, {"threshold": 1.0}, {"min_size": -1}]
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        InstanceSettings(**options)


def test_the_job_counts_the_objects(two_blobs):
    (found,) = instances_job(two_blobs, InstanceSettings(min_size=0))
    assert found.count == 2


@pytest.mark.parametrize(
    ("kind", "compute"), [("instances", weight_map), ("annotations", annotation_weights)]
)
def test_weights_in_a_window_are_those_of_the_whole_map(kind, compute):
    labels = np.zeros((40, 40), np.uint8)
    labels[5:15, 5:15], labels[5:15, 18:30], labels[30:, :] = 2, 3, 1
    window = (slice(3, 20), slice(10, 25))
    (computed,) = weights_job(labels, WeightSettings(w0=7, sigma=3, kind=kind), window)
    np.testing.assert_array_equal(computed.weights, compute(labels, 7, 3)[window])


def test_results_are_written_and_read_back(two_blobs, tmp_path):
    instances = find_instances(two_blobs, InstanceSettings(min_size=0))
    paths = save_results(tmp_path / "new" / "cells", two_blobs, instances)
    assert [path.name for path in paths] == [
        "cells_probabilities.tif",
        "cells_classes.tif",
        "cells_instances.tif",
    ]
    np.testing.assert_array_equal(tifffile.imread(paths[0]), two_blobs)
    np.testing.assert_array_equal(tifffile.imread(paths[1]), two_blobs.argmax(0) + 1)
    np.testing.assert_array_equal(tifffile.imread(paths[2]), instances)
