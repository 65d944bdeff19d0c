"""How to train: the part of the Train dock that says what the labels are, and how to learn."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QSpinBox, QWidget

from napari_unet.engine.training.recipe import RECIPES, Recipe
from napari_unet.viewer.form import choice, note
from napari_unet.viewer.train.sources import KindChoice

_KINDS = {
    "look at the labels": "auto",
    "objects (instances)": "instances",
    "classes (semantic)": "semantic",
}
_RECIPE_WORDS = {
    "default": "What measured best: BatchNorm, AdamW, a learning rate that falls at the end.",
    "nuclei": "For nuclei and other small objects that mostly lie apart: a narrow network, six "
    "small patches a step, outlines as a class of their own. Needs 20 minutes.",
    "paper": "As published in 2015: 64 channels, SGD with momentum, one large patch a step. "
    "A step takes longer.",
}
_SECONDS_PER_MINUTE = 60.0


class LearnFields(QWidget):
    """What the labels are, the recipe, the time, and the share that is held out."""

    #: The kind of labels, or the share that is held out, is another one.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.kinds = choice(
            _KINDS,
            "Objects: every number is one object of its image, 0 is background.\n"
            "Classes: every number is a class. The labels mostly show by themselves which it is.",
        )
        self.recipes = choice(
            {name: name for name in RECIPES},
            "Everything else that decides how it learns: network, optimizer, augmentation.",
        )
        self.recipe_words = note("")
        self.minutes = QSpinBox()
        self.minutes.setRange(1, 100_000)
        self.minutes.setValue(60)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip(
            "How long to learn at most. It ends earlier if the score has long stopped rising.\n"
            "If an unfinished training goes on, its earlier minutes count."
        )
        self.held_out = QSpinBox()
        self.held_out.setRange(0, 90)
        self.held_out.setValue(20)
        self.held_out.setSuffix(" %")
        self.held_out.setSpecialValueText("nothing")
        self.held_out.setToolTip(
            "Share of the images that is kept out of learning. On it the score is measured, the\n"
            "best weights are chosen, and how objects are cut out. 0: no score."
        )
        self.held_out.setKeyboardTracking(False)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        for title, field in (("Labels are", self.kinds), ("Recipe", self.recipes)):
            form.addRow(title, field)
        form.addRow(self.recipe_words)
        form.addRow("For", self.minutes)
        form.addRow("Hold out", self.held_out)
        self.recipes.currentIndexChanged.connect(self._on_recipe)
        self.kinds.currentIndexChanged.connect(self._tell)
        self.held_out.valueChanged.connect(self._tell)
        self._on_recipe()

    def kind(self) -> KindChoice:
        """Return what the labels are said to be."""
        kind: KindChoice = self.kinds.currentData()
        return kind

    def fraction(self) -> float:
        """Return the share that is held out, 0 to 0.9."""
        return self.held_out.value() / 100

    def seconds(self) -> float:
        """Return how long to learn."""
        return self.minutes.value() * _SECONDS_PER_MINUTE

    def recipe(self) -> Recipe:
        """Return the recipe."""
        return RECIPES[self.recipes.currentData()]

    def _on_recipe(self, _index: int = 0) -> None:
        self.recipe_words.setText(_RECIPE_WORDS.get(self.recipes.currentData(), ""))

    def _tell(self, _value: object = None) -> None:
        self.changed.emit()
