"""Agents that are sequence models of trajectories: what another run has played, learned from without an environment."""
