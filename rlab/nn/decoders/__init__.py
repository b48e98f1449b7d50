"""Decoders: codes to data, each the counterpart of an encoder."""
