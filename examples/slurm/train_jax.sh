#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=4 --gpus-per-task=1 --cpus-per-task=8 --time=24:00:00
# A process a GPU.  JAX finds the others through Slurm's variables; programs compiled once serve later runs.
export JAX_COMPILATION_CACHE_DIR="$HOME/.cache/jax"
srun dpmodel train input.json --backend jax
