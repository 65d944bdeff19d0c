"""Learning from stacks: from strokes on a few planes, and from dense labels in files."""

import numpy as np
import pytest
import tifffile
import torch
from networks import make_unet

from napari_unet.engine import plan as plans
from napari_unet.engine.dataset import LabelledImage, LabelledSet, read_labelled_set, split_by_image
from napari_unet.engine.events import Noticed, StepCompleted, TrainingFinished
from napari_unet.engine.finetune import FinetuneRequest, finetune
from napari_unet.engine.image import SourceImage
from napari_unet.engine.images.axes import Corrections
from napari_unet.engine.plan import ExecutionPlan
from napari_unet.engine.predict import predict
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.engine.training.patches import DensePatches
from napari_unet.engine.training.recipe import DEFAULT, STACK
from napari_unet.engine.training.train import Training, TrainRequest
from napari_unet.model.augment import AugmentConfig
from napari_unet.model.checkpoint import load_model
from napari_unet.ops.errors import InputError
from napari_unet.ops.weight_map import weight_map

SPACING = (0.6, 0.2, 0.2)
QUICK = STACK.changed(base_channels=4, depth=1, patch_size=12, learning_rate=5e-3)


@pytest.fixture(autouse=True)
def _plan_without_measuring(monkeypatch):
    monkeypatch.setattr(
        plans,
        "_measured_plan",
        lambda config, *_: ExecutionPlan(torch.device("cpu"), ndim=config.ndim),
    )


