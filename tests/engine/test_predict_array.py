"""Prediction from disk to disk: the answer of `predict`, at any size, after any interruption."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import make_unet

from napari_unet.engine.arrays import pipeline, ranges, store
from napari_unet.engine.arrays import predict_array as module
from napari_unet.engine.arrays.events import ArrayFinished, OutputOpened, TilesWritten
from napari_unet.engine.arrays.grid import TileGrid
from napari_unet.engine.arrays.predict_array import PredictArrayRequest, predict_array
from napari_unet.engine.arrays.ranges import measure
from napari_unet.engine.arrays.source import ArraySource
from napari_unet.engine.events import Noticed
from napari_unet.engine.predict import predict
from napari_unet.ops import normalize
from napari_unet.ops.errors import InputError

MODEL = make_unet(depth=1)
TILE = MODEL.config.geometry.input_size(20)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def stored(folder, data, chunks=None, name="in.zarr"):
    return zarr.create_array(folder / name, data=data, chunks=chunks or "auto", overwrite=True)


def job(array, axes, output, model=MODEL, stop=None, **options):
    settings = {"dtype": "float32", "precision": "fp32", "tile_size": TILE, **options}
    source = ArraySource(array, axes, model.config.ndim)
    return predict_array(model, PredictArrayRequest(source, output, **settings), stop)


def run(array, axes, output, model=MODEL, **options):
    """Run to the end; returns the group and the events."""
    events = list(job(array, axes, output, model, **options))
    assert isinstance(events[-1], ArrayFinished)
    return zarr.open_group(output, mode="r"), events


# ---------------------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    ("shape", "chunks", "inner"),
    [((63, 50), (16, 50), 20), ((41, 90), (41, 7), 40), ((5, 1), (5, 1), 8), ((64, 64), None, 64)],
)
def test_the_answer_is_that_of_predict_bit_for_bit(tmp_path, shape, chunks, inner):
    image = noise(*shape)
    tile = MODEL.config.geometry.input_size(inner)
    expected = predict(MODEL, image, tile_size=tile, precision="fp32")
    array = stored(tmp_path, image, chunks)
    group, _ = run(array, "yx", tmp_path / "out.zarr", tile_size=tile, content="both")
    np.testing.assert_array_equal(group["probabilities"][:], expected)
    np.testing.assert_array_equal(group["classes"][:], expected.argmax(0) + 1)


@pytest.mark.parametrize("axes", ["yxc", "cyx", "-ycx"])
@pytest.mark.parametrize("colours", [3, 4])
def test_colours_may_stand_anywhere(tmp_path, axes, colours):
    model = make_unet(depth=1, in_channels=3)
    image = (noise(30, 44, colours) * 255).astype(np.uint8)
    expected = predict(model, image, tile_size=TILE, precision="fp32")
    order = ["yxc".index(name) for name in axes if name != "-"]
    array = image.transpose(order)[(np.newaxis,) if "-" in axes else ...]
    group, _ = run(array, axes, tmp_path / "out.zarr", model)
    np.testing.assert_array_equal(group["probabilities"][:], expected)


def test_every_plane_of_a_stack_is_an_image_of_its_own(tmp_path):
    stack = noise(2, 3, 30, 26) * np.arange(1, 7).reshape(2, 3, 1, 1)
    group, _ = run(stack, "tzyx", tmp_path / "out.zarr", content="both")
    assert group["probabilities"].metadata.dimension_names == ("t", "c", "z", "y", "x")
    for t, z in np.ndindex(2, 3):
        expected = predict(MODEL, stack[t, z], tile_size=TILE, precision="fp32")
        np.testing.assert_array_equal(group["probabilities"][t, :, z], expected)
        np.testing.assert_array_equal(group["classes"][t, z], expected.argmax(0) + 1)


def test_a_network_for_stacks_looks_along_planes(tmp_path):
    model = make_unet(depth=1, ndim=3)
    stack = noise(11, 25, 19)
    tile = model.config.geometries[0].input_size(8)
    expected = predict(model, stack, tile_size=tile, precision="fp32")
    array = stored(tmp_path, stack, (4, 8, 8))
    group, _ = run(array, "zyx", tmp_path / "out.zarr", model, tile_size=tile)
    np.testing.assert_array_equal(group["probabilities"][:], expected)


@pytest.mark.parametrize("kind", ["sampled", "bright spots", "constant", "uint16"])
def test_grey_values_are_scaled_as_in_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(normalize, "_SAMPLE_PIXELS", 500)  # every third row and column
    monkeypatch.setattr(ranges, "_BLOCK_PIXELS", 300)
    image = noise(61, 47).astype(np.float32) * 1000
    if kind == "bright spots":
        image = np.zeros_like(image)
        image[10, 11] = 7  # not in the sample
    elif kind == "constant":
        image[:] = 3
    elif kind == "uint16":
        image = image.astype(np.uint16)
    array = stored(tmp_path, image, (13, 10))
    ((low, high),) = measure(ArraySource(array, "yx"), ()).ranges
    expected = normalize.percentile_normalize(image[np.newaxis].astype(np.float32))
    scaled = normalize.scale_to_range(image.astype(np.float32), low, high)
    np.testing.assert_array_equal(scaled, expected[0])


def test_of_a_huge_image_blocks_on_a_lattice_speak_for_all(tmp_path, monkeypatch):
    image = noise(400, 300)
    array = stored(tmp_path, image, (20, 20))
    exact = measure(ArraySource(array, "yx"), ())
    monkeypatch.setattr(ranges, "_READ_WHOLE", 1000)
    monkeypatch.setattr(ranges, "_LATTICE", 5)
    read = []

    class Watched:
        shape, dtype, chunks = array.shape, array.dtype, array.chunks

        def __getitem__(self, index):
            read.append(index)
            return array[index]

    first, second = (measure(ArraySource(Watched(), "yx"), ()) for _ in range(2))
    assert first == second
    assert len(read) == 2 * 5 * 5
    assert np.ptp([index[0].start for index in read]) > 300
    np.testing.assert_allclose(first.ranges, exact.ranges, atol=0.02)


def test_probabilities_are_rounded_as_the_type_says(tmp_path):
    image = noise(40, 40)
    expected = predict(MODEL, image, tile_size=TILE, precision="fp32")
    for dtype, scale, error in (("uint8", 255, 0.5001 / 255), ("float16", 1, 5e-4)):
        group, _ = run(image, "yx", tmp_path / f"{dtype}.zarr", dtype=dtype)
        values = group["probabilities"][:]
        assert values.dtype == dtype
        np.testing.assert_allclose(values / np.float32(scale), expected, atol=error)


def test_averaging_over_symmetries(tmp_path):
    image = noise(30, 30)
    expected = predict(MODEL, image, tile_size=TILE, precision="fp32", averaging="symmetries")
    group, _ = run(image, "yx", tmp_path / "out.zarr", averaging="symmetries")
    np.testing.assert_array_equal(group["probabilities"][:], expected)


def test_a_precision_that_changes_the_answer_is_not_used(tmp_path, monkeypatch):
    fast = module.choose_plan(MODEL.config, "predict", "fp32")
    fast = module.replace(fast, dtype=module.torch.bfloat16)
    exact = module.choose_plan
    monkeypatch.setattr(module, "choose_plan", lambda *a: fast if a[2] == "auto" else exact(*a))
    monkeypatch.setattr(module, "precision_difference", lambda *_: "it would be wrong")
    group, events = run(noise(40, 40), "yx", tmp_path / "out.zarr", precision="auto")
    assert events[0] == Noticed("predicting in float32: it would be wrong")
    assert group.attrs["napari_unet"]["job"]["plan"]["dtype"] == "float32"


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    depth=st.integers(1, 3),
    cells=st.integers(1, 9),
)
def test_tiles_fill_whole_chunks_and_share_none(rows, columns, depth, cells):
    geometry = make_unet(depth=depth).config.geometry
    inner = cells * geometry.stride
    grid = TileGrid((), (rows, columns), (geometry, geometry), (inner, inner))
    owners = {}
    covered = 0
    for number in range(len(grid)):
        placed = grid[number]
        covered += placed.pixels
        chunks = []
        for span, side, length in zip(placed.tile.inner, grid.sides, (rows, columns), strict=True):
            assert span.start % side == 0
            assert span.stop % side == 0 or span.stop == length
            chunks.append(range(span.start // side, -(-span.stop // side)))
        for i in chunks[0]:
            for j in chunks[1]:
                assert owners.setdefault((i, j), number) == number
    assert covered == rows * columns


# ---------------------------------------------------------------------------- going on


def expected_for(image):
    return predict(MODEL, image, tile_size=TILE, precision="fp32")


def counting(monkeypatch):
    """Count the tiles that the network sees."""
    seen = []
    call = pipeline.TileNetwork.__call__

    def counted(self, channels):
        seen.append(1)
        return call(self, channels)

    monkeypatch.setattr(pipeline.TileNetwork, "__call__", counted)
    return seen


def test_a_stopped_job_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    image, output, stop = noise(90, 70), tmp_path / "out.zarr", threading.Event()
    seen = counting(monkeypatch)
    events = []
    for event in job(image, "yx", output, stop=stop):
        events.append(event)
        if isinstance(event, TilesWritten) and event.done == 5:
            computed = len(seen)
            stop.set()
    finished = events[-1]
    assert finished.stopped
    assert len(seen) <= computed + 1  # within a tile
    assert finished.done == len(seen) < finished.total  # what was computed was written
    group, events = run(image, "yx", output)
    assert events[0] == OutputOpened(output, finished.done, finished.total, events[0].plan)
    assert len(seen) == finished.total  # nothing twice
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(image))
    _, events = run(image, "yx", output)
    assert len(seen) == finished.total
    assert events[-1].done == events[-1].total


def test_a_job_that_is_stopped_before_it_begins_leaves_nothing(tmp_path):
    stop = threading.Event()
    stop.set()
    events = list(job(noise(30, 30), "yx", tmp_path / "out.zarr", stop=stop))
    assert events[-1].stopped
    assert not (tmp_path / "out.zarr").exists()


def test_a_killed_job_goes_on(tmp_path):
    image = noise(90, 70)
    stored(tmp_path, image)
    # Dies in the middle of a write, with some tiles marked and some not.
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_predict_array as tests
        from napari_unet.engine.arrays import predict_array, store
        predict_array._MARK_EVERY = 0
        calls, write = [], store.hand_to_disk
        def dying(files):
            calls.append(1)
            if len(calls) == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            write(files)
        store.hand_to_disk = dying
        array = tests.zarr.open_array({str(tmp_path / "in.zarr")!r}, mode="r")
        tests.run(array, "yx", tests.store.Path({str(tmp_path / "out.zarr")!r}))
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert ended.returncode == -signal.SIGKILL
    marked = int(zarr.open_group(tmp_path / "out.zarr", mode="r")["done"][:].sum())
    assert 0 < marked < 8
    array = zarr.open_array(tmp_path / "in.zarr", mode="r")
    group, events = run(array, "yx", tmp_path / "out.zarr")
    assert events[0].done == marked
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(image))


def test_an_exact_job_goes_on_with_any_number_of_threads(tmp_path):
    torch = module.torch
    image, output = noise(90, 70), tmp_path / "out.zarr"
    model = make_unet(depth=1, base_channels=16)
    torch.set_num_threads(2)
    begun = job(image, "yx", output, model)
    for _ in zip(range(3), begun, strict=False):
        pass
    begun.close()
    torch.set_num_threads(1)
    group, events = run(image, "yx", output, model)
    assert 0 < events[0].done < events[0].total
    expected = predict(model, image, tile_size=TILE, precision="fp32")
    np.testing.assert_array_equal(group["probabilities"][:], expected)


def test_a_job_keeps_the_plan_that_it_began_with(tmp_path, monkeypatch):
    image, output = noise(90, 70), tmp_path / "out.zarr"
    begun = job(image, "yx", output)
    for _ in zip(range(3), begun, strict=False):
        pass
    begun.close()
    chosen = module.choose_plan
    other = lambda *a: module.replace(chosen(*a), channels_last=False, fused=False)  # noqa: E731
    monkeypatch.setattr(module, "choose_plan", other)
    group, events = run(image, "yx", output)
    assert events[0].plan == chosen(MODEL.config, "predict", "fp32").name
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(image))


def test_an_output_of_which_nothing_but_the_name_was_written_is_made_anew(tmp_path, monkeypatch):
    image, output = noise(30, 30), tmp_path / "out.zarr"
    monkeypatch.setattr(store, "ome_attributes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(image, "yx", output)
    monkeypatch.undo()
    group, _ = run(image, "yx", output)
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(image))


class Flawed:
    """An array of which some reads fail."""

    def __init__(self, data):
        self.shape, self.dtype, self._data = data.shape, data.dtype, data
        self.reads = 0
        self.fails_at = None

    def __getitem__(self, index):
        self.reads += 1
        if self.reads == self.fails_at:
            raise OSError("input/output error")
        return self._data[index]


def test_what_cannot_be_read_keeps_the_tiles_before_it(tmp_path):
    array, output = Flawed(noise(90, 70)), tmp_path / "out.zarr"
    array.fails_at = 9
    with pytest.raises(InputError, match=r"cannot be read at .*input/output error"):
        run(array, "yx", output)
    array.fails_at = None
    group, events = run(array, "yx", output)
    assert events[0].done == 7  # the first read measured the grey values
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(array._data))


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no room left .* make room and give the same"), (errno.EROFS, "read-only")],
)
def test_a_disk_that_cannot_be_written_keeps_the_tiles_before_it(
    tmp_path, monkeypatch, number, words
):
    image, output = noise(90, 70), tmp_path / "out.zarr"
    calls, write = [], store.hand_to_disk

    def full(files):
        calls.append(1)
        if len(calls) > 6:
            raise OSError(number, os.strerror(number))
        write(files)

    monkeypatch.setattr(store, "hand_to_disk", full)
    with pytest.raises(InputError, match=words):
        run(image, "yx", output)
    monkeypatch.undo()
    group, events = run(image, "yx", output)
    assert events[0].done == 6
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(image))


def test_no_memory_names_the_cure(tmp_path, monkeypatch):
    def exhausted(self, model):
        def fail(_batch):
            raise MemoryError

        return fail

    monkeypatch.setattr(module.ExecutionPlan, "for_prediction", exhausted)
    with pytest.raises(InputError, match=r"not enough memory for tiles .* smaller --tile-size"):
        run(noise(30, 30), "yx", tmp_path / "out.zarr")


def test_reading_stays_few_tiles_ahead(tmp_path, monkeypatch):
    reads, ahead = [], []
    call = pipeline.TileNetwork.__call__
    read = pipeline.TileReader.__call__

    def watched(self, placed):
        reads.append(1)
        return read(self, placed)

    def slow(self, channels):
        computed = len(ahead)
        ahead.append(len(reads) - computed)
        threading.Event().wait(0.01)  # the reader could be far ahead by then
        return call(self, channels)

    monkeypatch.setattr(pipeline.TileReader, "__call__", watched)
    monkeypatch.setattr(pipeline.TileNetwork, "__call__", slow)
    run(noise(90, 70), "yx", tmp_path / "out.zarr")
    assert max(ahead) <= 3
    assert len(reads) == len(ahead) == 20


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": make_unet(seed=1, depth=1)}, "another model"),
        ({"array": noise(60, 50, seed=1)}, "values of its array have changed"),
        ({"array": noise(60, 51)}, r"shape of its array was \[60, 50\], and is \[60, 51\]"),
        ({"array": noise(60, 50).astype("f4")}, "dtype of its array was float64, and is float32"),
        ({"dtype": "uint8"}, "--dtype was float32, and is uint8"),
        ({"content": "both"}, "--save was probabilities, and is both"),
        ({"averaging": "symmetries"}, "--averaging was none, and is symmetries"),
        ({"tile_size": TILE + 4}, "--tile-size"),
    ],
)
def test_another_job_is_refused_with_the_reason(tmp_path, change, reason):
    output = tmp_path / "out.zarr"
    run(noise(60, 50), "yx", output)
    options = {"array": noise(60, 50), "axes": "yx", "output": output, **change}
    with pytest.raises(InputError, match=f"{reason}.*choose another output, or give --overwrite"):
        run(**options)
    group, events = run(**options, overwrite=True)
    assert events[0].done == 0
    assert group["probabilities"].shape[1:] == options["array"].shape


def test_without_a_tile_size_a_job_keeps_its_own(tmp_path, monkeypatch):
    image, output = noise(60, 50), tmp_path / "out.zarr"
    run(image, "yx", output)
    _, events = run(image, "yx", output, tile_size=None)
    assert events[0].done == events[0].total > 1


def test_what_is_no_output_is_never_replaced(tmp_path):
    image = noise(30, 30)
    foreign = stored(tmp_path, image, name="foreign.zarr")
    with pytest.raises(InputError, match="is there already"):
        run(image, "yx", tmp_path / "foreign.zarr")
    zarr.create_group(tmp_path / "group.zarr")
    with pytest.raises(InputError, match=r"is there already.*--overwrite"):
        run(image, "yx", tmp_path / "group.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious.txt").write_text("mine")
    (tmp_path / "folder").rename(tmp_path / "called.zarr")
    (tmp_path / "file.zarr").write_text("mine")
    for overwrite in (False, True):
        for name in ("called.zarr", "file.zarr"):
            with pytest.raises(InputError, match="choose another output"):
                run(image, "yx", tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "called.zarr" / "precious.txt").read_text() == "mine"
    (tmp_path / "empty.zarr").mkdir()
    run(image, "yx", tmp_path / "empty.zarr")
    np.testing.assert_array_equal(foreign[:], image)


@pytest.mark.parametrize(
    "job", [None, {}, {"model": 1}, {"settings": 5, "plan": 7}, {"settings": {}, "plan": {}}, "x"]
)
def test_a_damaged_output_is_refused_or_made_anew(tmp_path, job):
    image, output = noise(30, 30), tmp_path / "out.zarr"
    group, _ = run(image, "yx", output)
    zarr.open_group(output, mode="r+").attrs["napari_unet"] = {"format": 1, "job": job}
    if job and job != "x":
        with pytest.raises(InputError, match="damaged; choose another output, or give --overw"):
            run(image, "yx", output)
    group, events = run(image, "yx", output, overwrite=bool(job))
    assert events[0].done == 0
    np.testing.assert_array_equal(group["probabilities"][:], expected_for(image))


@pytest.mark.parametrize("place", ["in.zarr", "in.zarr/0", "."])
def test_an_output_over_its_input_is_refused(tmp_path, place):
    array = stored(tmp_path, noise(30, 30))
    source = ArraySource(array, "yx", path=tmp_path / "in.zarr")
    request = PredictArrayRequest(source, tmp_path / place, overwrite=True)
    with pytest.raises(InputError, match="in or over its input"):
        list(predict_array(MODEL, request))
    assert array[:].shape == (30, 30)


@pytest.mark.parametrize(
    ("array", "axes", "words"),
    [
        (np.zeros((0, 5)), "yx", "empty"),
        (np.zeros((4, 5), complex), "yx", "dtype complex128; convert"),
        (np.zeros((4, 5), object), "yx", "dtype object; convert"),
        (np.zeros((4, 5)), "zy", "looks along y, x"),
        (np.zeros((4, 5)), "zyx", "has 2 axes"),
        (np.zeros((4, 5)), "yy", "not possible"),
        (np.zeros((4, 5)), "qx", "not possible"),
        (np.zeros((2, 4, 5)), "cyx", "takes 1 channels, but the array has 2"),
        (np.zeros((4, 5, 3)), "yxc", "takes 1 channels, but the array has 3"),
        (np.full((4, 5), np.nan), "yx", "NaN"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, array, axes, words):
    with pytest.raises(InputError, match=words):
        run(array, axes, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("chunks", [(1, 20, 20), (1, 60, 1), (1, 60, 50), (3, 7, 50), (2, 9, 4)])
def test_the_cost_of_reading_is_what_is_read_for_what_is_used(tmp_path, chunks):
    array = zarr.create_array(tmp_path / "in.zarr", shape=(3, 60, 50), chunks=chunks, dtype="u1")
    source = ArraySource(array, "zyx")
    rows, columns = 12, 10
    read = []
    for top in range(60 - rows + 1):
        for left in range(50 - columns + 1):
            spans = [(1, 2), (top, top + rows), (left, left + columns)]
            read.append(
                np.prod(
                    [(-(-b // c) - a // c) * c for (a, b), c in zip(spans, chunks, strict=True)]
                )
            )
    exact = np.mean(read) / (rows * columns)
    assert source.reading_cost((rows, columns)) == pytest.approx(exact, rel=0.25)


def test_chunks_that_fit_badly_are_told(tmp_path):
    thin = zarr.create_array(tmp_path / "in.zarr", shape=(30, 999), chunks=(1, 999), dtype="u1")
    _, events = run(thin, "yx", tmp_path / "out.zarr")
    assert "store it again in chunks" in events[0].message
    _, events = run(thin[:], "yx", tmp_path / "other.zarr")
    assert isinstance(events[0], OutputOpened)


def test_a_chunk_that_no_memory_holds_is_refused(tmp_path):
    array = zarr.create_array(
        tmp_path / "in.zarr", shape=(40000, 40000), chunks=(40000, 40000), dtype="uint8"
    )
    with pytest.raises(InputError, match=r"chunks of .* store it again in chunks"):
        ArraySource(array, "yx")


@pytest.mark.parametrize("option", [{"content": "objects"}, {"dtype": "int8"}])
def test_options_that_do_not_exist_are_refused(tmp_path, option):
    with pytest.raises(InputError, match="choose one of"):
        run(noise(30, 30), "yx", tmp_path / "out.zarr", **option)


def test_without_zarr_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match="zarr is not installed; install it with"):
        run(noise(30, 30), "yx", tmp_path / "out.zarr")


def test_averaging_over_rotations_is_refused(tmp_path):
    with pytest.raises(InputError, match="whole image"):
        run(noise(30, 30), "yx", tmp_path / "out.zarr", averaging="rotations")


def test_a_program_that_reads_ome_zarr_finds_axes_and_sizes(tmp_path):
    sizes = {"y": (0.5, "µm"), "x": (0.25, "µm")}
    group, _ = run(
        noise(2, 30, 30), "zyx", tmp_path / "out.zarr", content="both", pixel_sizes=sizes
    )
    from napari_unet.engine.images.opening import open_image

    with open_image(tmp_path / "out.zarr") as image:
        assert image.info.names == "czyx"
        assert group.attrs["ome"]["multiscales"][0]["axes"][3] == {
            "name": "x",
            "type": "space",
            "unit": "micrometer",
        }
        assert image.info.pixel_size.height == 0.5
        assert image.info.pixel_size.unit == "µm"
        np.testing.assert_array_equal(image.read_plane((1,)), group["probabilities"][:, 1])
