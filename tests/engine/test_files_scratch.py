"""Results that do not fit into memory lie in a nameless file, and nothing is left of it."""

import numpy as np
import pytest

from napari_unet.engine.images import scratch
from napari_unet.engine.images.axes import Axis, ImageInfo
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.images.storing import result_store
from napari_unet.ops.errors import InputError

LENGTHS = {"t": 2, "z": 3, "y": 12, "x": 14}


@pytest.fixture(params=["memory", "disk"])
def kind(request, monkeypatch):
    if request.param == "disk":
        monkeypatch.setattr(scratch, "_IN_MEMORY", 0)
    return request.param


def test_parts_come_back_as_they_were_put(kind, tmp_path):
    data = np.random.default_rng(0).integers(0, 99, (2, 3, 4, 5))
    room = scratch.Scratch(data.shape, np.int32, tmp_path)
    for index in reversed(list(np.ndindex(2, 3))):
        room.put(index, data[index])
    np.testing.assert_array_equal(room.get((1,)), data[1])
    np.testing.assert_array_equal(room.get((1, 2, 3)), data[1, 2, 3])
    assert list(tmp_path.iterdir()) == []
    room.close()


@pytest.mark.parametrize("result_format", ["tiff", "ome-zarr"])
@pytest.mark.parametrize(
    ("names", "ndim"),
    [("yx", 2), ("zyx", 2), ("zyx", 3), ("tyx", 2), ("tzyx", 2), ("ztyx", 2), ("ztyx", 3)],
)
def test_results_of_planes_and_of_stacks(kind, tmp_path, names, ndim, result_format):
    """A network of planes and one of stacks store the same answer alike."""
    info = ImageInfo(tmp_path, "", tuple(Axis(name, LENGTHS[name]) for name in names), "uint8")
    shape = tuple(LENGTHS[name] for name in "tzyx" if name in names)
    rng = np.random.default_rng(0)
    probability = rng.random((3, *shape), dtype=np.float32)
    objects = rng.integers(0, 300, shape, dtype=np.int32)
    store = result_store(tmp_path / "a", info, 3, ndim, result_format)
    for index in np.ndindex(shape[:-ndim]):
        store.add(index, probability[(slice(None), *index)], objects[index])
    files = store.finish()
    if result_format == "tiff":
        paths = dict(zip(("probability", "classes", "objects"), files, strict=True))
    else:
        labels = {name: files[0] / "labels" / name for name in ("classes", "instances")}
        paths = {
            "probability": files[0],
            "classes": labels["classes"],
            "objects": labels["instances"],
        }
    for index in np.ndindex(shape[:-2]):
        expected = probability[(slice(None), *index)]
        found = {}
        for name, path in paths.items():
            with open_image(path) as image:
                assert image.stack_shape == shape[:-2]
                found[name] = image.read_plane(index)
        np.testing.assert_array_equal(found["probability"], expected)
        np.testing.assert_array_equal(found["classes"][0], expected.argmax(axis=0) + 1)
        np.testing.assert_array_equal(found["objects"][0], objects[index])


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "_IN_MEMORY", 0)
    monkeypatch.setattr(scratch.os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match=r"no room for .* GiB .* \(no space left on device\)"):
        scratch.Scratch((2, 3), np.float32, tmp_path)
    assert list(tmp_path.iterdir()) == []
