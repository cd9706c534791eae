"""Structures, their neighbors and the graphs that models are given."""
