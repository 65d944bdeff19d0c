"""Models of other programs predict as their packages say, and run nothing of a stranger's."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from networks import make_unet
from strange_packages import (
    HALO,
    mean_filter,
    mean_filter_onnx,
    package_files,
    write_folder,
    write_zip,
)

from napari_unet.engine.events import Noticed, PredictionFinished, TilePredicted
from napari_unet.engine.exchange.foreign import plan_blocks, predict_foreign
from napari_unet.engine.exchange.open import open_model, open_own_model, usage_of
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, assemble, predict_tiles
from napari_unet.engine.segmenter import Segmenter
from napari_unet.model.checkpoint import save_model
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError

IMAGE = np.random.default_rng(3).random((37, 50)).astype(np.float32)


def loaded(folder, **options):
    return ForeignModel(
        open_container(write_folder(folder, package_files(**options))), isolated=False
    )


def test_a_package_gives_its_own_test_output_from_folder_and_zip(tmp_path):
    files = package_files()
    for path in (
        write_folder(tmp_path / "package", files),
        tmp_path / "package" / "bioimageio.yaml",
        write_zip(tmp_path / "package.zip", files),
        write_zip(tmp_path / "inner.zip", {f"model/{name}": x for name, x in files.items()}),
    ):
        assert open_model(path).network.test_error < 1e-6


def test_tiles_give_the_answer_of_the_whole(tmp_path):
    model = loaded(tmp_path)
    padded = np.pad(IMAGE, HALO, mode="reflect")
    expected = mean_filter(padded)[HALO:-HALO, HALO:-HALO]
    for side in (None, 8, 20):
        events = list(predict_tiles(model, PredictRequest(SourceImage(IMAGE), tile_size=side)))
        found = assemble(iter(events), 2, IMAGE.shape)
        np.testing.assert_allclose(found[1], expected, atol=1e-6)
        np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
        assert isinstance(events[-1], PredictionFinished)
    assert events[-1].tiles > 1


def test_tiles_have_sizes_that_the_package_allows(tmp_path):
    model = loaded(tmp_path)
    for shape in ((1, 1), (7, 200), (33, 64)):
        tiles = plan_blocks(model, shape, 24)
        covered = np.zeros(shape, int)
        for tile in tiles:
            covered[tile.inner] += 1
            for span in tile.outer:
                side = span.stop - span.start
                assert side >= 8
                assert (side - 8) % 4 == 0
        assert (covered == 1).all()


def test_a_package_of_one_size_gets_tiles_of_that_size(tmp_path):
    files = package_files()
    values = yaml.safe_load(files["bioimageio.yaml"])
    for axis in values["inputs"][0]["axes"][2:]:
        axis["size"] = 16
    files["bioimageio.yaml"] = yaml.safe_dump(values).encode()
    model = ForeignModel(open_container(write_folder(tmp_path, files)), isolated=False)
    tiles = plan_blocks(model, (50, 9), 100)
    assert {span.stop - span.start for tile in tiles for span in tile.outer} == {16}
    assert len(tiles) == 5  # 12 pixels are kept of 16
    with pytest.raises(InputError, match="tiles of 16 pixels"):
        plan_blocks(model, (50, 9), 15)


def test_what_is_on_screen_comes_first_and_stop_ends_between_tiles(tmp_path):
    model = loaded(tmp_path)
    visible = (slice(30, 37), slice(40, 50))
    stop = threading.Event()
    request = PredictRequest(SourceImage(IMAGE), visible=visible, tile_size=16)
    events = []
    for event in predict_foreign(model, request, stop):
        events.append(event)
        stop.set()
    tile, finished = events
    assert tile.inner[0].stop > 30
    assert tile.inner[1].stop > 40
    assert finished.stopped


def test_averaging_is_left_out_and_said(tmp_path):
    request = PredictRequest(SourceImage(IMAGE), averaging="symmetries")
    events = list(predict_foreign(loaded(tmp_path), request))
    assert isinstance(events[0], Noticed)
    assert isinstance(events[1], TilePredicted)


def test_valid_convolutions_lose_their_border(tmp_path):
    """A network that answers for less than it reads, as the paper's, declared by an offset."""
    files = package_files(weights=mean_filter_onnx(padded=False))
    values = yaml.safe_load(files["bioimageio.yaml"])
    for axis in values["outputs"][0]["axes"][2:]:
        del axis["halo"]
        axis["size"]["offset"] = -2
    del values["outputs"][0]["test_tensor"]
    files["bioimageio.yaml"] = yaml.safe_dump(values).encode()
    model = ForeignModel(open_container(write_folder(tmp_path, files)), isolated=False)
    request = PredictRequest(SourceImage(IMAGE), tile_size=12)
    found = assemble(predict_foreign(model, request), 2, IMAGE.shape)
    expected = mean_filter(np.pad(IMAGE, 1, mode="reflect"))[1:-1, 1:-1]
    np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_a_package_for_stacks_is_tiled_in_three_dimensions(tmp_path):
    files = package_files(weights=mean_filter_onnx(ndim=3))
    values = yaml.safe_load(files["bioimageio.yaml"])
    values["inputs"][0]["axes"].insert(2, {"type": "space", "id": "z", "size": 8})
    depth = {"type": "space", "id": "z", "halo": HALO}
    depth["size"] = {"tensor_id": "raw", "axis_id": "z"}
    values["outputs"][0]["axes"].insert(2, depth)
    for tensor in (values["inputs"][0], values["outputs"][0]):
        del tensor["test_tensor"]
    files["bioimageio.yaml"] = yaml.safe_dump(values).encode()
    model = ForeignModel(open_container(write_folder(tmp_path, files)), isolated=False)
    stack = np.random.default_rng(4).random((9, 20, 17)).astype(np.float32)
    request = PredictRequest(SourceImage(stack, ndim=3), tile_size=12)
    found = assemble(predict_tiles(model, request), 2, stack.shape)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(found[1][inner], mean_filter(stack)[inner], atol=1e-6)


