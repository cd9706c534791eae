"""Models: a descriptor and a fitting net, and what is derived from them (specification/model.md)."""
