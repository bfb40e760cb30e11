"""Measure how fast the machine multiplies large matrices, which limits the speed of a network."""

import time

import torch

from tasks.embedding.embedder import DTYPES, Plan
from tasks.machine.cores import num_cores, one_thread_each, spread

SIDE = 1024
TIMES = 50


def matmul_flops(plan: Plan) -> float:
    """Return the floating-point operations per second in the plan's precision on its device, the best of five rounds.

    On a CPU all cores multiply at the same time, each its own matrix.
    """
    matrix = torch.ones(SIDE, SIDE, dtype=DTYPES[plan.precision], device=plan.device)

    def multiply(_: int) -> None:
        torch.get_num_threads()  # the first call in a thread makes it compute on one core
        for _ in range(TIMES):
            matrix @ matrix

    workers = num_cores() if plan.device == "cpu" else 1
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        with one_thread_each():
            if plan.device == "cpu":
                list(spread(range(workers), multiply))
            else:
                multiply(0)
                torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return workers * TIMES * 2 * SIDE**3 / min(seconds)
