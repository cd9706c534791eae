#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=4 --cpus-per-task=32 --time=24:00:00
# Paddle's launcher on every node; the first one is where they meet.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c "python -m paddle.distributed.launch --master $head:29500 --nnodes $SLURM_JOB_NUM_NODES \
    --rank \$SLURM_NODEID --nproc_per_node 4 \$(which dpmodel) train input.json --backend paddle"
