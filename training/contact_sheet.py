"""Draw a sheet of procedural images, each beside its regions in colours.

Usage: python training/contact_sheet.py SHEET.png [--seed 0] [--kind KIND] [--rows 6] [--columns 4]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from imageio.v3 import imwrite
from numpy.typing import NDArray
from procedural import KINDS, Drawing, draw

_COLOURS = np.frombuffer(
    bytes.fromhex("000000 282830 e65a3c 50aae6 6ec85a f0c83c be6edc 5adcd2 f08cbe a0825a"), np.uint8
).reshape(-1, 3)


def pair(drawing: Drawing) -> NDArray[np.uint8]:
    """Image and regions side by side; (Y, 2X, 3)."""
    image = drawing.image
    image = image[..., None].repeat(3, axis=2) if image.ndim == 2 else image
    low, high = np.percentile(image, (0.3, 99.7))
    shown = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return np.concatenate([shown, _COLOURS[drawing.regions % len(_COLOURS)]], axis=1)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--side", type=int, default=192)
    arguments = parser.parse_args()
    first, columns = arguments.seed, arguments.columns
    rows = []
    for row in range(arguments.rows):
        seeds = range(first + row * columns, first + (row + 1) * columns)
        rows.append(np.hstack([pair(draw(s, arguments.side, arguments.kind)) for s in seeds]))
    imwrite(arguments.sheet, np.vstack(rows))


if __name__ == "__main__":
    main()
