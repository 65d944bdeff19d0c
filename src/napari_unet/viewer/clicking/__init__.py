"""Click on objects to outline them: the layers, the session, and what the mouse does."""
