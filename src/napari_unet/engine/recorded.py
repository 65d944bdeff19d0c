"""A function on a graphics card, recorded once and replayed.

Of a narrow network, or of one small image, a graphics card is done sooner than Python has asked for
all its operations. A recording (CUDA graph) asks for all of them at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

# Each recording keeps the memory of its intermediate results.
_MOST_SHAPES = 3
# Calls before a recording: cuDNN looks for its fastest algorithms meanwhile, and recording takes as
# long as a call, which does not pay where there are only a few.
_FIRST_CALLS = 2


class Recorded:
    """Calls a function of one tensor by a recording for each shape.

    Parameters
    ----------
    function
        From a tensor on a graphics card to another on the same; it does the same for all tensors
        of one shape, and only there.

    Notes
    -----
    The answer is that of `function`, operation by operation. Shapes beyond the first three, and
    shapes for which the memory does not suffice twice, are not recorded.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._recordings: dict[tuple[int, ...], _Recording | None] = {}
        self._calls: Counter[tuple[int, ...]] = Counter()
        # torch records one function at a time.
        self._lock = threading.Lock()

    def __call__(self, batch: Tensor) -> Tensor:
        """Return what the function returns."""
        shape = tuple(batch.shape)
        with self._lock:
            self._calls[shape] += 1
            is_due = self._calls[shape] > _FIRST_CALLS and shape not in self._recordings
            if is_due and len(self._recordings) < _MOST_SHAPES:
                self._recordings[shape] = self._record(batch)
            recording = self._recordings.get(shape)
            return self._function(batch) if recording is None else recording.replay(batch)

    def _record(self, batch: Tensor) -> _Recording | None:
        try:
            return _Recording(self._function, batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None


class _Recording:
    def __init__(self, function: Callable[[Tensor], Tensor], batch: Tensor) -> None:
        self._input = batch.clone()
        # As torch asks for it: a run on another stream than the usual comes before a recording.
        aside = torch.cuda.Stream(batch.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(batch.device))
        with torch.cuda.stream(aside):
            function(self._input)
        torch.cuda.current_stream(batch.device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may use the card meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(self._input)

    def replay(self, batch: Tensor) -> Tensor:
        self._input.copy_(batch, non_blocking=True)
        self._graph.replay()
        return self._output.clone()  # the next replay writes into it
