"""The live curve of a training on dense labels, with its best score marked."""

from __future__ import annotations

from napari.utils.theme import get_theme
from pyqtgraph import PlotDataItem, mkPen

from napari_unet.viewer.curve import CurvePlot
from napari_unet.viewer.status import TrainingHistory


class TrainingCurve(CurvePlot):
    """Loss on the left axis, the score on the images held out on the right, a star at the best.

    Parameters
    ----------
    history
        What is drawn; it is observed, not copied.
    theme
        Id of a napari theme.
    """

    def __init__(self, history: TrainingHistory, theme: str = "dark") -> None:
        self._measure = "score"
        self._best = PlotDataItem(pen=None, symbol="star", symbolSize=17)
        super().__init__(history, theme)
        self._score_view.addItem(self._best)
        self._hint.setText("The curve of the training appears here.")
        self.setToolTip(
            "Orange line: the loss on the images it learns from; lower is better.\n"
            "Blue dots: the score on the images that are held out; 1 is perfect.\n"
            "Star: the best score; the weights of that step are kept.\n"
            "If blue falls while orange falls, it learns by heart: it needs more images."
        )

    def set_measure(self, measure: str) -> None:
        """Name the right axis."""
        if measure != self._measure:
            self._measure = measure
            self._name_axis()

    def set_theme(self, theme: str) -> None:
        """Draw in the colours of a napari theme, by its id."""
        super().set_theme(theme)
        self._name_axis()
        self._best.setSymbolBrush(self._score_line.opts["symbolBrush"])
        self._best.setSymbolPen(mkPen(get_theme(theme).text.as_hex(), width=1))

    def redraw(self) -> None:
        """Draw the history as it is now."""
        super().redraw()
        scores = self._history.scores
        # Of equal scores the later counts, as for the weights that are kept.
        best = [max(scores, key=lambda score: (score[1], score[0]))] if scores else []
        self._best.setData([step for step, _ in best], [value for _, value in best])

    def _name_axis(self) -> None:
        axis = self._item.getAxis("right")
        axis.setLabel(self._measure, color=axis.textPen().color().name())
