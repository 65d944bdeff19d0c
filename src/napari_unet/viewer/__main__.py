"""``python -m napari_unet.viewer [IMAGE]``: napari with the docks open."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from napari_unet.ops.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Open the window; return the exit code, 2 for an image that cannot be read.

    Parameters
    ----------
    arguments
        Of the command line; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m napari_unet.viewer",
        description="Open napari with the U-Net docks.",
    )
    parser.add_argument(
        "image",
        nargs="?",
        type=Path,
        help="image, stack or OME-Zarr; without it, a sample is opened",
    )
    path = parser.parse_args(arguments).image
    from napari_unet.viewer.app import launch  # napari takes seconds to import; --help need not

    try:
        launch(path)
    except InputError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
