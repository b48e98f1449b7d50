"""Policy gradients of our own."""
