"""YAML from strangers: plain values alone, no tags, no references, bounded in size and depth."""

from __future__ import annotations

from typing import Any, Final

from napari_unet.model.zoo.extra import needed
from napari_unet.ops.errors import InputError

#: Bytes of a package's description; the longest of the model zoo has some 30 kB.
LONGEST_TEXT: Final = 2**19
_DEEPEST = 40
_MOST_TOKENS = 50_000


def parse_yaml(text: bytes, name: str) -> dict[str, Any]:
    """Read a table from YAML.

    Parameters
    ----------
    text
        UTF-8.
    name
        Of the file, for errors.

    Returns
    -------
    dict
        Of text, numbers, booleans, None, lists and tables.

    Raises
    ------
    InputError
        If it is no YAML table of plain values, is too long or nested too deeply.
    """
    yaml = needed("yaml")
    if len(text) > LONGEST_TEXT:
        raise InputError(f"{name} has more than {LONGEST_TEXT} bytes; choose another package")
    try:
        decoded = text.decode("utf-8-sig")
        _check_events(yaml, decoded, name)
        values = yaml.load(decoded, Loader=_loader(yaml))
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{name} is not readable YAML; choose another copy") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{name} is not a table of names and values; choose another package")
    return values


def _check_events(yaml: Any, text: str, name: str) -> None:
    """Look at the text's structure before anything is made of it."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_loader(yaml))):
        kind = type(event).__name__
        if getattr(event, "anchor", None):
            raise _refused(name, "references, which can blow it up")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refused(name, "tags, which could name code")
        depth += kind in ("MappingStartEvent", "SequenceStartEvent")
        depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
        if depth > _DEEPEST or number > _MOST_TOKENS:
            raise _refused(name, "too many values or too deep a nesting")


def _loader(yaml: Any) -> Any:
    """Return the loader in C where there is one: ten times as fast, and as safe."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _refused(name: str, what: str) -> InputError:
    return InputError(f"{name} has {what}; choose another package")
