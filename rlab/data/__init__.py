"""Data sets: their files, tensors, batches, preprocessing and augmentation. Knows no model.

``catalog`` lists the sets, ``files`` finds, checks and downloads them, and ``own`` reads a user's pictures and tables;
they import no torch. ``datasets`` makes tensors with splits, ``batches`` draws from them, ``preprocess`` is fitted to a
training split, ``augment`` changes batches of images.
"""
