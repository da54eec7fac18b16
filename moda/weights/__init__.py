"""Weights: where they lie, how they get there, and strict loading."""
