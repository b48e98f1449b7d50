"""Parts of detectors: boxes and their overlap, anchors, non-maximum suppression, region pooling, feature pyramids."""
