"""Algorithms of stable-baselines3 as Learners."""
