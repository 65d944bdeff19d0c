"""The object that is being clicked on: its clicks and answers, on one plane or several."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.planes import Index


@dataclass(slots=True)
class PlaneState:
    """What was clicked on a plane so far, and the answer.

    Attributes
    ----------
    clicks
        The earlier ones first.
    answers
        Before any click, and after each: None where none is known. What the object was followed to
        is known before any click.
    replaced
        What was known before any click, each time before it was followed anew.
    """

    clicks: list[Click] = field(default_factory=list)
    answers: list[Outline | None] = field(default_factory=lambda: [None])
    replaced: list[Outline | None] = field(default_factory=list)

    @property
    def outline(self) -> Outline | None:
        """The latest answer that is known."""
        return next((answer for answer in reversed(self.answers) if answer is not None), None)

    @property
    def is_blank(self) -> bool:
        """Whether nothing was made on the plane, or all of it was taken back."""
        return not self.clicks and not self.replaced and self.answers == [None]

    def add(self, click: Click) -> None:
        """Click once more."""
        self.clicks.append(click)
        self.answers.append(None)

    def follow(self, found: Outline | None) -> None:
        """Take what the object was followed to; None while it is followed anew."""
        if self.answers[0] is not None or not self.replaced:
            self.replaced.append(self.answers[0])
        self.answers[0] = found

    def take_back(self) -> bool:
        """Forget the last click and its answer, or what was followed; False if there is none."""
        if self.clicks:
            self.clicks.pop()
            self.answers.pop()
        elif self.replaced:
            self.answers[0] = self.replaced.pop()
        else:
            return False
        return True


@dataclass(slots=True)
class CurrentObject:
    """An object that is not finished yet.

    Attributes
    ----------
    label
        Its number if it was finished before and is taken up again; None for a new one.
    box
        What was drawn around it; None if nothing was.
    planes
        What is known of it on each plane.
    """

    label: int | None = None
    box: Box | None = None
    planes: dict[Index, PlaneState] = field(default_factory=dict)

    def on(self, index: Index) -> PlaneState:
        """Return the state on a plane, a new one if there is none."""
        return self.planes.setdefault(index, PlaneState())

    def outline_on(self, index: Index) -> Outline | None:
        """Return the outline on a plane; None if there is none."""
        state = self.planes.get(index)
        return None if state is None else state.outline

    def parts(self) -> dict[Index, Outline]:
        """Return the outlines of all planes."""
        found = {index: state.outline for index, state in self.planes.items()}
        return {
            i: outline
            for i, outline in found.items()
            if outline is not None and (outline.mask.any() or self.label is not None)
        }
