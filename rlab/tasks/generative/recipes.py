"""Recipes of this room; torch is imported when one is built."""

from rlab.tasks.generative import gan_recipes as gan_recipes  # registers itself
