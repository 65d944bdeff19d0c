"""Values out of a table that a stranger wrote: each of the kind that is expected, or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from reprlib import repr as shortened
from typing import Any

from napari_unet.ops.errors import InputError

# No axis of an image is longer, and no list of a description has more entries than this.
_LARGEST = 2**20


def table(value: Any, what: str) -> Mapping[str, Any]:
    """Return a table; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise unexpected(what, value, "a table")
    return value


def items(value: Any, what: str) -> Sequence[Any]:
    """Return a list; None is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise unexpected(what, value, "a list")
    return value


def text(value: Any, what: str) -> str:
    """Return text; None is empty, a number is written out."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise unexpected(what, value, "text")
    return str(value)[:_LARGEST]


def whole(value: Any, what: str, low: int = 0, high: int = _LARGEST) -> int:
    """Return a whole number from `low` to `high`."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise unexpected(what, value, f"a whole number from {low} to {high}")
    return int(value)


def number(value: Any, what: str) -> float:
    """Return a finite number."""
    if type(value) is str:  # YAML 1.1 reads 1e-6, without a point, as text
        try:
            value = float(value)
        except ValueError as error:
            raise unexpected(what, value, "a number") from error
    if type(value) not in (int, float) or not abs(value) <= 1e300 or not math.isfinite(value):
        raise unexpected(what, value, "a finite number")
    return float(value)


def source(value: Any, what: str) -> str:
    """Return the name of a file of the package, which may be given as a table with a source."""
    if isinstance(value, Mapping):
        value = value.get("source")
    name = text(value, what)
    if "://" in name:
        raise InputError(
            f"{what} lies on the internet at {name[:80]}, and nothing is downloaded; choose the "
            "package that holds the file"
        )
    return name


def unexpected(what: str, value: Any, wanted: str) -> InputError:
    """Return the error for a value of another kind."""
    return InputError(
        f"{what} of the package is {shortened(value)} instead of {wanted}; choose another package"
    )
