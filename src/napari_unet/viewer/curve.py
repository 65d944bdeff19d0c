"""The live curve: loss and score on held-out strokes against training steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.viewer.links import Links
from napari_unet.viewer.status import TrainingHistory

# Okabe and Ito's vermilion and blue: apart for any kind of colour vision, and dark or bright
# enough on napari's light and dark grey. The score has dots besides, so colour is not all.
_LOSS_COLOUR = {"dark": "#E69F00", "light": "#B34A00"}
_SCORE_COLOUR = {"dark": "#56B4E9", "light": "#0072B2"}
# Steps may come faster than anybody can look.
_REDRAW_MS = 100
# A line of more points looks the same at this width.
_MOST_POINTS = 2000
# The loss of single patches jumps; the line is their running mean over about so many steps.
_SMOOTHING_STEPS = 10


class CurvePlot(QWidget):
    """Draws a `TrainingHistory` as it grows: loss on the left axis, held-out Dice on the right.

    Parameters
    ----------
    history
        What is drawn; it is observed, not copied.
    theme
        Id of a napari theme.
    """

    def __init__(self, history: TrainingHistory, theme: str = "dark") -> None:
        super().__init__()
        self._history = history
        self.plot = pg.PlotWidget()
        self._item = self.plot.getPlotItem()
        self._score_view = pg.ViewBox(enableMenu=False)
        self._patch_losses = pg.PlotDataItem()
        self._loss_line = pg.PlotDataItem()
        self._score_line = pg.PlotDataItem(symbol="o", symbolSize=6)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(_REDRAW_MS)
        self._redraw.timeout.connect(self.redraw)
        self._lay_out()
        self.set_theme(theme)
        self.setToolTip(
            "Orange line: the loss on the strokes it learns from; lower is better.\n"
            "Blue dots: Dice on strokes it never learns from; 1 is perfect.\n"
            "If blue falls while orange falls, it learns by heart: paint more strokes."
        )
        self._links = Links(self)
        self._links.connect(history.extended, self._on_extended)
        self.redraw()

    def _lay_out(self) -> None:
        self.plot.setMinimumHeight(120)
        self.plot.setMaximumHeight(170)
        self.plot.setFrameShape(self.plot.Shape.NoFrame)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setMenuEnabled(False)
        self._item.hideButtons()
        self._item.showAxis("right")
        self._item.layout.setContentsMargins(3, 4, 3, 6)  # letters reach below the axis label
        self._item.scene().addItem(self._score_view)
        self._item.getAxis("right").linkToView(self._score_view)
        self._score_view.setXLink(self._item)
        self._score_view.setMouseEnabled(x=False, y=False)
        self._score_view.setYRange(0, 1, padding=0.06)
        self._item.getAxis("right").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        self._item.vb.setLimits(xMin=0, yMin=0, minXRange=10, minYRange=0.1)
        self._item.addItem(self._patch_losses)
        self._item.addItem(self._loss_line)
        self._score_view.addItem(self._score_line)
        self._item.vb.sigResized.connect(self._follow_geometry)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._hint = QLabel("The curve of learning appears here.")
        self._hint.setStyleSheet("font-style: italic")
        layout.addWidget(self._hint)
        layout.addWidget(self.plot)
        self._follow_geometry()

    def set_theme(self, theme: str) -> None:
        """Draw in the colours of a napari theme, by its id."""
        colours = get_theme(theme)
        kind = "light" if _is_light(colours.background) else "dark"
        text = colours.text.as_hex()
        self.plot.setBackground(colours.background.as_hex())
        for name, label, colour in (
            ("left", "loss", _LOSS_COLOUR[kind]),
            ("right", "held-out Dice", _SCORE_COLOUR[kind]),
            ("bottom", "step", text),
        ):
            axis = self._item.getAxis(name)
            axis.setPen(pg.mkPen(colours.secondary.as_hex()))
            axis.setTextPen(pg.mkPen(colour))
            axis.enableAutoSIPrefix(False)
            axis.setLabel(label, color=colour)
        faint = pg.mkColor(_LOSS_COLOUR[kind])
        faint.setAlpha(70)
        self._patch_losses.setPen(pg.mkPen(faint, width=1))
        self._loss_line.setPen(pg.mkPen(_LOSS_COLOUR[kind], width=2))
        self._score_line.setPen(pg.mkPen(_SCORE_COLOUR[kind], width=2, style=Qt.PenStyle.DashLine))
        self._score_line.setSymbolBrush(_SCORE_COLOUR[kind])
        self._score_line.setSymbolPen(None)

    def redraw(self) -> None:
        """Draw the history as it is now."""
        steps, losses = _columns(self._history.losses)
        self._patch_losses.setData(steps, losses)
        self._loss_line.setData(steps, _running_mean(losses))
        self._score_line.setData(*_columns(self._history.scores))
        self._hint.setVisible(not len(steps))
        self.plot.setVisible(bool(len(steps)))

    def _on_extended(self) -> None:
        if not self._redraw.isActive():
            self._redraw.start()

    def _follow_geometry(self) -> None:
        self._score_view.setGeometry(self._item.vb.sceneBoundingRect())
        self._score_view.linkedViewChanged(self._item.vb, self._score_view.XAxis)


def _columns(points: list[tuple[int, float]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return x and y of at most a few thousand of the points, the latest always among them."""
    stride = len(points) // _MOST_POINTS + 1
    thinned = points[::-1][::stride][::-1]
    table = np.array(thinned, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _running_mean(values: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of each value and its predecessors, a few steps back."""
    if not len(values):
        return values
    sums = np.cumsum(values)
    back = np.minimum(np.arange(1, len(values) + 1), _SMOOTHING_STEPS)
    before = np.concatenate([np.zeros(_SMOOTHING_STEPS), sums])[: len(values)]
    return np.asarray((sums - before) / back)


def _is_light(colour: Any) -> bool:
    red, green, blue = colour.as_rgb_tuple()[:3]
    return bool(0.299 * red + 0.587 * green + 0.114 * blue > 127)
