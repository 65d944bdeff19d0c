"""Choose which layer, or which part of one, is which channel of the model."""

from __future__ import annotations

from typing import Final

from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_unet.engine.image import ImageKind
from napari_unet.viewer.channels import Channel, ChannelChoice, level_shape, plain_count
from napari_unet.viewer.channels_last import bring_channels_first
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.form import note

_NOT_CHOSEN: Final = "choose ..."


class ChannelPanel(QWidget):
    """A list for each channel that the model takes; hidden where there is nothing to choose.

    Parameters
    ----------
    controller
        The session.

    Attributes
    ----------
    axis
        Which axis of the image holds channels.
    fields
        What is shown as each channel, in the model's order.
    """

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__()
        self._controller = controller
        self._candidates: tuple[Channel, ...] = ()
        self.fields: list[QComboBox] = []
        self.axis = _narrow()
        self.axis.setToolTip(
            "The axis of the image that holds channels; the others are time, planes, rows, columns."
        )
        self.axis.activated.connect(self._on_axis_chosen)
        self._axis_title = QLabel("Channel axis")
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow(self._axis_title, self.axis)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(note("Channels, in the order in which the model takes them:"))
        rows.addLayout(self._form)

    # ------------------------------------------------------------------ session to page

    def refresh(self) -> None:
        """Show the channels as they are."""
        layers, kind = self._controller.layers, self._controller.segmenter.takes
        planes, image = layers.planes, layers.image
        if kind is None or planes is None or image is None:
            self.hide()
            return
        plain = not planes.channels and planes.channel_count == kind.channels
        self.setVisible(not plain)
        if plain:
            return
        self._show_axes()
        self._candidates = layers.channels.candidates(planes)
        self._make_fields(kind)
        chosen = planes.channels if len(planes.channels) == kind.channels else ()
        names = [channel.name for channel in self._candidates]
        for number, field in enumerate(self.fields):
            offered = [_NOT_CHOSEN, *names]
            if [field.itemText(n) for n in range(field.count())] != offered:
                kept = field.currentText()
                field.clear()
                field.addItems(offered)
                field.setCurrentIndex(max(field.findText(kept), 0))
            if chosen and chosen[number] in self._candidates:
                field.setCurrentIndex(1 + self._candidates.index(chosen[number]))

    def _show_axes(self) -> None:
        planes, image = self._controller.layers.planes, self._controller.layers.image
        if planes is None or image is None:
            return
        leading = [] if image.rgb else list(range(image.ndim - 2))
        self.axis.clear()
        self.axis.addItem("none", None)
        for axis in leading:
            label, length = str(image.axis_labels[axis]), level_shape(image)[axis]
            name = "" if label.startswith("axis") or label.startswith("-") else f"{label}: "
            self.axis.addItem(f"{name}axis {axis + 1}, {length} long", axis)
        if leading:
            self.axis.addItem(f"last axis, {level_shape(image)[-1]} long: move it to the front", -1)
        self.axis.setCurrentIndex(max(self.axis.findData(planes.choice.axis), 0))
        self.axis.setVisible(bool(leading))
        self._axis_title.setVisible(bool(leading))

    def _make_fields(self, kind: ImageKind) -> None:
        if len(self.fields) != kind.channels:
            for field in self.fields:
                self._form.removeRow(field)
            self.fields = []
            for _ in range(kind.channels):
                field = _narrow()
                field.setToolTip("What the model is shown as this channel.")
                field.activated.connect(self._on_channel_chosen)
                self.fields.append(field)
                self._form.addRow(QLabel(), field)
        for number, field in enumerate(self.fields):
            name = f" ({kind.names[number]})" if kind.names else ""
            title = self._form.labelForField(field)
            if isinstance(title, QLabel):
                title.setText(f"Channel {number + 1}{name}")

    # ------------------------------------------------------------------ page to session

    def _on_axis_chosen(self, _index: int) -> None:
        layers, kind = self._controller.layers, self._controller.segmenter.takes
        axis, image = self.axis.currentData(), layers.image
        if image is None or kind is None:
            return
        if axis == -1:  # napari shows the last two axes as rows and columns
            bring_channels_first(image)
            axis = 0
        if axis is None and kind.channels == plain_count(image):
            layers.choose_channels(ChannelChoice())
            return
        all_of_them = ChannelChoice(axis).channels(image)
        fits = len(all_of_them) == kind.channels
        layers.choose_channels(ChannelChoice(axis, all_of_them if fits else ()))

    def _on_channel_chosen(self, _index: int) -> None:
        numbers = [field.currentIndex() - 1 for field in self.fields]
        if min(numbers) >= 0:
            chosen = tuple(self._candidates[number] for number in numbers)
            self._controller.layers.choose_channels(ChannelChoice(self.axis.currentData(), chosen))


def _narrow() -> QComboBox:
    """Return a list that long names do not make wider than the dock."""
    field = QComboBox()
    field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    field.setMinimumContentsLength(8)
    return field
