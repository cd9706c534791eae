"""Model compression: embedding networks as tables (spec compression.md)."""
