#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=32 --cpus-per-task=1 --time=24:00:00
# One process a core: single-threaded processes are faster than threads.
export OMP_NUM_THREADS=1
srun --mpi=pmi2 dpmodel lammps -in in.water -log water.log
