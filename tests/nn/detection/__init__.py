"""Parts of detectors."""
