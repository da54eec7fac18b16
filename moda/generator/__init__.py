"""The motion generator: speech features and a source's motion in, Motion out. It knows no files and no pictures."""
