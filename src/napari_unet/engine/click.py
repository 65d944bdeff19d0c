"""Outline the object under a few clicks.

The network (`napari_unet.model.click`) sees a window that is scaled so that the object has one size
in it. How large the object is, nobody says: at the first click windows of several scales are looked
at, and what is seen in each is looked at again at its own scale, see `click_choice`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.engine.click_choice import chosen_anew, is_explained, looked_again
from napari_unet.engine.click_glimpse import Glimpse, glimpse, likeliest_first
from napari_unet.engine.click_hint import Hint, told_of
from napari_unet.engine.click_looks import (
    EXTENT,
    FIRST_SIDE,
    LARGEST_ZOOM,
    NEXT_SIDE,
    Look,
    first_windows,
    is_usual,
    judge,
    middle_of,
    read,
    sides,
    surest,
    wider,
    window_around,
    with_clicks,
    within,
)
from napari_unet.engine.device import threads_at_most
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan, Precision, choose_plan
from napari_unet.model.click import load_click_network
from napari_unet.model.head import Head
from napari_unet.model.unet import UNet
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import (
    Click,
    Mask,
    Outline,
    Window,
    checked_clicks,
    usual_extent,
)
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box

# An object that is followed has ended where the network expects less overlap with the truth; and
# what has less in common with its outline on the plane before is something else.
_LEAST_OVERLAP: Final = 0.5
_LEAST_SHARED: Final = 0.3
# By how much a wider window is wider, and what has to be in common in both.
_WIDE: Final = 0.7
_STEADY: Final = 0.8
# Clicks, an earlier outline, a box, and the usual size of objects.
_Question = tuple[tuple[Click, ...], Outline | None, Box | None, float | None]


class Clicker:
    """Outlines objects of one image.

    Parameters
    ----------
    image
        The image.
    network
        What adapting begins from, see `napari_unet.model.click`; None for the one that comes with
        the program.
    adapted
        What answers; None for `network`.
    precision
        As for `choose_plan`: "fast" takes bfloat16 where it is faster.
    device
        As for `resolve_device`.
    threads
        How many threads look at windows at most; None for as many as torch uses.

    Attributes
    ----------
    objects
        What was committed: it is learned from, and tells how large objects of this image are.
    given
        What adapting begins from.
    network
        What answers.
    device
        As given.
    likeness
        What tells pixels of such objects from others; None before it was learned.
    """

    def __init__(
        self,
        image: SourceImage,
        network: UNet | None = None,
        *,
        adapted: UNet | None = None,
        precision: Precision = "fast",
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if image.ndim != 2:
            raise InputError("objects are outlined plane by plane; give one plane of the stack")
        self.image = image
        self.objects: tuple[Outline, ...] = ()
        self.given = network or load_click_network()
        self._precision: Precision = precision
        self.device = device
        self._threads = threads
        self._answer: Outline
        self._pyramid: Pyramid | None = None
        self._hint: Hint | None = None
        self._alike: Hint | None = None
        self.likeness: Head | None = None
        self.use_network(adapted or self.given)

    def twin(self) -> Clicker:
        """Return what outlines objects of the same image as it would before it learned anything."""
        twin = Clicker(
            self.image,
            self.given,
            precision=self._precision,
            device=self.device,
            threads=self._threads,
        )
        twin.objects, twin._pyramid = self.objects, self.pyramid
        return twin

    def use_network(self, network: UNet) -> None:
        """Answer with another network from now on."""
        self.network = network
        self._forget_answers()
        # One for each shape of what is looked at: the weights are packed for it.
        self._runs: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    def _forget_answers(self) -> None:
        # What was asked last, and `_answer` to it; and what was seen in windows of the first look.
        self._question: _Question | None = None
        self._seen: tuple[tuple[Click, ...], dict[Window, Look]] = (), {}

    @property
    def plan(self) -> ExecutionPlan:
        """How the network is run."""
        return choose_plan(self.given.config, "predict", self._precision, self.device)

    @property
    def pyramid(self) -> Pyramid:
        """The image at all scales; made at first use, 0.2 s for 16 million pixels."""
        if self._pyramid is None:
            self._pyramid = Pyramid(torch.from_numpy(self.image.normalized).clamp(-0.2, 1.5))
        return self._pyramid

    @property
    def usual_extent(self) -> float | None:
        """The median of the larger sides of the objects, in pixels; None with fewer than three."""
        return usual_extent(each.extent for each in self.objects)

    def get_ready(self) -> None:
        """Do what is otherwise done at the first click: it takes a second or so."""
        row, column = (side / 2 for side in self.image.shape)
        first = first_windows(row, column, self.image.shape)
        following = Window(row, column, 1.0, NEXT_SIDE)
        for windows in (first, first[:1], [following]):  # torch gets ready for each shape
            self._looks(windows, ())

    def commit(self, found: Outline | Mask) -> None:
        """Take an object as it is: an outline, or a mask of the image's shape."""
        outline = found if isinstance(found, Outline) else Outline.of_mask(found)
        if outline is not None:
            self.objects = (*self.objects, outline)

    def set_likeness(self, likeness: Head | None, probability: NDArray[np.float32] | None) -> None:
        """Say how probable it is that pixels belong to objects like those that are finished.

        It counts as what `set_hint` says does, which takes its place.

        Parameters
        ----------
        likeness
            What says so; None if nothing is known.
        probability
            Shape of the image, in [0, 1]; held by reference.
        """
        self.likeness = likeness
        self._alike = None if probability is None else Hint(probability)
        self._forget_answers()

    def set_hint(self, probability: NDArray[np.float32] | None) -> None:
        """Say how probable it is that pixels belong to any object; None if it is not known.

        It counts at the first look alone. Later, clicks say more: with it, they corrected less.

        Parameters
        ----------
        probability
            Shape of the image, in [0, 1]; held by reference.
        """
        self._hint = None if probability is None else Hint(probability)
        self._forget_answers()

    def outline(
        self,
        clicks: Iterable[tuple[Sequence[float], bool] | Click],
        previous: Outline | None = None,
        box: Box | None = None,
        usual: float | None = None,
    ) -> Outline:
        """Outline the object that all positive and no negative clicks lie on.

        Parameters
        ----------
        clicks
            Each ``((row, column), positive)``; all that were made for this object, the earlier
            ones first.
        previous
            The answer to the earlier clicks, or the outline on a neighbouring plane.
        box
            A box around the object.
        usual
            The usual larger side of objects of the image, in pixels; None for that of `objects`.

        Returns
        -------
        Outline
            It has the pixel of each positive click and of no negative one.

        Raises
        ------
        InputError
            If a click lies outside of the image, or there is no positive click, no box and no
            earlier outline to begin from.
        """
        for _ in self.outlines(clicks, previous, box, usual):
            pass
        return self._answer

    def outlines(
        self,
        clicks: Iterable[tuple[Sequence[float], bool] | Click],
        previous: Outline | None = None,
        box: Box | None = None,
        usual: float | None = None,
        *,
        piecewise: bool = False,
    ) -> Generator[Outline | None, None, Outline]:
        """Outline as `outline` does, and say what is seen at first; go on where one left off.

        Parameters
        ----------
        clicks, previous, box, usual
            As for `outline`.
        piecewise
            Look at one window at a time, the likeliest first, to let go first what is more urgent.

        Yields
        ------
        Outline or None
            What the first look says, if another one follows; what single windows say before it, if
            piecewise, or to later clicks, as `Glimpse`. None after another piece of work.

        Returns
        -------
        Outline
            The answer.

        Raises
        ------
        InputError
            As for `outline`.
        """
        checked = checked_clicks(clicks, self.image.shape)
        question = checked, previous, box, usual or self.usual_extent
        if self._question != question:
            self._answer = yield from self._found(*question, piecewise)
            self._question = question
        return self._answer

    def _found(
        self,
        clicks: tuple[Click, ...],
        previous: Outline | None,
        box: Box | None,
        usual: float | None,
        piecewise: bool,
    ) -> Generator[Outline | None, None, Outline]:
        shape, positive = self.image.shape, [click for click in clicks if click.positive]

        def again(window: Window, earlier: DrawnMask) -> Look:
            return self._looks([window], clicks, earlier)[0]

        if previous is not None and previous.mask.any():
            earlier, start = DrawnMask(previous.mask, previous.box), previous.box
        elif box is not None:
            start = within(box, shape)
            earlier = DrawnMask(np.full(sides(start), 0.5), start)
        elif not positive:
            raise InputError("no click is on the object; make a positive click first")
        else:
            looks = yield from self._first_look(clicks, positive, usual, piecewise)
            found = read(looks[0], clicks, shape)
            if not looks[0].extent:
                return replace(found, begun=positive[0])
            yield found
            return (yield from looked_again(again, looks, clicks, shape, usual))
        window = window_around(with_clicks(start, positive), NEXT_SIDE)
        look = again(window, earlier)
        found = read(look, clicks, shape)
        if previous is None or positive[:1] != [previous.begun]:  # begun with no click
            return found
        if not is_explained(look, earlier, clicks):
            yield Glimpse(found.box, found.mask, found.overlap)
            looks = yield from self._first_look(clicks, positive, usual, piecewise)
            found = yield from chosen_anew(again, look, earlier, looks, clicks, shape)
        return replace(found, begun=previous.begun)

    def follow(self, previous: Outline) -> Outline:
        """Outline the object whose outline on a neighbouring plane is known.

        It is clicked on in the middle of that outline, and looked at in the same window. Only if
        what comes out has little in common with the outline, the outline itself is the prompt: with
        it, the network finds an object even where it has ended. Nothing is there if what comes out
        is another thing in a wider window: of noise, the network makes something of one size in
        the window.

        Parameters
        ----------
        previous
            The outline on the neighbouring plane.

        Returns
        -------
        Outline
            Its expected overlap is low where the object has ended.
        """
        middle = Click(*previous.middle)
        [look] = self._looks([window_around(previous.box)], [middle])
        found = read(look, [middle], self.image.shape)
        if found.overlap < _LEAST_OVERLAP or found.shares(previous) >= _LEAST_SHARED:
            return found
        wide = replace(window_around(previous.box), zoom=_WIDE * look.window.zoom)
        [again] = self._looks([wide], [middle])
        if read(again, [middle], self.image.shape).shares(found) < _STEADY:
            return replace(found, overlap=0.0)
        return self.outline((), previous)

    # ------------------------------------------------------------------ windows

    def _first_look(
        self,
        clicks: tuple[Click, ...],
        positive: Sequence[Click],
        usual: float | None,
        piecewise: bool,
    ) -> Generator[Glimpse | None, None, list[Look]]:
        """Look at the usual scale, or at several; the answer that is surest comes first."""
        row, column, apart = middle_of(positive)
        if usual is not None and apart < usual:
            known = Window(row, column, min(EXTENT / usual, LARGEST_ZOOM), FIRST_SIDE)
            [look] = self._first_looks([known], clicks)
            if is_usual(look, self.image.shape, usual):
                return [look]
            yield glimpse(look, clicks, self.image.shape) if piecewise else None
        windows = first_windows(row, column, self.image.shape, apart)
        for piece in likeliest_first(windows)[:-1] if piecewise else ():
            yield glimpse(self._first_looks([piece], clicks)[0], clicks, self.image.shape)
        looks = self._first_looks(windows, clicks)
        found = surest(looks, usual)
        while found is looks[-1] and (window := wider(found, self.image.shape)) is not None:
            yield None
            looks += self._first_looks([window], clicks)
            found = looks[-1] if looks[-1].extent else found
        return [found, *(look for look in looks if look is not found)]

    def _first_looks(self, windows: Sequence[Window], clicks: tuple[Click, ...]) -> list[Look]:
        """Look at windows, each of them once as long as the clicks are the same."""
        if self._seen[0] != clicks:
            self._seen = clicks, {}
        seen = self._seen[1]
        new = [window for window in windows if window not in seen]
        # One by one unless all are new: torch is not ready for other numbers of them.
        for group in [new] if len(new) == len(windows) else [[window] for window in new]:
            seen.update(zip(group, self._looks(group, clicks), strict=True))
        return [seen[window] for window in windows]

    def _looks(
        self,
        windows: Sequence[Window],
        clicks: Sequence[Click],
        earlier: DrawnMask | None = None,
    ) -> list[Look]:
        hint = (self._hint or self._alike) if earlier is None else None
        inputs = [told_of(self.pyramid, hint, window, clicks, earlier) for window in windows]
        batch = torch.stack(inputs)
        if batch.shape not in self._runs:
            self._runs[batch.shape] = self.plan.for_prediction(self.network)
        with threads_at_most(self._threads):
            answers = self._runs[batch.shape](batch)[:, 1].numpy()
        prompts = batch[:, 3:6].numpy()
        return [
            judge(window, answer, prompt)
            for window, answer, prompt in zip(windows, answers, prompts, strict=True)
        ]
