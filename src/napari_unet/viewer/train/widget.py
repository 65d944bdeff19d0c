"""The Train dock: labelled images in, a model with honest numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QLabel, QListWidget
from superqt.utils import QSignalDebouncer

from napari_unet.viewer.actions import Action
from napari_unet.viewer.form import Dock, RunButton, choice, note
from napari_unet.viewer.job_panel import JobPanel
from napari_unet.viewer.reports import as_sentence
from napari_unet.viewer.train.curve import TrainingCurve
from napari_unet.viewer.train.fields import LearnFields
from napari_unet.viewer.train.jobs import ReadRequest, TrainPlan
from napari_unet.viewer.train.pairs import LayerPairs
from napari_unet.viewer.train.paths import FolderFields, OutputField
from napari_unet.viewer.train.session import training_for
from napari_unet.viewer.train.sources import Source

if TYPE_CHECKING:
    import napari

_SOURCES = {"open layers": "layers", "folders": "folders"}
# Clicks and keys that follow each other quickly are one change.
_REST_MS = 300
_LINES_SHOWN = 4


class TrainWidget(Dock):
    """Train a network of its own on images with a label for every pixel.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.training = training_for(self.controller)
        self._add_images_section(viewer)
        self._add_learn_section()
        self._add_train_section(viewer)
        self._add_result_row()
        self.rows.addStretch()
        self._rest = QSignalDebouncer(parent=self)
        self._rest.setTimeout(_REST_MS)
        self._rest.triggered.connect(self._read)
        for fields in (self.pairs, self.folders, self.learning):
            fields.changed.connect(self._on_source_changed)
        self.sources.currentIndexChanged.connect(self._on_source_changed)
        self.output.changed.connect(self.refresh)
        self.training.changed.connect(self.refresh)
        self.training.scored.connect(self._show_score)
        self.links.connect(self.training.status.events.phase, self.refresh)
        self.verticalScrollBar().rangeChanged.connect(self._on_page_grown)
        self._on_source_changed()
        self._show_score()

    # ------------------------------------------------------------------ the page

    def _add_images_section(self, viewer: Any) -> None:
        self.add_section("1  Images with labels")
        self.sources = choice(
            _SOURCES,
            "Open layers: images of this window and the labels layers that belong to them.\n"
            "Folders: images and label images on the disk; they need not be opened.",
        )
        self.pairs = LayerPairs(viewer, self._is_strokes)
        self.folders = FolderFields()
        self.summary = note("")
        self.problems = QListWidget()
        self.problems.setWordWrap(True)
        self.problems.setToolTip("What is left out, and why.")
        self.problems_title = QLabel()
        for field in (self.sources, self.pairs, self.folders):
            self.rows.addWidget(field)
        for part in (self.summary, self.problems_title, self.problems):
            self.rows.addWidget(part)

    def _add_learn_section(self) -> None:
        self.add_section("2  Learn")
        self.learning = LearnFields()
        self.rows.addWidget(self.learning)

    def _add_train_section(self, viewer: Any) -> None:
        self.add_section("3  Train")
        self.output = OutputField()
        self.train = RunButton(
            "Train",
            "Learn from these images, and save a model and a report. The session's own model is "
            "left alone.",
            self._why_not_train,
        )
        self.train.setObjectName("main")
        self.train.clicked.connect(self._on_train)
        self.rows.addWidget(self.output)
        self.rows.addWidget(self.output.state)
        self.add_run_button(self.train)
        self.curve = TrainingCurve(self.training.history, viewer.theme)
        self.score = QLabel()
        self.score.setWordWrap(True)
        self.score.setToolTip("Measured on the images that are kept out of learning.")
        for part in (JobPanel(self.training.status), self.score, self.curve):
            self.rows.addWidget(part)

    def _add_result_row(self) -> None:
        self.open_report = RunButton(
            "Open report",
            "Show curves, scores, examples and settings of the training in the browser.",
            self._why_no_report,
        )
        self.open_report.clicked.connect(self._on_open_report)
        self.use_model = RunButton(
            "Use this model",
            "Load the model into the session: the Predict dock then uses it.",
            self._why_not_use,
        )
        self.use_model.clicked.connect(self._on_use_model)
        row = QHBoxLayout()
        row.addWidget(self.open_report)
        row.addWidget(self.use_model)
        self.rows.addLayout(row)

    # ------------------------------------------------------------------ training to page

    def refresh(self) -> None:
        """Show the training as it is: buttons, reasons, what was read, what is saved."""
        if not hasattr(self, "use_model"):  # the page is still being made
            return
        training = self.training
        self.train.setText("Stop" if training.is_training else "Train")
        self.output.refresh()
        for fields in (self.pairs, self.folders):
            fields.setVisible(fields is self._fields())
        super().refresh()
        self._show_reading()

    def set_theme(self, theme: str) -> None:
        """Take the colours of a napari theme, by its id."""
        super().set_theme(theme)
        if hasattr(self, "curve"):
            self.curve.set_theme(theme)

    def _show_reading(self) -> None:
        training = self.training
        lines = [training.reading_problem] if training.reading_problem else training.found
        self.summary.setText(" ".join(f"{as_sentence(line).rstrip('.')}." for line in lines))
        self.summary.setVisible(bool(lines))
        problems = list(training.left_out)
        self.problems_title.setText(f"Left out ({len(problems)}):")
        if problems != [self.problems.item(row).text() for row in range(self.problems.count())]:
            self.problems.clear()
            self.problems.addItems(problems)
            line = self.fontMetrics().lineSpacing() * 2 + 6
            self.problems.setFixedHeight(line * min(max(len(problems), 1), _LINES_SHOWN))
        for part in (self.problems, self.problems_title):
            part.setVisible(bool(problems))

    def _show_score(self) -> None:
        last, best, final = (getattr(self.training, n) for n in ("validation", "best", "measured"))
        text = ""
        if final is not None:
            text = f"Final {final.measure} <b>{final.value:.3f}</b> on the images held out"
            text += f"; objects are cut out by {final.settings}." if final.settings else "."
        elif last is not None:
            self.curve.set_measure(last.measure)
            text = f"{last.measure} <b>{last.value:.3f}</b> at step {last.step}"
            text += f", best {best.value:.3f} at step {best.step}." if best else "."
        self.score.setText(text)
        self.score.setVisible(bool(text))

    def _on_page_grown(self, _least: int, _most: int) -> None:
        """Show the curve when it appears, also where the screen is small."""
        if self.training.is_training and self.training.validation is None:
            self.ensureWidgetVisible(self.open_report)

    # ------------------------------------------------------------------ reasons

    def _why_not_train(self) -> str | None:
        if self.training.is_stopping:
            return "It is stopping: the model is being measured and saved."
        if self.training.is_training:
            return None
        if (reason := self._fields().why_not()) is not None:
            return reason
        if self.training.reading_problem:
            return as_sentence(self.training.reading_problem)
        if self.output.output() is None:
            return "Say where to save the model first."
        return None

    def _why_no_report(self) -> str | None:
        report = self.training.report
        return None if report is not None else "There is no report yet; train first."

    def _why_not_use(self) -> str | None:
        if self.training.model is None:
            return "There is no model yet; train first."
        return self.controller.why_not(Action.LOAD_MODEL)

    # ------------------------------------------------------------------ page to training

    def _fields(self) -> LayerPairs | FolderFields:
        return self.pairs if self.sources.currentData() == "layers" else self.folders

    def _request(self) -> ReadRequest | None:
        source: Source | None = self._fields().source()
        if source is None:
            return None
        return ReadRequest(source, self.learning.kind(), self.learning.fraction())

    def _is_strokes(self, layer: Any) -> bool:
        return layer is self.controller.layers.annotations or layer.name.endswith(": annotations")

    def _on_source_changed(self, _value: object = None) -> None:
        self._rest.throttle()
        self.refresh()

    def _read(self) -> None:
        if not self.training.is_training:
            self.training.read(self._request())

    def _on_train(self) -> None:
        if self.training.is_training:
            self.training.stop()
            return
        request, output = self._request(), self.output.output()
        if request is None or output is None:
            return
        beginning = self.output.ask()
        if beginning is None:
            return
        recipe, seconds = self.learning.recipe(), self.learning.seconds()
        self.training.train(request, TrainPlan(recipe, seconds, output, beginning == "anew"))

    def _on_open_report(self) -> None:
        if self.training.report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.training.report.absolute())))

    def _on_use_model(self) -> None:
        if self.training.model is not None:
            self.controller.network.load(self.training.model)
