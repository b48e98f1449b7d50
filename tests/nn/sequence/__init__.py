"""Sequence encoders and what is built of them."""
