"""What was measured on this machine, kept in the user's cache folder for the next time.

One small JSON file for each measurement: what it was measured for (versions, processor, threads,
network) and what came out. A file that is damaged, of another machine or of other versions is as
good as none, and so is a folder that cannot be written: then it is measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

#: "off", or a folder to keep measurements in, in place of the user's cache folder.
VARIABLE: Final = "NAPARI_UNET_CACHE"

_FORMAT = 1
# A plan takes under 2 kB; whatever is larger is none.
_LARGEST_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class CachedMeasurement:
    """A measurement that was found.

    Attributes
    ----------
    path
        Its file.
    key
        What it was measured for.
    value
        What came out.
    """

    path: Path
    key: dict[str, Any]
    value: dict[str, Any]


def folder() -> Path | None:
    """Return the folder of the measurements, which need not exist; None if the user wants none."""
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen.lower() in ("off", "0", "no"):
        return None
    if chosen:
        return Path(chosen) / "plans"
    return user_cache_path("napari-unet", appauthor=False) / "plans"


def load(key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was measured for exactly this key, or None.

    Parameters
    ----------
    key
        Everything that the measurement depends on, fit for JSON.
    """
    place = _path(key)
    if place is None or (found := _read(place)) is None:
        return None
    return found.value if found.key == json.loads(json.dumps(dict(key))) else None


def store(key: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Keep a measurement, and say whether that was possible.

    The file is written under another name and moved, so that whoever reads or writes at the same
    time finds the old one, or a whole new one.
    """
    place = _path(key)
    if place is None:
        return False
    text = json.dumps({"format": _FORMAT, "key": dict(key), "value": dict(value)}, indent=1)
    written = ""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(dir=place.parent, prefix=".", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(written, place)
    except OSError:  # no room, no right to write: it is measured again next time
        if written:
            with suppress(OSError):
                os.unlink(written)
        return False
    return True


def entries() -> list[CachedMeasurement]:
    """Return all measurements that can be read, in the order of their files' names."""
    place = folder()
    if place is None:
        return []
    try:
        paths = sorted(place.glob("*.json"))
    except OSError:
        return []
    return [found for path in paths if (found := _read(path)) is not None]


def clear() -> int:
    """Delete all measurements, and return how many there were."""
    place, deleted = folder(), 0
    if place is None:
        return 0
    for path in place.glob("*.json"):
        with suppress(OSError):
            path.unlink()
            deleted += 1
    return deleted


def _path(key: Mapping[str, Any]) -> Path | None:
    place = folder()
    if place is None:
        return None
    text = json.dumps(dict(key), sort_keys=True)
    return place / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _read(path: Path) -> CachedMeasurement | None:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    key, value = content.get("key"), content.get("value")
    if not isinstance(key, dict) or not isinstance(value, dict):
        return None
    return CachedMeasurement(path, key, value)
