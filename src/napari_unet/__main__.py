"""``python -m napari_unet``: the command line."""

from napari_unet.cli import main

if __name__ == "__main__":
    main()
