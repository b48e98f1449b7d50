"""Supervised jobs: what a model learns from data, driven by the same loop as every agent."""
