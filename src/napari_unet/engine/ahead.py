"""The next step's patches are drawn while the network learns from this step's.

They are drawn one step ahead and no more, and always by the same thread, so that a training draws
the same patches as it would without: the same seed gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Ahead(Generic[T]):
    """Makes the things of a row one by one, the next one while the last one is in use.

    Use it in a ``with`` statement, or `close` it: it has a thread.

    Parameters
    ----------
    make
        Makes the thing of a number. It may change nothing but `generator`, and nothing that it
        reads may change between `take` and `rewind`.
    generator
        Where `make` takes its random numbers from.
    """

    def __init__(self, make: Callable[[int], T], generator: torch.Generator) -> None:
        self._make, self._generator = make, generator
        self._thread = thread_alone("ahead")
        self._next: Future[T] | None = None
        self._number = -1
        self._before: torch.Tensor | None = None

    def take(self, number: int) -> T:
        """Return the thing of a number, and begin with the one after it.

        Whatever `make` raises is raised here, and the random numbers are as they were before.
        """
        if self._next is None or self._number != number:
            self.rewind()
            self._begin(number)
        assert self._next is not None
        try:
            made = self._next.result()
        except BaseException:
            self.rewind()
            raise
        self._begin(number + 1)
        return made

    def rewind(self) -> None:
        """Forget what was made ahead, and take back its random numbers.

        What was taken stays as it is. From here to the next `take` nothing is made, so whatever
        `make` reads may be changed, and the generator's state may be saved.
        """
        if self._next is None:
            return
        self._next.cancel()
        if not self._next.cancelled():
            self._next.exception()  # waits
        assert self._before is not None
        self._generator.set_state(self._before)
        self._next = None

    def close(self) -> None:
        """Rewind, and end the thread."""
        self.rewind()
        self._thread.shutdown()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _begin(self, number: int) -> None:
        self._before = self._generator.get_state()
        self._number = number
        self._next = self._thread.submit(self._make, number)


def thread_alone(name: str) -> ThreadPoolExecutor:
    """Return a thread on which torch computes alone: the other cores are left to others.

    For work of many small pieces this is also the faster way: threads that share them wait for
    each other most of the time, on a busy machine for long.
    """
    threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(1, thread_name_prefix=name)
    executor.submit(_compute_alone).result()
    # What was said there holds for that thread, and for those that begin later; not for these.
    torch.set_num_threads(threads)
    return executor


def _compute_alone() -> None:
    # The first question makes torch set up the thread, which would undo what is said before it.
    torch.get_num_threads()
    torch.set_num_threads(1)
