"""Agents: what acts and learns in environments. Import `rlab.agents.recipes` to register them; it costs no torch."""
