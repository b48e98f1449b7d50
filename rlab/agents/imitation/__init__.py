"""Agents that learn from another agent: from its network (distillation), or from what it has played (GAIL)."""
