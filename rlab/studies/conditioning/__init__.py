"""Preprocessing, initialisation and normalisation: items 081-090."""
