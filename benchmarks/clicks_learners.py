"""Who outlines objects from clicks in the benchmark: the network, and what it is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from clicks_peers import FLOOD, PEERS, Cropped, why_missing
from numpy.typing import NDArray

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_teaching import adapt_job
from napari_unet.engine.image import SourceImage
from napari_unet.model.click import load_click_network
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, Mask, Outline
from napari_unet.ops.tiling import Box

NETWORKS: Final = ("unet", "adapted", "unadapted")
#: What can be asked for; flood fill is all of its tolerances.
LEARNERS: Final = (*NETWORKS, FLOOD, *(name for name in PEERS if not name.startswith(FLOOD)))


class Learner(Protocol):
    """Outlines objects from clicks.

    Attributes
    ----------
    remembers
        Whether the same clicks may get another answer than before.
    """

    remembers: bool

    def open(self, image: NDArray[Any], known: Sequence[Mask]) -> None:
        """Take an image, of which some objects are known."""

    def start(self, around: Box) -> None:
        """Begin with an object in a box, of which nothing more than what is cropped may be used."""

    def answer(self, clicks: Sequence[Click]) -> Mask:
        """Outline the object under all clicks so far, on the whole image."""


class Unet:
    """Our network.

    Parameters
    ----------
    network
        What answers.

    Attributes
    ----------
    remembers
        True: it sees its earlier answer.
    """

    remembers = True

    def __init__(self, network: UNet) -> None:
        self._network = network

    def open(self, image: NDArray[Any], known: Sequence[Mask]) -> None:
        """Take an image."""
        self.clicker = Clicker(SourceImage(image), self._network)
        self.learn(known)
        # What is done at the first click on an image belongs to opening it.
        rows, columns = self.clicker.image.shape
        self.clicker.outline([Click(rows // 2, columns // 2)])

    def learn(self, known: Sequence[Mask]) -> None:
        """Do nothing with objects that are known."""

    def start(self, around: Box) -> None:
        """Forget the object before."""
        self._previous: Outline | None = None

    def answer(self, clicks: Sequence[Click]) -> Mask:
        """Outline the object, from the outline before."""
        self._previous = self.clicker.outline(clicks, self._previous)
        return self._previous.full(self.clicker.image.shape)


class Adapted(Unet):
    """Our network, which first learns from the known objects of an image."""

    def learn(self, known: Sequence[Mask]) -> None:
        """Adapt to objects that are known."""
        for mask in known:
            self.clicker.commit(mask)
        for _ in adapt_job(self.clicker):
            pass


def fingerprint(network: UNet) -> str:
    """Return a few letters that differ for networks with other weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def maker(name: str, network: Path | None) -> tuple[Callable[[], Learner], str]:
    """Return what makes a learner, and which network it has.

    Parameters
    ----------
    name
        One of `NETWORKS` or of `PEERS`.
    network
        The file of a network; None for the one that comes with the program.
    """
    if name not in NETWORKS:
        return lambda: Cropped(PEERS[name]), ""
    loaded, letters = _network(network)
    kind = Adapted if name == "adapted" else Unet
    return lambda: kind(loaded), letters


@lru_cache(maxsize=1)
def _network(path: Path | None) -> tuple[UNet, str]:
    loaded = load_click_network(path)
    return loaded, fingerprint(loaded)


def names_of(learners: Iterable[str]) -> list[str]:
    """Return the names that rows have of the learners asked for, without those not there."""
    found: list[str] = []
    for learner in learners:
        reason = why_missing(learner)
        if reason is not None:
            print(reason)
        elif learner == FLOOD:
            found += [name for name in PEERS if name.startswith(FLOOD)]
        else:
            found.append(learner)
    return found
