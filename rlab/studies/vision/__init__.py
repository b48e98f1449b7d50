"""Convolution, pooling and networks of images: items 167-205, 295-301."""
