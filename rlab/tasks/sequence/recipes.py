"""Recipes of this room; torch is imported when one is built."""

from rlab.tasks.sequence import word_recipes as word_recipes
