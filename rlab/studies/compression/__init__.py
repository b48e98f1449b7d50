"""Smaller networks: bits of a weight, pruning, units that matter."""
