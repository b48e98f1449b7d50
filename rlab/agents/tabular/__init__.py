"""Agents whose values are a table: learning, planning, bandits."""
