"""Training by several processes, started by ``torchrun``."""

import os

import torch
from torch import distributed

from dpmodel.backend import Alone
from dpmodel.backend import Processes as Protocol


class Processes:
    """The processes of ``torch.distributed``; sums by gloo on CPUs, by NCCL on GPUs."""

    def __init__(self) -> None:
        distributed.init_process_group()
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        total = x.detach().clone()
        distributed.all_reduce(total)
        return total


def processes() -> Protocol:
    """The processes that torchrun has started, from the environment."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Alone()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return Processes()
