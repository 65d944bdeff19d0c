"""What outlining objects by clicks reports."""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet.ops.clicks import Outline


@dataclass(frozen=True, slots=True, eq=False)
class ObjectOutlined:
    """Clicks were answered.

    Attributes
    ----------
    outline
        The object.
    plane
        Of a stack; 0 otherwise.
    is_final
        Whether this is the answer; if not, it is what is seen at first, and the answer follows.
    """

    outline: Outline
    plane: int = 0
    is_final: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class ObjectsProposed:
    """Objects like those that were committed were looked for.

    Attributes
    ----------
    outlines
        What was found since the last such event, none of it overlapping another or a committed one.
    done, total
        Places looked at so far, and in all.
    """

    outlines: tuple[Outline, ...]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class AdaptingStepMade:
    """One step of adapting to the objects of an image is done.

    Attributes
    ----------
    step, total
        Steps so far, this one included, and in all.
    loss
        Of this step.
    """

    step: int
    total: int
    loss: float


@dataclass(frozen=True, slots=True)
class ClicksAdapted:
    """The network that answers clicks was adapted to the objects of an image.

    Attributes
    ----------
    objects
        How many it was adapted to.
    before, after
        Mean intersection over union of its first answers on objects that were held back; None if
        there were too few to hold any back.
    used
        Whether the adapted network is used: not if it is no better on what was held back.
    """

    objects: int
    before: float | None
    after: float | None
    used: bool
