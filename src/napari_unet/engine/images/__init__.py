"""Image files of any axes: what they hold, read plane by plane, and results beside them."""
