"""The life of a run: folder, lock, provenance, checkpoint, metrics, loop, report. Knows no algorithm."""
