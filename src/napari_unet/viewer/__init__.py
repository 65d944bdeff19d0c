"""The napari plugin: the only layer that imports napari or Qt."""

import os

# torch's threads spin while they wait for each other, long enough to keep the window from the core
# that it needs, and that they wait for. A short spin costs a little when nothing else runs, and
# starts learning twice as fast when something does; figures in docs/benchmarks.md. It is read when
# torch is loaded, which comes later; what the user chose stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
