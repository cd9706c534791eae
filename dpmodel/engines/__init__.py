"""Simulation engines that run these models: ASE, LAMMPS, i-PI, OpenMM."""
