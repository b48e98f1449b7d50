"""Data sets: their files, tensors, batches, preprocessing and augmentation. Knows no model.

``sources`` lists the sets and ``files`` finds, checks and downloads them; both import no torch. ``dataset`` makes
tensors with splits, ``batches`` draws from them, ``preprocess`` is fitted to a training split, ``augment`` changes
batches of images.
"""
