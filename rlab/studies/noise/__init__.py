"""Augmentation, and noise on inputs, weights and labels: items 106-128."""
