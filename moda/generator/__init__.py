"""The motion generator: speech features and a source's motion in, Motion out; it knows no files."""
