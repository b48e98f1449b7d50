"""Autoencoders and generative models: items 152-166 and 253-262."""
