"""MToV, MoDiTalker's motion to video: clips as three planes, drawn by diffusion (arXiv 2403.19144, 2302.07685)."""
