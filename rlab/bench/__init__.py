"""Side-by-side benchmarks: this lab and a peer on the same machine, in turn."""
