"""LivePortrait's renderer (arXiv 2407.03168): 21 learned keypoints move a volume of features.

Modules: appearance (F), extractor (M), warping (W), decoder (G), stitching (S); tiles and conv: the convolutions
they are made of; reader: their weights, strictly; keypoints and crop: the geometry; renderer: all of it together.
"""
