"""Recipes of this room; torch is imported when one is built."""
