"""Gradient descent, its relatives and its surfaces: items 063-080."""
