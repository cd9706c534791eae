"""Sections of deepmd-kit's input file beside the model."""
