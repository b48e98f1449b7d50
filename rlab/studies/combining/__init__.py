"""Dropout, early stopping, ensembles, several tasks, transfer: items 129-151."""
