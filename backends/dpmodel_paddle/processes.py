"""Training by several processes, started by ``python -m paddle.distributed.launch``."""

import os

from dpmodel.backend import Alone
from dpmodel.backend import Processes as Protocol
from dpmodel.xp import Array
from dpmodel_paddle.quiet import paddle


class Processes:
    """The processes of ``paddle.distributed``."""

    def __init__(self) -> None:
        paddle.distributed.init_parallel_env()
        self.rank, self.size = paddle.distributed.get_rank(), paddle.distributed.get_world_size()

    def sum(self, x: Array) -> Array:
        total = x.detach().clone()
        paddle.distributed.all_reduce(total)
        return total


def processes() -> Protocol:
    """The processes that Paddle's launcher has started, from the environment."""
    return Processes() if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 else Alone()
