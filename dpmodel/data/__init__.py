"""Structures, their neighbours and the graphs that models are given."""
