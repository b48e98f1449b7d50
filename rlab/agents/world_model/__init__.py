"""An agent that learns a model of its world, and its policy in dreams of it (Ha & Schmidhuber 2018)."""
