"""The napari plugin: the only layer that imports napari or Qt."""
