"""AToM, MoDiTalker's audio to motion: landmarks by diffusion (arXiv 2403.19144)."""
