"""Agents: item 012, and items from 263 on."""