def test_an_image_of_another_kind_is_refused(tmp_path):
    model = loaded(tmp_path)
    colour = SourceImage(np.zeros((20, 20, 3), np.uint8))
    stack = SourceImage(np.zeros((5, 20, 20), np.uint8), ndim=3)
    for image, reason in ((colour, "takes 1 channels"), (stack, "takes single planes")):
        with pytest.raises(InputError, match=reason):
            list(predict_foreign(model, PredictRequest(image)))


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (
            {"pytorch_state_dict": {"source": "w.pt", "architecture": {"source": "net.py"}}},
            "would run foreign code.*architecture is given as Python source",
        ),
        ({"tensorflow_saved_model_bundle": {"source": "w.zip"}}, "would run foreign code"),
        ({"onnx": {"source": "weights.onnx", "sha256": "0" * 64}}, "checksum differs"),
        ({"onnx": {"source": "https://example.com/weights.onnx"}}, "would run foreign code"),
        ({}, "would run foreign code"),
    ],
)
def test_a_package_that_would_run_foreign_code_is_refused(tmp_path, weights, reason):
    evil = tmp_path / "evil"
    files = package_files(changes={"weights": weights})
    files["net.py"] = f"open({str(evil)!r}, 'w')".encode()
    with pytest.raises(InputError, match=reason):
        open_model(write_folder(tmp_path / "package", files))
    assert not evil.exists()


def test_a_package_that_misses_its_own_test_is_refused(tmp_path):
    files = package_files()
    files["test_output.npy"] = files["test_input.npy"]
    with pytest.raises(InputError, match="test output is missed"):
        open_model(write_folder(tmp_path, files))


def test_answers_that_are_no_probabilities_are_refused(tmp_path):
    files = package_files()
    values = yaml.safe_load(files["bioimageio.yaml"])
    values["outputs"][0]["postprocessing"] = [
        {"id": "scale_linear", "kwargs": {"gain": 1.0, "offset": 5.0}}
    ]
    files["bioimageio.yaml"] = yaml.safe_dump(values).encode()
    answer = np.load(write_folder(tmp_path, files) / "test_output.npy") + 5
    np.save(tmp_path / "test_output.npy", answer)
    with pytest.raises(InputError, match="no probabilities"):
        open_model(tmp_path)


def test_a_model_of_another_program_does_not_learn(tmp_path):
    path = write_folder(tmp_path, package_files())
    assert usage_of(path).kind == "strokes"
    with pytest.raises(InputError, match="another program"):
        open_own_model(path)


def test_a_model_file_of_ours_opens_as_before(tmp_path):
    path = save_model(make_unet(), tmp_path / "m.safetensors")
    assert open_own_model(path).config.depth == 2


def test_a_session_predicts_with_a_guest_until_it_learns(tmp_path):
    segmenter = Segmenter(starter=None)
    segmenter.set_image(IMAGE)
    segmenter.use_model(write_folder(tmp_path, package_files()))
    assert segmenter.has_learned
    assert not segmenter.is_fine_tuned  # there is nothing to save or to click with
    np.testing.assert_allclose(
        segmenter.predict()[1][5:-5, 5:-5], mean_filter(IMAGE)[5:-5, 5:-5], atol=1e-6
    )
    segmenter.start_anew()
    assert segmenter.guest is None


# ---------------------------------------------------------------- a real one


@pytest.fixture(scope="module")
def nuclei():
    data = Path(os.environ.get("NAPARI_UNET_DATA", "nowhere"))
    if not (data / "unet2d_nuclei_broad").is_dir():
        pytest.skip("set NAPARI_UNET_DATA to the folder of real images")
    return data


def test_a_published_package_gives_its_own_test_output(nuclei):
    model = open_model(nuclei / "unet2d_nuclei_broad").network
    assert model.weights_format == "onnx"
    assert model.test_error < 1e-4


def test_a_published_package_segments_nuclei(nuclei):
    import imageio.v3 as iio

    model = ForeignModel(open_container(nuclei / "unet2d_nuclei_broad"), isolated=False)
    image = iio.imread(nuclei / "dsb2018" / "images" / "000.png")
    mask = next((nuclei / "dsb2018" / "masks").glob("000*"))
    truth = iio.imread(mask) > 0
    image = image if image.ndim == 2 else image[..., 0]
    probability = assemble(
        predict_foreign(model, PredictRequest(SourceImage(image))), 2, image.shape
    )
    found = probability[1] > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.7


def test_its_torchscript_is_used_where_there_is_no_onnx(nuclei, tmp_path):
    source = nuclei / "unet2d_nuclei_broad"
    for file in source.iterdir():
        if file.name != "weights.onnx":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    model = open_model(tmp_path).network
    assert model.weights_format == "torchscript"
    assert model.test_error < 1e-4
