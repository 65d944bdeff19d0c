"""Values from a stranger's JSON, each looked at before it is used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from napari_unet.engine.journal.format import LONGEST_SIDE, MOST_AXES, JournalError

# Numbers of changes and bytes of files stay below it; JSON's are exact up to it everywhere.
_LARGEST: Final = 2**53
# Entries of a list of numbers, and of a table of settings.
_MOST_NUMBERS: Final = 1_000_000
_MOST_SETTINGS: Final = 1000


class Checked:
    """A JSON object whose values are what they should be, or an error says which is not.

    Parameters
    ----------
    values
        The object.

    Raises
    ------
    JournalError
        By every method, if a value is missing or of another kind.
    """

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise JournalError("there is no JSON object where one should be")
        self._values: dict[str, Any] = values

    def get(self, name: str) -> Any:
        """Return a value as it is; None if it is missing."""
        return self._values.get(name)

    def whole(self, name: str, least: int, default: int | None = None) -> int:
        """Return a whole number."""
        return _whole(self._values.get(name, default), least, name)

    def text(self, name: str, longest: int, default: str | None = None) -> str:
        """Return a text."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or len(value) > longest:
            raise JournalError(f"{name!r} is no text, or too long")
        return value

    def choice(self, name: str, choices: Collection[str]) -> str:
        """Return one of some texts."""
        value = self._values.get(name)
        if not isinstance(value, str) or value not in choices:
            raise JournalError(f"{name!r} is none of its values")
        return value

    def wholes(self, name: str) -> tuple[int, ...]:
        """Return whole numbers from 0 on."""
        values = self._values.get(name)
        if not isinstance(values, list) or len(values) > _MOST_NUMBERS:
            raise JournalError(f"{name!r} is no list, or too long")
        return tuple(_whole(value, 0, name) for value in values)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array."""
        shape = self.wholes(name)
        if not 1 <= len(shape) <= MOST_AXES or not all(1 <= side < LONGEST_SIDE for side in shape):
            raise JournalError(f"{name!r} is no shape of an array")
        return shape

    def objects(self, name: str, most: int) -> list[Checked]:
        """Return a list of JSON objects."""
        values = self._values.get(name)
        if not isinstance(values, list) or len(values) > most:
            raise JournalError(f"{name!r} is no list, or too long")
        return [Checked(value) for value in values]

    def optional(self, name: str) -> Checked | None:
        """Return a JSON object, or None if there is null."""
        value = self._values.get(name)
        return None if value is None else Checked(value)

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a small JSON object as it is."""
        value = self._values.get(name)
        if not isinstance(value, dict) or len(value) > _MOST_SETTINGS:
            raise JournalError(f"{name!r} is no table, or too long")
        return value

    def table_of_texts(self, name: str, most: int) -> dict[str, str]:
        """Return a JSON object of texts."""
        value = self._values.get(name)
        if not isinstance(value, dict) or len(value) > most:
            raise JournalError(f"{name!r} is no table, or too long")
        if not all(isinstance(each, str) for each in value.values()):
            raise JournalError(f"{name!r} holds something else than texts")
        return value

    def items(self, name: str, most: int) -> dict[str, Checked]:
        """Return a JSON object of JSON objects."""
        value = self._values.get(name)
        if not isinstance(value, dict) or len(value) > most:
            raise JournalError(f"{name!r} is no table, or too long")
        return {key: Checked(each) for key, each in value.items()}


def _whole(value: Any, least: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _LARGEST:
        raise JournalError(f"{name!r} is no whole number, or out of bounds")
    return value
