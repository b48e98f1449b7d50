"""Activation functions and vanishing gradients: items 046-062."""
