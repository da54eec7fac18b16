"""Lips drawn on footage: every frame is the picture, and only what is about the mouth moves."""
