"""Tasks that find objects in pictures: R-CNN, Fast and Faster R-CNN, SSD, and segmentation into instances."""
