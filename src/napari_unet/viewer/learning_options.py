"""The folded-away part of the Fine-tune dock: how to learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QSpinBox,
    QWidget,
)

from napari_unet.engine.events.learning import LearningPlanned
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.augment import AugmentConfig

_OPTIMIZERS = {
    "AdamW": "adamw",
    "SGD (as published)": "sgd",
}


class LearningOptions(QWidget):
    """Edits a `FinetuneConfig`.

    Parameters
    ----------
    config
        What is shown at first; what cannot be edited here stays as it is.
    """

    #: (FinetuneConfig): the user changed something.
    changed = Signal(object)

    def __init__(self, config: FinetuneConfig) -> None:
        super().__init__()
        self._config = config
        self.optimizer = QComboBox()
        self.optimizer.addItems(list(_OPTIMIZERS))
        self.optimizer.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.optimizer.setMinimumContentsLength(8)
        self.optimizer.setCurrentIndex(list(_OPTIMIZERS.values()).index(config.optimizer))
        self.learning_rate = _decimal(0.0, 1.0, config.learning_rate or 0.0, 1e-4, 5)
        self.learning_rate.setSpecialValueText("automatic")
        self.patch_size = QSpinBox()
        self.patch_size.setRange(0, 1024)
        self.patch_size.setSpecialValueText("measured")
        self.patch_size.setSingleStep(16)
        self.patch_size.setSuffix(" px")
        self.patch_size.setValue(config.patch_size or 0)
        self.w0 = _decimal(0.0, 100.0, config.w0, 1.0, 1)
        self.sigma = _decimal(0.5, 50.0, config.sigma, 0.5, 1)
        self.sigma.setSuffix(" px")
        self.balance = _decimal(0.0, 1.0, config.balance, 0.1, 2)
        self.augment = QCheckBox("turn, bend, shade")
        self.augment.setChecked(config.augment != AugmentConfig.none())
        self._lay_out()
        self._watch()

    def show_setup(self, setup: LearningPlanned | None) -> None:
        """Show which side was measured, in place of the word alone."""
        side = "" if setup is None else f": {setup.side} px"
        self.patch_size.setSpecialValueText(f"measured{side}")

    def config(self) -> FinetuneConfig:
        """Return what is chosen."""
        optimizer: Any = _OPTIMIZERS[self.optimizer.currentText()]
        return replace(
            self._config,
            optimizer=optimizer,
            learning_rate=self.learning_rate.value() or None,
            patch_size=self.patch_size.value() or None,
            w0=self.w0.value(),
            sigma=self.sigma.value(),
            balance=self.balance.value(),
            augment=AugmentConfig() if self.augment.isChecked() else AugmentConfig.none(),
        )

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for title, field, tooltip in (
            (
                "Optimizer",
                self.optimizer,
                "The rule by which a step changes the weights. "
                "AdamW gets further in the first minute.",
            ),
            (
                "Learning rate",
                self.learning_rate,
                "How large a step is. Lower it if the loss jumps up; 0 chooses it for you.",
            ),
            (
                "Patch size",
                self.patch_size,
                "Side of the piece of the image that one step looks at. Larger sees more context, "
                "smaller makes quicker steps. 0 measures which suits this machine.",
            ),
            (
                "Border weight",
                self.w0,
                "w0: how much more the gaps between close objects count; 10 as published.",
            ),
            (
                "Border width",
                self.sigma,
                "sigma: how far from objects gaps count more, in pixels; 5 as published.",
            ),
            (
                "Class balance",
                self.balance,
                "1: every class counts the same however little of it is painted; 0: every pixel "
                "counts the same.",
            ),
            (
                "Vary",
                self.augment,
                "Show each patch turned, mirrored, bent and in other brightness, so that a few "
                "strokes go further.",
            ),
        ):
            field.setToolTip(tooltip)
            form.addRow(title, field)

    def _watch(self) -> None:
        self.optimizer.currentIndexChanged.connect(self._tell)
        self.augment.toggled.connect(self._tell)
        for field in (self.learning_rate, self.patch_size, self.w0, self.sigma, self.balance):
            field.setKeyboardTracking(False)
            field.valueChanged.connect(self._tell)

    def _tell(self, _value: object = None) -> None:
        self.changed.emit(self.config())


def _decimal(low: float, high: float, value: float, step: float, decimals: int) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(decimals)
    field.setRange(low, high)
    field.setSingleStep(step)
    field.setValue(value)
    return field
