"""Models: a descriptor and a fitting net, and what is derived from them (spec model.md)."""
