"""Tests run side by side: what they and their processes compute has one thread, unless a test says otherwise."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything of it is imported
