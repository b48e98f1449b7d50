"""Recurrent nets, attention, dialogue and word vectors: items 208-252."""
