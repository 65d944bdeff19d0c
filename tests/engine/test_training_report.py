"""The report is one whole page that loads nothing, whatever is in the record."""

import base64
import math
import re
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

import imageio.v3 as iio
import numpy as np
import pytest

from napari_unet.engine.training.report import (
    ReportExample,
    ReportImage,
    TrainingRecord,
    duration,
    render_report,
    write_report,
)
from napari_unet.engine.training.report_curves import loss_curve, number, round_ticks, score_curve
from napari_unet.engine.training.report_examples import draw_example, find_errors
from napari_unet.ops.errors import InputError

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Elements, their attributes and the text of a page; complains about tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def example(shape=(60, 80), dtype=np.uint8, is_worst=True, **changes):
    rng = np.random.default_rng(0)
    truth = np.zeros(shape[:2], np.int32)
    truth[: shape[0] // 2, : shape[1] // 2] = 1
    values = {
        "name": "cells",
        "image": (200 * rng.random(shape)).astype(dtype),
        "truth": truth,
        "prediction": np.roll(truth, 1, axis=1),
        "scores": {"SEG": 0.8, "mean AP": None},
        "is_worst": is_worst,
    }
    return ReportExample(**{**values, **changes})


@pytest.fixture
def record():
    return TrainingRecord(
        title="Nuclei",
        created=datetime(2026, 3, 4, 5, 6),
        model_file="my nuclei.safetensors",
        recipe="default, changed",
        configuration={"depth": 4, "dropout": 0.25, "augment": {"shift": 10.0, "flip": True}},
        reference={"depth": 4, "dropout": 0.5, "augment": {"shift": 10.0, "flip": False}},
        images=[
            ReportImage("a", "training", (60, 80), 7, "0123456789abcdef"),
            ReportImage("b", "validation", (60, 80, 3), 2),
        ],
        problems=["c: its labels are missing"],
        notes=["1 of 2 images is held out"],
        losses=[(step, 1 / step) for step in range(1, 50)],
        scores=[(10, 0.5), (20, 0.75), (30, 0.7)],
        measure="SEG",
        best_step=20,
        seconds=3725,
        steps=49,
        ended="early stopping",
        device="cpu",
        precision="bfloat16",
        seed=3,
        version="9.8",
        command="napari-unet train images labels",
        final_scores={"b": {"SEG": 0.8, "Dice": None}, "d": {"SEG": 0.6, "Dice": math.nan}},
        settings={"method": "seeds", "threshold": 0.5},
        tried=[({"method": "seeds", "threshold": 0.5}, 0.7), ({"method": "components"}, 0.6)],
        examples=[example(), example(is_worst=False, probability=np.full((60, 80), 0.5))],
    )


EMPTY = TrainingRecord("Empty", datetime(2026, 1, 1), "m.safetensors", "paper")


# ---------------------------------------------------------------------------- the page


def test_page_loads_and_runs_nothing(record):
    page = Page(render_report(record))
    assert not any(page.all(tag) for tag in ("script", "link", "iframe", "img"))
    used = [a.get("href") or a.get("src") for _, a in page.tags if "href" in a or "src" in a]
    assert used
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in used)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "url(" not in render_report(record)
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_page_shows_all_parts(record):
    text = " ".join(Page(render_report(record)).text.split())
    for words in (
        "Nuclei",
        "1 h 2 min",
        "early stopping",
        "weights of step 20 kept",
        "with 7 objects",
        "c: its labels are missing",
        "1 of 2 images is held out",
        "0123456789ab",
        "60 \N{MULTIPLICATION SIGN} 80 \N{MULTIPLICATION SIGN} 3",
        "napari-unet predict IMAGE.tif --model 'my nuclei.safetensors' --output results",
        "napari-unet train images labels",
        "2026-03-04 05:06",
        "Worst: cells",
        "Best: cells",
        "bfloat16",
    ):
        assert words in text
    assert "0123456789abc" not in text


def test_headline_is_the_mean_of_the_last_measurement(record):
    def headline(each):
        return re.search(r'<dd class="value">(.*?)</dd>', render_report(each)).group(1)

    assert headline(record) == "0.700"
    assert headline(replace(record, final_scores={})) == "0.750"
    assert headline(replace(record, final_scores={}, best_step=None)) == "\N{EN DASH}"