def cells(seed=0, shape=(8, 28, 28)):
    """Bright balls on a dark ground, in voxels three times as high as wide."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * (3, 1, 1)
    labels = np.zeros(shape, np.uint16)
    for number, middle in enumerate([(6, 7, 7), (15, 20, 8), (9, 10, 20), (18, 22, 21)], 1):
        labels[((places - middle) ** 2).sum(-1) <= 36] = number
    image = rng.normal(60, 12, shape) + 90 * (labels > 0)
    return image.clip(0, 255).astype(np.uint8), labels


def stack_set(*seeds):
    items = (LabelledImage(f"cells {seed}", *cells(seed), spacing=SPACING) for seed in seeds)
    return LabelledSet(tuple(items), "instances", (0, 1))


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


# ------------------------------------------------------------------------------- dense labels


def test_patches_respect_the_distance_of_planes():
    labelled = stack_set(0)
    config = STACK.network(1, 3, labelled.spacing)
    assert config.pooling == ((1, 2, 2), (1, 2, 2))
    patches = DensePatches(labelled, QUICK, config.geometries, torch.Generator().manual_seed(0))
    patch = patches.draw(0)
    sides = [g.input_size(n) for g, n in zip(config.geometries, (4, 12, 12), strict=True)]
    assert patch.image.shape == (1, 1, *sides)
    assert set(np.unique(patch.annotations)) <= {0, 1, 2, 3}
    assert patches.halve()
    assert patches.draw(1).image.shape[-1] < sides[-1]


def test_a_training_learns_balls():
    training = Training(TrainRequest(stack_set(0), stack_set(1), QUICK, steps=60))
    events = list(training.run())
    assert isinstance(events[-1], TrainingFinished)
    model = training.best_model()
    assert model.config.ndim == 3
    image, labels = cells(2)
    probability = predict(model, image, precision="fp32")
    assert dice(probability[0] < 0.5, labels > 0) > 0.85
    assert training.best_score is not None


def test_a_recipe_of_other_dimensions_is_refused():
    with pytest.raises(InputError, match="dimensions"):
        Training(TrainRequest(stack_set(0), None, DEFAULT, steps=1))


# ------------------------------------------------------------------------------- files


def write_stack(folder, name, seed, spacing=SPACING):
    image, labels = cells(seed)
    for kind, array in (("images", image), ("masks", labels)):
        (folder / kind).mkdir(exist_ok=True, parents=True)
        tifffile.imwrite(
            folder / kind / f"{name}.tif",
            array,
            imagej=True,
            resolution=(1 / spacing[2], 1 / spacing[1]),
            metadata={"axes": "ZYX", "spacing": spacing[0], "unit": "um"},
        )


def test_stacks_are_read_as_stacks_with_their_voxels(tmp_path):
    for seed in (0, 1):
        write_stack(tmp_path, f"cells{seed}", seed)
    labelled = read_labelled_set(tmp_path / "images", tmp_path / "masks", "instances", ndim=3)
    assert [each.image.shape for each in labelled.images] == [(8, 28, 28)] * 2
    assert labelled.kind == "instances"
    assert labelled.spacing == pytest.approx((3, 1, 1), rel=1e-4)
    np.testing.assert_array_equal(labelled.images[1].labels, cells(1)[1])
    planes = read_labelled_set(
        tmp_path / "images" / "cells0.tif", tmp_path / "masks" / "cells0.tif"
    )
    assert len(planes.images) == 8


def test_the_user_knows_the_voxels_better(tmp_path):
    write_stack(tmp_path, "cells", 0)
    one = read_labelled_set(
        tmp_path / "images" / "cells.tif",
        tmp_path / "masks" / "cells.tif",
        ndim=3,
        corrections=Corrections(sizes=(("z", 1.0), ("y", 0.5), ("x", 0.5)), unit="µm"),
    )
    assert one.spacing == pytest.approx((2, 1, 1))


def test_an_image_alone_is_no_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", np.ones((9, 9), np.uint8))
    with pytest.raises(InputError, match="no single stack"):
        read_labelled_set(tmp_path / "a.tif", tmp_path / "b.tif", ndim=3)


def test_of_a_single_stack_a_strip_is_held_out():
    split = split_by_image(stack_set(0), 0.3)
    (train,), (held_out,) = split.train.images, split.validation.images
    assert train.valid.shape == (8, 28, 28)
    assert not (train.valid & held_out.valid).any()
    assert (train.valid == train.valid[:1]).all()


def test_train_and_predict_from_the_command_line(tmp_path, run):
    write_stack(tmp_path, "cells", 0)
    model = tmp_path / "model.safetensors"
    sets = ["base_channels=2", "depth=1", "patch_size=8"]
    result = run(
        *("train", tmp_path / "images", tmp_path / "masks", "--ndim", "3"),
        *("-o", model, "--steps", "2"),
        *(part for value in sets for part in ("--set", value)),
    )
    assert result.exit_code == 0, result.output
    assert "3 pixels apart" in result.output
    assert load_model(model).config.ndim == 3
    assert model.with_suffix(".html").exists()
    result = run("predict", tmp_path / "images" / "cells.tif", "-m", model, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert tifffile.imread(tmp_path / "cells_classes.tif").shape == (8, 28, 28)


def test_options_of_stacks_need_stacks(tmp_path, run):
    command = ["train", tmp_path, tmp_path, "-o", tmp_path / "m.safetensors"]
    for extra, says in (
        (["--pixel-size", "2,1,1um"], "--ndim 3"),
        (["--recipe", "stack"], "--ndim 3"),
        (["--ndim", "3", "--recipe", "nuclei"], "--ndim 2"),
    ):
        result = run(*command, *extra)
        assert result.exit_code != 0
        assert says in result.output


def test_the_weight_map_of_a_stack_from_the_command_line(tmp_path, run):
    write_stack(tmp_path, "cells", 0)
    output = tmp_path / "weights.tif"
    result = run("weight-map", tmp_path / "masks" / "cells.tif", "-o", output, "--ndim", "3")
    assert result.exit_code == 0, result.output
    expected = weight_map(cells(0)[1], spacing=(3, 1, 1))
    np.testing.assert_allclose(tifffile.imread(output), expected, rtol=1e-4)
    with tifffile.TiffFile(output) as tiff:
        assert tiff.series[0].axes == "ZYX"
        assert tiff.imagej_metadata["spacing"] == pytest.approx(0.6)
    result = run("weight-map", tmp_path / "masks" / "cells.tif", "-o", output)
    assert result.exit_code == 2  # as before, an image alone


# ------------------------------------------------------------------------------- strokes


def strokes(labels):
    """Strokes on two of the planes alone."""
    annotations = np.zeros(labels.shape, np.uint8)
    for plane in (2, 5):
        annotations[plane, 12:17, 2:26:3] = np.where(labels[plane, 12:17, 2:26:3] > 0, 2, 1)
        annotations[plane, 6:9, 4:24] = np.where(labels[plane, 6:9, 4:24] > 0, 2, 1)
    return annotations


def test_strokes_on_some_planes_teach_the_whole_stack():
    image, labels = cells(0)
    source = SourceImage(image, ndim=3, spacing=SPACING)
    model = make_unet(ndim=3, depth=1, batch_norm=True, pooling=((1, 2, 2),), dropout=0.0)
    config = FinetuneConfig(
        learning_rate=5e-3, patch_size=12, batch=2, augment=AugmentConfig.none(), held_out=0.0
    )
    before = predict(model, image, precision="fp32")
    trainer = Trainer(model, config)
    events = list(finetune(trainer, FinetuneRequest(source, strokes(labels), steps=40)))
    assert sum(isinstance(event, StepCompleted) for event in events) == 40
    assert not any(isinstance(event, Noticed) for event in events)
    probability = predict(trainer.shown_model(), image, precision="fp32")
    unpainted = [0, 1, 3, 4, 6, 7]
    scores = [
        dice(found[1][unpainted] > 0.5, labels[unpainted] > 0) for found in (before, probability)
    ]
    assert scores[1] > max(0.6, scores[0] + 0.2)


def test_fine_tune_on_a_stack_from_the_command_line(tmp_path, run):
    write_stack(tmp_path, "cells", 0)
    tifffile.imwrite(tmp_path / "strokes.tif", strokes(cells(0)[1]), metadata={"axes": "ZYX"})
    model = tmp_path / "model.safetensors"
    image = tmp_path / "images" / "cells.tif"
    result = run(
        *("fine-tune", image, tmp_path / "strokes.tif", "--ndim", "3"),
        *("-o", model, "--steps", "1"),
    )
    assert result.exit_code == 0, result.output
    assert load_model(model).config.pooling == ((1, 2, 2), (1, 2, 2))


def test_a_segmenter_takes_a_stack_as_a_stack():
    image, labels = cells(0)
    config = FinetuneConfig(patch_size=8, batch=1, held_out=0.2)
    segmenter = Segmenter(classes=2, config=config)
    segmenter.set_image(SourceImage(image, ndim=3, spacing=SPACING))
    assert segmenter.model.config.ndim == 3
    segmenter.annotate(strokes(labels))
    finished, score = segmenter.fine_tune(steps=2)
    assert finished.steps == 2
    assert score is not None
    assert segmenter.predict().shape == (2, 8, 28, 28)
    with pytest.raises(InputError, match="plane by plane"):
        segmenter.click([((3, 3), True)])
