"""How large finished objects are: the next one is likely to be of their size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from napari_unet.ops.clicks import Outline, usual_extent

# Objects of an image may change in size from one part of it to the next.
_KEPT: Final = 30


class FinishedSizes:
    """The larger sides of the latest finished objects of an image."""

    def __init__(self) -> None:
        self._extents: deque[int] = deque(maxlen=_KEPT)

    @property
    def known(self) -> tuple[int, ...]:
        """The larger sides in pixels, the latest one last."""
        return tuple(self._extents)

    @property
    def usual(self) -> float | None:
        """The usual larger side in pixels; None if too few are known, or if they are unlike."""
        return usual_extent(self._extents)

    def note(self, outlines: Iterable[Outline]) -> None:
        """Take it that objects have sizes like those of these finished ones."""
        self._extents.extend(each.extent for each in outlines if each.mask.any())

    def replace(self, extents: Iterable[int] = ()) -> None:
        """Take these for all that is known, in pixels; nothing is known of another image."""
        self._extents.clear()
        self._extents.extend(extents)
