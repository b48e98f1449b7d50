"""Agents: what acts and learns in environments. Import `agents.recipes` to register them; it costs no torch."""
