"""The napari plugin: the only layer that imports napari or Qt."""

import os

# torch's threads spin while they wait for each other, long enough to keep the window from the core
# that it needs, and that they wait for. A short spin costs a little when nothing else runs, and
# starts learning twice as fast when something does; figures in docs/benchmarks.md. It is read when
# torch is loaded, which comes later; what the user chose stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# torch compiles each operation for each size of tile and patch, and oneDNN keeps 1024, about
# 250 KiB each; in a window, where sizes change with the view, they came to 250 MiB. A round of
# learning and a prediction use some 400. It is read at the first operation.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
