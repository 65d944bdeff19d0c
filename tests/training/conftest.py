"""`training/` is no package of the wheel; its tests find it here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
