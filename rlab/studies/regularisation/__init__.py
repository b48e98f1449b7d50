"""Over-fitting, penalties on weights and activations: items 091-105."""