def test_values_that_were_changed_are_marked(record):
    html = render_report(record)
    assert html.count("changed; recipe:") == 2
    assert re.search(r"dropout</th><td>0.25 .*recipe: 0.5<", html)
    assert re.search(r"flip</th><td>yes .*recipe: no<", html)
    assert "changed; recipe:" not in render_report(replace(record, reference={}))


def test_pictures_and_tables_can_be_read_aloud(record):
    page = Page(render_report(record))
    assert all(a.get("aria-label") for a in page.all("svg"))
    assert all(a.get("scope") in ("row", "col") for a in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for _, a in page.tags if a.get("href", "").startswith("#")]
    labelled = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert {*targets, *labelled} <= set(ids)


def test_empty_record_says_what_is_missing():
    text = Page(render_report(EMPTY)).text
    assert "no validation score" in text
    assert "No losses were recorded" in text
    assert "no images were held out" in text


def test_losses_that_are_no_numbers_are_counted(record):
    losses = [(1, 1.0), (2, math.nan), (3, math.inf), (4, 0.5)]
    assert "2 losses were not finite" in render_report(replace(record, losses=losses))
    hopeless = replace(record, losses=[(1, math.nan), (2, math.nan)], scores=[(2, math.nan)])
    html = render_report(hopeless)
    assert "None of the 2 losses was a finite number" in html
    assert "nan" not in re.findall(r'\bd="([^"]*)"', html)


@pytest.mark.parametrize("kind", ["instances", "semantic"])
def test_kinds_are_told_apart(record, kind):
    page = Page(render_report(replace(record, kind=kind)))
    assert ("objects" in page.text.split("SHA-256")[1]) == (kind == "instances")


def test_hostile_names_stay_text(record, tmp_path):
    evil = "<script>alert('ü')</script>\"><b onload=x>\udcff‮"
    hostile = replace(
        record,
        title=evil,
        model_file=evil,
        measure=evil,
        command=evil,
        problems=[evil],
        configuration={evil: {evil: evil}},
        images=[ReportImage(evil, "training", (1, 1), 1, evil)],
        final_scores={evil: {evil: 0.5}},
        examples=[example(name=evil, scores={evil: 0.5})],
        tried=[({evil: evil}, 0.5)],
    )
    path = write_report(tmp_path / "r.html", hostile)
    page = Page(path.read_text("utf-8"))
    assert not page.all("script")
    assert not page.all("b") or not any("onload" in each for each in page.all("b"))
    assert "<script>alert('ü')</script>" in page.text


def test_report_replaces_the_old_one_whole(record, tmp_path):
    path = tmp_path / "new" / "report.html"
    assert write_report(path, record) == path
    write_report(path, EMPTY)
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="cannot be written"):
        write_report(path / "below" / "r.html", record)


# ---------------------------------------------------------------------------- examples


def decoded(uri):
    return iio.imread(base64.b64decode(uri.partition(",")[2]), extension=".png")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 2), np.uint8), ((1, 1), np.float32), ((40, 50), np.uint16), ((30, 30, 3), np.uint8)],
)
def test_small_images_of_any_kind_are_shown_whole(shape, dtype):
    drawn = draw_example(example(shape, dtype), "instances")
    assert (drawn.height, drawn.width) == shape[:2]
    assert decoded(drawn.image).shape[:2] == shape[:2]
    assert [layer.title for layer in drawn.layers] == ["Truth", "Prediction", "Errors"]


def test_large_image_is_cut_to_where_it_is_wrong():
    truth = np.zeros((1000, 900), int)
    truth[700:720, 600:620] = 1
    image = truth * 100
    whole = example(image.shape, image=image, truth=truth, prediction=np.zeros_like(truth))
    drawn = draw_example(whole, "instances")
    assert (drawn.height, drawn.width) == (384, 384)
    assert "of its 1000 \N{MULTIPLICATION SIGN} 900 pixels" in drawn.excerpt
    shown = decoded(drawn.image)
    assert (shown == 255).sum() == 400
    ((name, _, share),) = drawn.errors
    assert (name, share) == ("missed", 400 / truth.size)


def test_large_objects_are_reduced():
    truth = np.zeros((1200, 1200), int)
    truth[100:300, 100:300] = 1
    drawn = draw_example(
        example(truth.shape, image=truth, truth=truth, prediction=truth), "instances"
    )
    assert (drawn.height, drawn.width) == (300, 300)
    assert drawn.excerpt.endswith("reduced 4 times")
    assert drawn.errors == ()


