"""What is done on an image is kept in a project: found again, gone on with, taken back."""

from napari_unet.viewer.project.session import ProjectSession, project_for

__all__ = ["ProjectSession", "project_for"]
