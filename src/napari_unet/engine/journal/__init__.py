"""The journal of a project: every stroke, object, accepted prediction and round of learning.

Each change is appended at once, with what was before it, and a checksum. `Project` is the way in.
"""

from napari_unet.engine.journal.changes import (
    AcceptanceChanged,
    Accepted,
    BoxChange,
    Change,
    Entry,
    LayerAdded,
    ModelChanged,
    ModelFile,
    Painted,
    SettingsChanged,
    ViewChanged,
)
from napari_unet.engine.journal.fingerprint import fingerprint
from napari_unet.engine.journal.folder import FOLDER, Header, find_projects, new_folder
from napari_unet.engine.journal.format import Damage, JournalError
from napari_unet.engine.journal.project import Project
from napari_unet.engine.journal.state import ProjectState, diff_box
from napari_unet.engine.journal.writer import WriterStatus

__all__ = [
    "FOLDER",
    "AcceptanceChanged",
    "Accepted",
    "BoxChange",
    "Change",
    "Damage",
    "Entry",
    "Header",
    "JournalError",
    "LayerAdded",
    "ModelChanged",
    "ModelFile",
    "Painted",
    "Project",
    "ProjectState",
    "SettingsChanged",
    "ViewChanged",
    "WriterStatus",
    "diff_box",
    "find_projects",
    "fingerprint",
    "new_folder",
]