def test_what_is_not_annotated_is_no_error():
    valid, nothing = np.zeros((60, 80), bool), np.zeros((60, 80), int)
    assert draw_example(example(prediction=nothing, valid=valid), "instances").errors == ()
    assert draw_example(example(prediction=nothing), "instances").errors


def test_arrays_of_other_sizes_are_refused():
    with pytest.raises(InputError, match="its truth"):
        example(truth=np.zeros((3, 3), int))


def test_classes_that_are_mixed_up_are_an_error_of_their_own():
    truth, prediction = np.array([[0, 0, 1, 1, 2]]), np.array([[0, 1, 0, 1, 1]])
    assert find_errors(prediction, truth, "semantic").tolist() == [[0, 2, 1, 0, 5]]


def test_report_with_many_pictures_stays_small(record):
    noise = np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8)
    labels = np.kron(np.arange(1024).reshape(32, 32), np.ones((16, 16), int))
    each = example(image=noise, truth=labels, prediction=np.roll(labels, 3, axis=0))
    assert len(render_report(replace(record, examples=[each] * 6))) < 4e6


# ---------------------------------------------------------------------------- curves


def path_points(path):
    return [tuple(map(float, pair.split())) for pair in re.split("[ML]", path) if pair]


def test_curve_stays_inside_its_axes():
    losses = [(step, math.exp(-step / 50) + (step == 3) * 1e6) for step in range(1, 400)]
    curve = loss_curve(losses)
    for x, y in path_points(curve.line) + path_points(curve.faint):
        assert curve.left <= x <= curve.right
        assert curve.top <= y <= curve.bottom
    xs, ys = zip(*path_points(curve.line), strict=True)
    assert list(xs) == sorted(xs)
    assert ys[-1] > ys[0], "a falling loss falls"
    assert max(ys) - min(ys) > 0.5 * (curve.bottom - curve.top), "one bad patch flattens nothing"


def test_many_losses_are_summed_up():
    curve = loss_curve([(step, math.sin(step)) for step in range(10_000)])
    assert 200 <= len(path_points(curve.line)) <= 500
    assert len(path_points(curve.faint)) <= 500
    assert len(curve.readings) <= 100


@pytest.mark.parametrize("losses", [[(7, 0.5)], [(0, 0.0)], [(5, -1.0), (6, -1.0)]])
def test_few_losses_can_be_drawn(losses):
    curve = loss_curve(losses)
    assert curve.x_ticks
    assert curve.y_ticks
    assert curve.readings[0].text.startswith(f"step {losses[0][0]} ")
    assert bool(curve.dots) == (len(losses) == 1)


def test_readings_cover_the_width_once():
    curve = loss_curve([(step, 1.0 + step % 3) for step in range(1, 1000, 7)])
    right = curve.left
    for reading in curve.readings:
        assert reading.left == pytest.approx(right, abs=0.11)
        assert reading.left - 0.11 <= reading.x <= reading.left + reading.width + 0.11
        right = reading.left + reading.width
    assert right == pytest.approx(curve.right, abs=0.11)


def test_best_score_is_marked():
    scores = [(10, 0.5), (20, math.nan), (30, 0.9), (40, 0.8)]
    curve = score_curve(scores, "SEG", 30)
    assert curve.best.text == "step 30 · SEG 0.900"
    assert curve.best.y == min(y for _, y in curve.dots)
    assert score_curve(scores, "SEG", None).best is None
    assert score_curve([], "SEG", 3) is None


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 3200), (0.81, 0.83), (-3, 12), (1e-7, 3e-7), (0, 1e9), (6, 8)]
)
def test_ticks_are_round_and_inside(low, high):
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert low - 1e-9 <= ticks[0]
    assert ticks[-1] <= high * (1 + 1e-9)
    gap = ticks[1] - ticks[0]
    digits = gap / 10 ** math.floor(math.log10(gap) + 1e-9)
    assert round(digits) in (1, 2, 5, 10)
    assert digits == pytest.approx(round(digits))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.87654, "0.877"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.0, "0"),
        (-0.5, "-0.500"),
        (0.00001, "1.00e-05"),
        (math.nan, "not a number"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (59.6, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3599.6, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (math.nan, "unknown"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text
