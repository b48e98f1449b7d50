"""Smaller models from trained ones: quantisation, pruning, distillation, export."""
