"""Motion as others have it: face curves and their files, cues, meshes, streams; and who made a file."""
