"""Pictures, frames and sound <-> files: `picture`, `read`, `write`."""
