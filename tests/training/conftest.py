"""`training/` is no package of the wheel; its tests find it here, and a pool of scenes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Six scenes of 96 pixels on disk."""
    import pool

    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_PER_FILE", 6)
        pool.fill(folder, 6, 0, 96)
    return folder
