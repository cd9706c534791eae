"""The DPA-2 descriptor (Zhang et al., npj Comput Mater 10, 293, 2024; specification/descriptor.md)."""
