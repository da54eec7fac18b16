"""Containers, pictures and sound <-> files: `files` (atomic writes), `container`, `picture`, `read`, `write`."""
