"""Which channels the network is shown of each image: what the user chose, or the usual ones."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from napari.layers import Image, Layer

from napari_unet.engine.image import ImageKind
from napari_unet.viewer.channels import Channel, ChannelChoice, candidates, usual_choice
from napari_unet.viewer.layers import result_role
from napari_unet.viewer.planes import ImagePlanes


class ChannelChoices:
    """Remembers what was chosen, for as long as the layers are open.

    Parameters
    ----------
    viewer
        The viewer; held weakly.

    Attributes
    ----------
    takes
        Returns what the session's network takes; None as long as it takes whatever comes.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(viewer)
        self.takes: Callable[[], ImageKind | None] = lambda: None
        # What the user chose to show a model of an image, in place of the usual.
        self._chosen: dict[Image, ChannelChoice] = {}

    def of(self, layer: Image) -> ChannelChoice:
        """Return what is shown of an image."""
        kind = self.takes()
        if kind is not None and (chosen := self._chosen.get(layer)) is not None:
            return chosen
        return usual_choice(layer, kind, self._images())

    def candidates(self, planes: ImagePlanes | None) -> tuple[Channel, ...]:
        """Return everything that can be a channel beside the pixels of an image."""
        return () if planes is None else candidates(planes.layer, planes.choice, self._images())

    def choose(self, layer: Image, choice: ChannelChoice | None) -> None:
        """Note what is to be shown of an image; None for the usual."""
        self._chosen.pop(layer, None)
        if choice is not None:
            self._chosen[layer] = choice

    def forget(self, layer: Layer) -> None:
        """Forget what was chosen for a layer that is gone, and what had it as a channel."""
        self._chosen.pop(layer, None)
        for image, choice in list(self._chosen.items()):
            if any(channel.layer is layer for channel in choice.chosen):
                del self._chosen[image]

    def may_stay(self, planes: ImagePlanes) -> bool:
        """Whether the channels at hand fit, or are the best there are."""
        return self._still_fit(planes) or self.of(planes.layer) == planes.choice

    def _still_fit(self, planes: ImagePlanes) -> bool:
        """Whether the channels at hand are still there, and as many as are wanted."""
        kind, images = self.takes(), self._images()
        chosen = self._chosen.get(planes.layer, planes.choice)
        return (
            kind is not None
            and chosen == planes.choice
            and len(chosen.chosen) == kind.channels
            and all(channel.layer in images for channel in chosen.chosen)
        )

    def _images(self) -> list[Image]:
        viewer = self._viewer()
        layers = [] if viewer is None else viewer.layers
        return [each for each in layers if isinstance(each, Image) and result_role(each) is None]
