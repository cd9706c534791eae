"""Edits of a finished model: types, output bias, compression; written only after they were tried."""
