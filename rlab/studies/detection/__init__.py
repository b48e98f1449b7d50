"""Detection and segmentation: regions, anchors, hard negatives, skip connections, and the watershed."""
