"""Doors to the outside: the command line and simulation engines."""
