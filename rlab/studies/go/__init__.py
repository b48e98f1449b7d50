"""Go: items 275 to 277."""
